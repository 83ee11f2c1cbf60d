package hooktest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	daemonPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	leaveTime  = time.Second // for a child that is still exiting when the hook has ended
)

// program runs a hook as libvirt does.
type program struct {
	path  string
	env   []string
	bound time.Duration
}

func (p program) answer(c call) (result, error) {
	pipes, err := newPipes(c.closed)
	if err != nil {
		return result{}, err
	}
	defer pipes.close()
	cmd := exec.Command(p.path, c.args...)
	cmd.Env = append([]string{"LC_ALL=C", "PATH=" + daemonPath, "HOME=/root"}, p.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pipes.child[0], pipes.child[1], pipes.child[2]
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	for _, f := range pipes.child {
		_ = f.Close()
	}

	var out, errs output
	var readers, writer sync.WaitGroup
	var held [2]error
	readers.Go(func() { _, held[0] = io.Copy(&out, pipes.stdout) })
	readers.Go(func() { _, held[1] = io.Copy(&errs, pipes.stderr) })
	over := make(chan struct{})
	writer.Go(func() { c.stdin.feed(pipes.stdin, over) })

	exited := make(chan struct{})
	go func() {
		defer close(exited)
		waitExited(cmd.Process.Pid)
	}()
	var r result
	if r.late = !endsWithin(p.bound, exited); r.late {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited
	}
	// Until the process is waited for, the kernel does not reuse its ID for another session.
	left := session(cmd.Process.Pid)
	for began := time.Now(); len(left) > 0 && time.Since(began) < leaveTime; left = session(cmd.Process.Pid) {
		time.Sleep(leaveTime / 100)
	}
	for _, l := range left {
		_ = syscall.Kill(l.pid, syscall.SIGKILL)
		r.leftovers = append(r.leftovers, fmt.Sprintf("the process %q", l.name))
	}
	deadline := time.Now().Add(leaveTime)
	_ = pipes.stdout.SetReadDeadline(deadline)
	_ = pipes.stderr.SetReadDeadline(deadline)
	readers.Wait()
	for i, name := range []string{"stdout", "stderr"} {
		if errors.Is(held[i], os.ErrDeadlineExceeded) {
			r.leftovers = append(r.leftovers, "something that holds "+name)
		}
	}
	if r.late {
		r.leftovers = nil // a process that was killed could not clean up
	}
	close(over)
	_ = pipes.stdin.SetWriteDeadline(time.Now())
	writer.Wait()

	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return result{}, err
	}
	r.code, r.stdout, r.stderr = cmd.ProcessState.ExitCode(), out.String(), errs.String()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		r.signal = status.Signal().String()
	}
	return r, nil
}

// pipes are the three pipes of one call: the hook's ends and libvirt's.
type pipes struct {
	child                 [3]*os.File
	stdin, stdout, stderr *os.File
}

func newPipes(c closed) (*pipes, error) {
	var p pipes
	var errs [4]error
	p.child[0], p.stdin, errs[0] = os.Pipe()
	p.stdout, p.child[1], errs[1] = os.Pipe()
	p.stderr, p.child[2], errs[2] = os.Pipe()
	switch c {
	case stdout:
		_ = p.stdout.Close()
	case stderr:
		_ = p.stderr.Close()
	case null:
		for i, f := range p.child {
			_ = f.Close()
			if p.child[i], errs[3] = os.OpenFile(os.DevNull, os.O_RDWR, 0); errs[3] != nil {
				break
			}
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		p.close()
		return nil, err
	}
	return &p, nil
}

func (p *pipes) close() {
	for _, f := range append(p.child[:], p.stdin, p.stdout, p.stderr) {
		_ = f.Close() // closing some of them a second time is harmless
	}
}

// waitExited returns once the child is dead, without reaping it.
func waitExited(pid int) {
	const (
		byPID   = 1
		exited  = 4
		keepIt  = 0x1000000
		nothing = 0
	)
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid), nothing, exited|keepIt, nothing, nothing)
		if errno != syscall.EINTR {
			return
		}
	}
}

type process struct {
	pid  int
	name string
}

// session returns the living processes of a session except its leader. A process group would not
// do: a shell may give its children groups of their own.
func session(leader int) []process {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = proc.Close() }()
	entries, _ := proc.Readdirnames(-1)
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil || pid == leader {
			continue
		}
		// Of hundreds of processes few are of the session, and opening a file of each takes long.
		if id, _, errno := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(pid), 0, 0); errno == syscall.ESRCH || errno == 0 && int(id) != leader {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry + "/stat")
		if err != nil {
			continue
		}
		// The fields are PID (NAME) STATE PPID PGRP SESSION, and the name may contain any
		// characters.
		begin, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
		if begin < 0 || end < begin {
			continue
		}
		fields := strings.Fields(string(stat[end+1:]))
		if len(fields) > 3 && fields[3] == strconv.Itoa(leader) && !slices.Contains([]string{"Z", "X"}, fields[0]) {
			found = append(found, process{pid, string(stat[begin+1 : end])})
		}
	}
	return found
}

// keepDescriptors keeps hooks from inheriting descriptors that the test's own parents left open:
// libvirt closes everything but the three.
var keepDescriptors = sync.OnceFunc(func() {
	const first = 3
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd >= first {
			syscall.CloseOnExec(fd)
		}
	}
})
