package testhost

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Daemon starts a process with the name of libvirtd, and writes its pid file on a host. The process
// ends with the tests. Without a daemon, a domain whose process is not visible may live in another PID namespace.
func Daemon(t testing.TB, root string) {
	t.Helper()
	pid, err := StartDaemon()
	if err != nil {
		t.Fatal(err)
	}
	Put(t, root, "run/libvirtd.pid", fmt.Sprintln(pid))
}

// inputs holds the daemon's standard input open until this process ends, with which the daemon
// ends.
var inputs []io.Closer

// StartDaemon starts a process with the name of libvirt's daemon, once, and returns its PID. It
// ends with this process.
var StartDaemon = sync.OnceValues(func() (pid int, err error) {
	program, err := exec.LookPath("cat")
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "daemon")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	link := filepath.Join(dir, "libvirtd") // the kernel names a process after the file that is executed
	if err := os.Symlink(program, link); err != nil {
		return 0, err
	}
	cmd := exec.Command(link)
	input, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	inputs = append(inputs, input)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
})
