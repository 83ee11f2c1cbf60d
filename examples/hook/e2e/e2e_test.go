//go:build e2e

// Package e2e tests the installed hook and the operator's tool with the real libvirtd and QEMU of the machine: see .ci/e2e.
//
// Each test asks for hosts. A host is this same binary, run as a process in namespaces of its own (mounts, processes,
// network, IPC), where it starts daemons, does things to guests and reports what it observed. The test compares. When a
// host's first process ends, the kernel ends all others in it, and nothing is left.
package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	programVariable = "STOPGUARD_E2E_PROGRAM" // the built examples/hook
	toolVariable    = "STOPGUARD_E2E_TOOL"    // the built examples/stopguard
	frontVariable   = "STOPGUARD_E2E_FRONT"   // hookproto/front.sh
	scriptVariable  = "STOPGUARD_E2E_SCRIPT"  // what this process is to do as a host; unset in the test itself
)

// An observation is what was seen of one step on a host.
type observation struct {
	Step   string
	Answer answer // of virsh, or of the hook

	// What a step of the everyday script saw.
	State, Memory, XML string
	Calls              string
	Record             []string

	// What a step of the stop script saw.
	Life, Seen, Monitor, OtherID string
}

func TestMain(m *testing.M) {
	script := os.Getenv(scriptVariable)
	switch {
	case script == "":
		os.Exit(m.Run())
	case os.Getpid() == 1:
		os.Exit(first())
	default:
		h := &host{}
		h.prepare()
		if name, ok := strings.CutPrefix(script, everydayScript); ok {
			h.everyday(conditionNamed(name))
		} else if script == toolScript {
			h.tools()
		} else {
			h.stops()
		}
		h.report()
		os.Exit(0)
	}
}

// first is the first process of a host: it reaps the children that others leave, as every machine's first process does. A
// killed QEMU would be a zombie for ever otherwise.
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

// onHost runs a script on a new host and returns what it observed.
func onHost(t *testing.T, script string) []observation {
	t.Helper()
	for _, name := range []string{programVariable, toolVariable, frontVariable} {
		if info, err := os.Stat(os.Getenv(name)); err != nil || !info.Mode().IsRegular() {
			t.Fatalf("%s names no file; run .ci/e2e", name)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), scriptVariable+"="+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("host %q: %v\n%s", script, err, stderr.String())
	}
	t.Logf("host %q took %.1f s", script, time.Since(began).Seconds())
	var seen []observation
	if err := json.Unmarshal(stdout.Bytes(), &seen); err != nil {
		t.Fatalf("host %q: %v\n%s\n%s", script, err, stdout.String(), stderr.String())
	}
	return seen
}
