package hookproto

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// handOverTo returns a program that hands over, run for a stop. env holds more variables.
func handOverTo(t *testing.T, next string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(hook.File(t), "vm", "stop", "begin", "-")
	cmd.Env = append(os.Environ(), append([]string{"HOOK_HANDLER=hand-over", "HOOK_NEXT=" + next, "STOPGUARD_HOOK=/hooks/qemu"}, env...)...)
	return cmd
}

// pipeOf returns a pipe that passes on text with few changes of the process, as a busy machine
// needs.
func pipeOf(t *testing.T, text string) *os.File {
	t.Helper()
	const setPipeSize = 1031 // F_SETPIPE_SZ
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), setPipeSize, 1<<20)
	go func() {
		_, _ = io.WriteString(w, text) // fails when the program reads no further
		_ = w.Close()
	}()
	return r
}

func TestHandOverIsAsIfTheOtherProgramHadBeenRun(t *testing.T) {
	t.Parallel()
	program := hook.File(t)
	huge := strings.Repeat("x", MaxXML)
	type row struct {
		why, first, then, stdin string
		code                    int
		says                    string
	}
	rows := []row{
		{"an allow, said to the front", "", "allow", "<domain/>", 0, "stopguard: allow\n"},
		{"a veto, on the real stderr", "read", "veto", "<domain/>", 1, "stopguard: veto: vm: protected (rule protected_list)\n"},
		{"noise goes nowhere, there as well", "read", "noise", "<domain/>", 1, "stopguard: veto: vm: protected\n"},
		{"XML that nobody has read", "", "xml", "<domain/>", 2, "stopguard: fault: vm: read 9 bytes; "},
		{"XML that was read", "read", "xml", "<domain/>", 2, "stopguard: fault: vm: read 9 bytes; "},
		{"XML that is being read", "reading", "xml", "<domain/>", 2, "stopguard: fault: vm: read 9 bytes; "},
		{"more of it than a pipe holds", "read", "xml", huge[:2<<20], 2, "read 2097152 bytes; "},
		{"none", "read", "xml", "", 2, "the domain XML on stdin is empty; "},
		{"the limits stay", "", "limits", "", 2, "data 1024 1024 core 0 0; "},
		{"the hook file that a fault names stays", "", "xml", "", 2, "chmod -x /hooks/qemu\n"},
		{"a panic there", "read", "panic", "<domain/>", 2, "the guard crashed"},
		{"too much memory there", "read", "grow", "<domain/>", 2, "640 MiB"},
		{"a trace of the runtime there", "read", "other-goroutine", "<domain/>", 134, ""},
		{"arguments stay, and the variable goes", "", "arguments", "", 2, fmt.Sprintf(`[\"%s\" \"vm\" \"stop\" \"begin\" \"-\"] false`, program)},
		{"a program that hands over to itself", "read", "hand-over-again", "<domain/>", 2, "hands over to itself; install the full hook"},
	}
	if !testing.Short() { // each takes as long as all the others
		rows = append(rows,
			row{"as much of it as there may be", "read", "xml", huge, 2, "read 67108864 bytes; "},
			row{"more than there may be", "read", "xml", huge + "x", 2, "the domain XML is larger than 64 MiB; "})
	}
	for _, tt := range rows {
		t.Run(tt.why, func(t *testing.T) {
			var got result
			// On a busy machine the 2 s may be over before it has read 64 MiB, and memory that
			// grows may reach the kernel's limit before it is looked at.
			for began := time.Now(); time.Since(began) < 2*time.Minute; {
				cmd := handOverTo(t, program, "HOOK_FIRST="+tt.first, "HOOK_THEN="+tt.then)
				cmd.Stdin = pipeOf(t, tt.stdin)
				if got = execute(t, cmd); !got.isLate() && (tt.then != "grow" || got.code != 134) {
					break
				}
			}
			unquoted := strings.ReplaceAll(tt.says, `\"`, `"`)
			if got.code != tt.code || !strings.Contains(got.stderr, unquoted) || tt.says == "" && got.stderr != "" || got.stdout != "" {
				t.Errorf("exit %d, %q, stdout %q", got.code, got.stderr, got.stdout)
			}
			if got.stderr != "" {
				checkLine(t, got.stderr)
			}
		})
	}
}

func TestHandOverThatFailsIsAFault(t *testing.T) {
	dir := t.TempDir()
	zeros, data := filepath.Join(dir, "zeros"), filepath.Join(dir, "data")
	must(t, os.WriteFile(zeros, make([]byte, 1<<16), 0o755))
	must(t, os.WriteFile(data, []byte("#!/bin/sh\n"), 0o644))
	for _, tt := range []struct{ why, next, says string }{
		{"a program that is missing", "/nosuch/program", "/nosuch/program cannot be started: no such file or directory; install it again"},
		{"one that may not be executed", data, "permission denied; install it again"},
		{"one that a crash filled with zeros", zeros, "exec format error; install it again"},
		{"a folder", dir, "permission denied; install it again"},
		{"no name", "", "cannot be started"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			cmd := handOverTo(t, tt.next, "HOOK_FIRST=read")
			cmd.Stdin = strings.NewReader("<domain/>")
			got := execute(t, cmd)
			if got.code != 2 || !strings.Contains(got.stderr, tt.says) {
				t.Errorf("exit %d, %q", got.code, got.stderr)
			}
			checkLine(t, got.stderr)
		})
	}
}

// The bounds hold for the whole answer, not for each program.
func TestHandOverKeepsTheTimeThatIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	program := hook.File(t)
	for _, tt := range []struct {
		why, then string
		code      int
		before    time.Duration // the latest end, counted from the first program's start
	}{
		{"the watchdog", "busy", 2, 2900 * time.Millisecond},
		{"the kernel's timer", "stuck-runtime", 137, 3900 * time.Millisecond},
	} {
		t.Run(tt.why, func(t *testing.T) {
			// On a host under load everything takes longer; the time must stay below the sum of
			// both bounds.
			var took time.Duration
			for range 3 {
				cmd := handOverTo(t, program, "HOOK_FIRST=wait", "HOOK_THEN="+tt.then)
				cmd.Stdin = strings.NewReader("<domain/>")
				got := execute(t, cmd)
				if got.code != tt.code {
					t.Fatalf("exit %d, %q", got.code, got.stderr)
				}
				if took = got.took; took < tt.before {
					return
				}
			}
			t.Errorf("it took %v", took)
		})
	}
	t.Run("a stdin that does not end", func(t *testing.T) {
		cmd := handOverTo(t, program, "HOOK_FIRST=reading", "HOOK_THEN=xml")
		r, w, err := os.Pipe()
		must(t, err)
		defer func() { _ = w.Close(); _ = r.Close() }()
		_, err = io.WriteString(w, "<domain>")
		must(t, err)
		cmd.Stdin = r
		got := execute(t, cmd)
		if got.code != 2 || !strings.Contains(got.stderr, "did not end in time") && !strings.Contains(got.stderr, "no decision within 2 s") {
			t.Errorf("exit %d, %q", got.code, got.stderr)
		}
	})
}

func TestABeginningThatWasMadeUpLengthensNothing(t *testing.T) {
	own := time.Now().Add(-5 * time.Millisecond)
	pid := os.Getpid()
	now := monotonic()
	for _, tt := range []struct {
		why, value string
		taken      bool
	}{
		{"a second ago", fmt.Sprintf("%d:%d", pid, now-int64(time.Second)), true},
		{"in the future", fmt.Sprintf("%d:%d", pid, now+int64(time.Second)), false},
		{"later than this program began", fmt.Sprintf("%d:%d", pid, now), false},
		{"longer ago than a hook lives", fmt.Sprintf("%d:%d", pid, now-int64(4*time.Second)), false},
		{"another process's", fmt.Sprintf("%d:%d", pid+1, now-int64(time.Second)), false},
		{"no number", fmt.Sprintf("%d:soon", pid), false},
		{"beyond all numbers", fmt.Sprintf("%d:-9223372036854775808", pid), false},
		{"nothing", "", false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Setenv(beganVariable, tt.value)
			self.isHandover = false
			got := takeOver(own)
			if taken := !got.Equal(own); taken != tt.taken || taken != self.isHandover || got.After(own) {
				t.Errorf("%v, %v", got.Sub(own), self.isHandover)
			}
			if _, there := os.LookupEnv(beganVariable); there {
				t.Error("a child would inherit it")
			}
		})
	}
	self.isHandover = false
}

func TestHandOverOutsideOfMainIsAFault(t *testing.T) {
	if err := HandOver(t.Context(), &Event{}, "/bin/true"); err == nil || !strings.Contains(err.Error(), "hookproto.Main") {
		t.Error(err)
	}
}
