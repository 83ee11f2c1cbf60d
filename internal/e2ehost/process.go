//go:build e2e

// Package e2ehost starts hosts for tests with the real libvirtd and QEMU of the machine.
//
// A host is the test's own binary, run as a process in its own namespaces (mounts, processes,
// network, IPC). It starts daemons, acts on guests and reports its observations. The test compares.
// When a host's first process ends, the kernel ends all others in it.
package e2ehost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// scriptVariable has the name of the script, and is set only on a host.
const scriptVariable = "STOPGUARD_E2E_SCRIPT"

// Main implements TestMain for a package: it runs the tests, or in a host plays a script.
func Main(m *testing.M, play func(script string)) {
	Inside(play)
	os.Exit(m.Run())
}

// Inside plays the script if this process is on a host, and does not return then.
func Inside(play func(script string)) {
	script := os.Getenv(scriptVariable)
	switch {
	case script == "":
	case os.Getpid() == 1:
		os.Exit(first())
	default:
		play(script)
		os.Exit(0)
	}
}

// first is the first process of a host. It reaps orphans, as the first process of every machine
// does. Otherwise a killed QEMU would stay a zombie.
func first() int {
	if err := mountHost(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		switch ended, err := syscall.Wait4(-1, &status, 0, nil); {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			return 1
		case ended == pid && status.Exited():
			return status.ExitStatus()
		case ended == pid:
			fmt.Fprintln(os.Stderr, "the host's script was ended by", status.Signal())
			return 1
		}
	}
}

// Command returns this program as a command that plays a script on a new host. It is not started.
func Command(script string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), scriptVariable+"="+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}

// On plays a script on a new host, and decodes the host's report into seen.
func On(t *testing.T, script string, seen any) {
	t.Helper()
	cmd := Command(script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("host %q: %v\n%s", script, err, stderr.String())
	}
	t.Logf("host %q took %.1f s", script, time.Since(began).Seconds())
	if err := json.Unmarshal(stdout.Bytes(), seen); err != nil {
		t.Fatalf("host %q: %v\n%s\n%s", script, err, stdout.String(), stderr.String())
	}
}

// Need fails the test unless each of these variables names a file, which .ci/e2e makes.
func Need(t *testing.T, variables ...string) {
	t.Helper()
	for _, name := range variables {
		if info, err := os.Stat(os.Getenv(name)); err != nil || !info.Mode().IsRegular() {
			t.Fatalf("%s names no file; run .ci/e2e", name)
		}
	}
}
