package hookproto

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
)

// hook has a Handler that misbehaves as its environment names. With the race detector, Main's
// limits would leave no room for its memory.
var hook = testhost.Program{Source: "./testdata/hook"}

type result struct {
	code           int // as a shell returns it: 128 and the signal for a killed process
	stderr, stdout string
	took           time.Duration
}

// isLate reports whether the time was over: for the XML, for the watchdog, or for the kernel.
func (r result) isLate() bool {
	return r.code == ExitFault && (strings.Contains(r.stderr, "no decision within 2 s") || strings.Contains(r.stderr, "did not end in time")) ||
		r.code == 128+int(syscall.SIGKILL)
}

func execute(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stderr, stdout bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	cmd.Stdout = &stdout
	began := time.Now()
	must(t, cmd.Start())
	rescue := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() }) // ends the process of a failing test, which is not bounded otherwise
	err := cmd.Wait()
	rescue.Stop()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{cmd.ProcessState.ExitCode(), stderr.String(), stdout.String(), time.Since(began)}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		r.code = 128 + int(status.Signal())
	}
	return r
}

func TestMainIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	program := hook.File(t)
	for _, tt := range []struct {
		why, handler, before string
		code                 int
		says                 string // "" for no output
	}{
		{"it allows, and says so to the front", "allow", "", 0, "stopguard: allow\n"},
		{"it vetoes", "veto", "", 1, "stopguard: veto: vm: protected (rule protected_list)\n"},
		{"only the answer reaches stderr", "noise", "", 1, "stopguard: veto: vm: protected\n"},
		{"a panic leaves no trace", "panic", "", 2, "the guard crashed: oh\ufffdno; report this as a bug; "},
		{"a panic elsewhere ends by SIGABRT and without a trace", "other-goroutine", "", 134, ""},
		{"a busy handler", "busy", "", 2, "no decision within 2 s; "},
		{"a handler in the kernel", "blocked", "", 2, "no decision within 2 s; "},
		{"a process that cannot go on is killed by the kernel", "stuck-runtime", "", 137, ""},
		{"memory that grows", "grow", "", 2, "more than 640 MiB of memory; "},
		{"memory at once ends by SIGABRT and without a trace", "at-once", "", 134, ""},
		{"no handler", "none", "", 2, "the guard has no handler; "},
		{"its limits", "limits", "", 2, "data 1024 1024 core 0 0; "},
		{"a limit that is lower already stays", "limits", "lower limit", 2, "data 300 400 core 0 0; "},
		{"a kernel without timers to spare changes no answer", "veto", "no timers", 1, "stopguard: veto: vm: protected (rule protected_list)\n"},
		{"stdin is the domain XML", "xml", "", 2, "read 9 bytes; "},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if tt.handler != "grow" { // it would often be late beside a busy handler
				t.Parallel()
			}
			for _, op := range []string{"stop begin", "release end", "reconnect begin"} {
				var got result
				// On a busy machine the 2 s may be over before the answer, and memory that grows
				// may reach the kernel's limit before it is looked at.
				for began := time.Now(); time.Since(began) < 2*time.Minute; {
					cmd := exec.Command(program, append(append([]string{"vm"}, strings.Fields(op)...), "-")...)
					cmd.Env = append(os.Environ(), "HOOK_HANDLER="+tt.handler, "HOOK_BEFORE="+tt.before, "STOPGUARD_HOOK="+hookFile)
					cmd.Stdin = strings.NewReader("<domain/>")
					got = execute(t, cmd)
					isLate := got.isLate() && !(result{code: tt.code, stderr: tt.says}).isLate()
					if op != "stop begin" || !isLate && (tt.handler != "grow" || got.code != 134) {
						break
					}
				}
				if got.stdout != "" || got.took > 20*time.Second {
					t.Errorf("%s: stdout %q after %v", op, got.stdout, got.took)
				}
				switch {
				case op == "reconnect begin" && got.code != 0, op == "release end" && got.code != 0 && got.code <= 128:
					t.Errorf("%s: exit %d", op, got.code)
				case op != "stop begin" && got.stderr != "":
					t.Errorf("%s: stderr %q", op, got.stderr)
				case op == "stop begin" && (got.code != tt.code || !strings.Contains(got.stderr, tt.says) || (tt.says == "") != (got.stderr == "")):
					t.Errorf("%s: exit %d, want %d; stderr %q", op, got.code, tt.code, got.stderr)
				case got.code == 2 && !strings.HasSuffix(got.stderr, "; to switch the guard off: chmod -x "+hookFile+"\n"):
					t.Errorf("%s: the way out is %q", op, got.stderr)
				}
				if got.stderr != "" {
					checkLine(t, got.stderr)
				}
			}
		})
	}
}

// A copy of a huge string blocks everything in the Go runtime, so any of the bounds may come first.
// Each must end the process without a trace.
func TestAStringThatDoublesIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long") // TestHandOverIsAsIfTheOtherProgramHadBeenRun lets memory grow
	}
	cmd := exec.Command(hook.File(t), "vm", "stop", "begin", "-")
	cmd.Env = append(os.Environ(), "HOOK_HANDLER=double")
	got := execute(t, cmd)
	if got.code != 2 && got.code != 134 && got.code != 137 {
		t.Errorf("exit %d", got.code)
	}
	if got.code == 2 || got.stderr != "" {
		checkLine(t, got.stderr)
	}
	t.Log(got.code, got.took)
}

func TestMainWithoutAStderr(t *testing.T) {
	t.Parallel() // a part of it is waiting
	program := hook.File(t)
	for _, tt := range []struct {
		why     string
		command func(t *testing.T) *exec.Cmd
	}{
		{"closed", func(*testing.T) *exec.Cmd {
			return exec.Command("/bin/sh", "-c", `exec "$0" "$@" 2>&-`, program, "vm", "stop", "begin", "-")
		}},
		{"all of them closed", func(*testing.T) *exec.Cmd {
			return exec.Command("/bin/sh", "-c", `exec "$0" "$@" <&- >&- 2>&-`, program, "vm", "stop", "begin", "-")
		}},
		{"a pipe that nobody reads any more", func(t *testing.T) *exec.Cmd {
			r, w, err := os.Pipe()
			must(t, err)
			must(t, r.Close())
			t.Cleanup(func() { _ = w.Close() })
			cmd := exec.Command(program, "vm", "stop", "begin", "-")
			cmd.Stderr = w
			return cmd
		}},
		{"a full pipe that nobody reads", func(t *testing.T) *exec.Cmd {
			r, w, err := os.Pipe()
			must(t, err)
			t.Cleanup(func() { _ = w.Close(); _ = r.Close() })
			must(t, w.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
			_, _ = w.Write(make([]byte, 1<<20))
			cmd := exec.Command(program, "vm", "stop", "begin", "-")
			cmd.Stderr = w
			return cmd
		}},
		{"a full disk", func(t *testing.T) *exec.Cmd {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			must(t, err)
			t.Cleanup(func() { _ = full.Close() })
			cmd := exec.Command(program, "vm", "stop", "begin", "-")
			cmd.Stderr = full
			return cmd
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			cmd := tt.command(t)
			cmd.Env = append(os.Environ(), "HOOK_HANDLER=veto")
			if got := execute(t, cmd); got.code != 1 {
				t.Errorf("exit %d, %q", got.code, got.stderr)
			}
		})
	}
}

func TestAStuckStdinIsAFault(t *testing.T) {
	t.Parallel() // it waits until the time is over
	cmd := exec.Command(hook.File(t), "vm", "stop", "begin", "-")
	cmd.Env = append(os.Environ(), "HOOK_HANDLER=xml")
	r, w, err := os.Pipe()
	must(t, err)
	defer func() { _ = w.Close(); _ = r.Close() }()
	_, err = io.WriteString(w, "<domain>")
	must(t, err)
	cmd.Stdin = r
	// The handler's own time ends first; on a host under load it may be too late to report that.
	if got := execute(t, cmd); got.code != 2 || !strings.Contains(got.stderr, "did not end in time") && !strings.Contains(got.stderr, "no decision within 2 s") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
}

func TestAnAllowIsSaidToTheFrontAlone(t *testing.T) {
	cmd := exec.Command(hook.File(t), "vm", "stop", "begin", "-")
	cmd.Env = append(os.Environ(), "STOPGUARD_HOOK=", "HOOK_HANDLER=allow")
	if got := execute(t, cmd); got.code != 0 || got.stderr != "" || got.stdout != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
}

func TestTheHookFileIsArgsZeroWithoutAFront(t *testing.T) {
	cmd := exec.Command(hook.File(t), "vm", "stop", "begin")
	cmd.Args[0] = "/etc/libvirt/hooks/qemu"
	cmd.Env = append(os.Environ(), "STOPGUARD_HOOK=")
	if got := execute(t, cmd); got.code != 2 || !strings.HasSuffix(got.stderr, "chmod -x /etc/libvirt/hooks/qemu\n") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
}
