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

// Check returns an error of the form "what is wrong; what to do" if the program cannot be run on
// this host. For example, others than root may write it, or its user is missing or is root.
func Check(root string, site policy.Notify) error {
	_, err := check(root, site)
	return err
}

func check(root string, site policy.Notify) (account, error) {
	const at = "data.site.notify.program: "
	fail := func(defect, cure string) (account, error) {
		return account{}, &problem.Error{What: defect, Cure: cure}
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
	maxOutput = 64 << 10 // bytes that the program may print; then its output is closed
	maxShown  = 300      // bytes of the output in the log
	waitDelay = 2 * time.Second
)

// limits is shell code that sets limits that Go cannot set for a child. It also makes the kernel
// kill the program first when memory is short, because the program is in the control group of the
// agent or the gate.
const limits = `ulimit -c 0 2>/dev/null; ulimit -d 262144 2>/dev/null; echo 1000 2>/dev/null >/proc/self/oom_score_adj; `

// fewProcesses is shell code that limits the processes of the program's user. The agent's unit has
// room for 256 threads, and a Go process ends if it cannot make one. The name of the option differs
// between shells.
const fewProcesses = `ulimit -u 128 2>/dev/null || ulimit -p 128 2>/dev/null; `

var (
	errTimeout = errors.New("it did not end in time, and was killed")
	errOutput  = errors.New("it printed too much")
)

// runProgram runs the program with a line on its standard input. It returns an error unless the
// program exits with 0 within the limit. The program runs in its own session with only its user's
// rights, and cannot get others. When it ends, the rest of its process group is killed.
func runProgram(ctx context.Context, file string, as account, line []byte, limit time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	onThread(func() {
		// The child inherits this. It cannot be undone, and the thread ends with f.
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
		// The thread lives until the child has ended, so the signal comes only if this process
		// dies.
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
			err = nil // it exited with 0, and one of its children kept the output open
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

// output stores the beginning of the program's output. If the output is too long, Write fails,
// which closes the pipe.
type output struct {
	head []byte
	n    int
}

func (o *output) Write(p []byte) (int, error) {
	if o.n += len(p); o.n > maxOutput {
		return 0, errOutput
	}
	o.head = append(o.head, p[:min(len(p), maxShown-len(o.head))]...)
	return len(p), nil
}

func (o *output) text() string { return printable(problem.OneLine(string(o.head)), maxShown) }

// killGroup kills the program's process group with the rights of the program's user. The units of
// agent and gate do not have root's right to do so.
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

// onThread runs f on a thread that ends with it, and that is not the first thread of the process.
// The kernel shows the rights of the first thread as those of the process.
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
