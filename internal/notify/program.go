package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// An account is the user that the program runs as.
type account struct{ uid, gid int }

// Check returns an error if the program cannot be run on this host: others than root may write it,
// or its user is missing or is root. It reads "what is wrong; what to do".
func Check(root string, site policy.Notify) error {
	_, err := check(root, site)
	return err
}

func check(root string, site policy.Notify) (account, error) {
	const at = "data.site.notify.program: "
	fail := func(what, cure string) (account, error) {
		return account{}, &problem.Error{What: what, Cure: cure}
	}
	if err := hostfile.Root(root).Judge(path.Dir(site.Program)); err != nil {
		return account{}, problem.Prefix(at, err, "correct this")
	}
	file := filepath.Join("/", root, site.Program)
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(at+file+" is missing", "put the program there, or remove data.site.notify")
	case err != nil:
		return fail(at+err.Error(), "run as root")
	case !info.Mode().IsRegular():
		return fail(at+file+" is not a regular file", "name the program itself, not a link to it")
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	switch {
	case owner != 0 && owner != os.Geteuid():
		return fail(fmt.Sprintf("%s%s is owned by uid %d, not by root", at, file, owner), "chown root "+file)
	case info.Mode().Perm()&0o022 != 0:
		return fail(at+file+" is writable by others than its owner", "chmod go-w "+file)
	case info.Mode().Perm()&0o111 == 0:
		return fail(at+file+" is not executable", "chmod 0755 "+file)
	}
	u, err := user.Lookup(site.User)
	if err != nil {
		return fail("data.site.notify.user: this host has no user "+site.User, "useradd --system "+site.User)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	switch {
	case uid == 0 || gid == 0:
		return fail("data.site.notify.user: "+site.User+" has rights of root's", "name a user of its own")
	case os.Geteuid() != 0 && os.Geteuid() != uid:
		return fail("data.site.notify.user: only root can run a program as "+site.User, "run as root")
	}
	return account{uid, gid}, nil
}

const (
	maxOutput = 64 << 10 // bytes that the program may print; a program that prints more is cut off
	maxShown  = 300      // bytes of it in the log
	waitDelay = 2 * time.Second
)

// limits sets the limits that Go cannot set for a child, and makes the program the first to go when
// memory is short: it is in the control group of the agent or the gate.
const limits = `ulimit -c 0 2>/dev/null; ulimit -d 262144 2>/dev/null; echo 1000 2>/dev/null >/proc/self/oom_score_adj; `

// fewProcesses bounds the processes of the program's user: the agent's unit has room for 256
// threads, and a process of Go's ends if it cannot make one. Shells disagree about the option's
// name.
const fewProcesses = `ulimit -u 128 2>/dev/null || ulimit -p 128 2>/dev/null; `

var (
	errTimeout = errors.New("it did not end in time, and was killed")
	errOutput  = errors.New("it printed too much")
)

// runProgram runs the program with a line on its standard input. It returns an error unless the
// program exits with 0 within the limit. The program has the rights of its user alone, no way to
// get others, and a session of its own. When it ends, the rest of its process group is killed.
func runProgram(ctx context.Context, file string, as account, line []byte, limit time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	onThread(func() {
		// The kernel passes this on to the child, and it cannot be taken back. The thread ends with f.
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return
		}
		var out output
		setup := limits
		if os.Geteuid() != as.uid {
			setup += fewProcesses
		}
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", setup+`exec "$0"`, file)
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
		cmd.Dir = "/"
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(line)), &out, &out
		// The thread lives until the child has ended, so the signal comes only if this process dies.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
		if os.Geteuid() != as.uid {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
		}
		cmd.Cancel = func() error { return killGroup(cmd.Process.Pid, as) }
		cmd.WaitDelay = waitDelay
		if err = cmd.Start(); err != nil {
			return
		}
		err = cmd.Wait()
		_ = killGroup(cmd.Process.Pid, as)
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil // it exited with 0, and a process that it left behind kept its output open
		}
		if out.n > maxOutput {
			err = errOutput
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errTimeout
		}
		if text := out.text(); err != nil && text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
	})
	return err
}

// output keeps the beginning of what the program prints. If it prints too much, its pipe is closed.
type output struct {
	kept []byte
	n    int
}

func (o *output) Write(p []byte) (int, error) {
	if o.n += len(p); o.n > maxOutput {
		return 0, errOutput
	}
	o.kept = append(o.kept, p[:min(len(p), maxShown-len(o.kept))]...)
	return len(p), nil
}

func (o *output) text() string { return shown(problem.OneLine(string(o.kept)), maxShown) }

// killGroup kills the program's process group. Root's right to do so is one that the units of agent
// and gate do not have, but the program's user has it.
func killGroup(pid int, as account) (err error) {
	if os.Geteuid() == as.uid {
		return syscall.Kill(-pid, syscall.SIGKILL)
	}
	onThread(func() {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(as.uid), uintptr(as.uid), uintptr(as.uid)); errno != 0 {
			err = errno
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_KILL, uintptr(-pid), uintptr(unix.SIGKILL), 0); errno != 0 {
			err = errno
		}
	})
	return err
}

// onThread runs f on a thread that ends with it, and that is not the process' first: the kernel
// shows the rights of that one as those of the process.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			onThread(f)
			return
		}
		f()
	}()
	<-done
}
