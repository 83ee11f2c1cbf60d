package hookproto

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shells returns the installed ones of the shells that are /bin/sh on some system, each once.
func shells(t *testing.T) map[string][]string {
	t.Helper()
	found, seen := map[string][]string{}, map[string]bool{}
	for _, command := range [][]string{
		{"sh"}, {"dash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"ksh"}, {"mksh"}, {"yash"},
	} {
		path, err := exec.LookPath(command[0])
		if err != nil {
			continue
		}
		if real, err := filepath.EvalSymlinks(path); err == nil { // sh is mostly another one's name
			path = real
		}
		if !seen[path] {
			seen[path], found[command[0]] = true, command
		}
	}
	if len(found) == 0 {
		t.Skip("there is no shell")
	}
	return found
}

// front installs front.sh for a program.
func front(t *testing.T, program string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sg")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	data, err := os.ReadFile("front.sh")
	must(t, err)
	const line = "\nprogram=/usr/libexec/stopguard-hook\n"
	if strings.Count(string(data), line) != 1 {
		t.Fatal("front.sh names no program")
	}
	file := filepath.Join(dir, "50-stopguard")
	must(t, os.WriteFile(file, []byte(strings.Replace(string(data), line, "\nprogram="+program+"\n", 1)), 0o755))
	return file
}

func put(t *testing.T, mode os.FileMode, content string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sg")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "program")
	must(t, os.WriteFile(file, []byte(content), 0o600))
	must(t, os.Chmod(file, mode))
	return file
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("as another user the front lets everything go")
	}
}

func TestAProgramThatCannotAnswerIsAFaultOfTheStopAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	needRoot(t)
	working := hook.File(t)
	foreign, err := os.ReadFile(working)
	must(t, err)
	foreign = foreign[:min(len(foreign), 64<<10)]
	foreign[18], foreign[19] = 0xfe, 0xca // e_machine: an unassigned machine
	for _, tt := range []struct {
		why, program, handler string
		code                  int
		says                  string
	}{
		{"it allows", working, "allow", 0, ""},
		{"it vetoes", working, "veto", 1, "stopguard: veto: vm: protected (rule protected_list)\n"},
		{"it faults", working, "panic", 2, "the guard crashed: oh\ufffdno; report this as a bug; "},
		{"it gets the XML", working, "xml", 2, "fault: vm: read 9 bytes; "},
		{"it crashes", working, "other-goroutine", 2, "fault: vm: PROGRAM crashed (status 134), perhaps out of memory; "},
		{"it runs out of memory", working, "at-once", 2, "fault: vm: PROGRAM crashed (status 134), perhaps out of memory; "},
		{"it is killed after 3 s", working, "stuck-runtime", 2, "fault: vm: PROGRAM was killed (status 137), perhaps after 3 s; "},
		{"it is killed at once", put(t, 0o755, "#!/bin/sh\nkill -KILL $$\n"), "", 2, "PROGRAM was killed (status 137), perhaps after 3 s; "},
		{"it is killed otherwise", put(t, 0o755, "#!/bin/sh\nkill -TERM $$\n"), "", 2, "ended with status 143 instead of an answer; "},
		{"it has a status of its own", put(t, 0o755, "#!/bin/sh\necho noise >&2; exit 3\n"), "", 2, "ended with status 3 instead of an answer; "},
		{"it faults without a line", put(t, 0o755, "#!/bin/sh\nexit 2\n"), "", 2, "ended with status 2 instead of an answer; "},
		{"it faults with a trace", put(t, 0o755, "#!/bin/sh\necho panic: >&2; echo goroutine 1 >&2; exit 2\n"), "", 2, "ended with status 2 instead of an answer; "},
		{"it fails with 1 and a text of its own", put(t, 0o755, "#!/bin/sh\necho no >&2; exit 1\n"), "", 2, "ended with status 1 but without the line of a veto; "},
		{"it fails with 1 in silence", put(t, 0o755, "#!/bin/sh\nexit 1\n"), "", 2, "ended with status 1 but without the line of a veto; "},
		{"it names a veto within a line", put(t, 0o755, "#!/bin/sh\necho no stopguard: veto: vm: x >&2; exit 1\n"), "", 2, "ended with status 1 but without the line of a veto; "},
		{"it does nothing and ends", put(t, 0o755, "#!/bin/sh\n"), "", 2, "ended with status 0 but did not say that it allows the stop; "},
		{"it prints and ends", put(t, 0o755, "#!/bin/sh\necho a; echo b >&2\n"), "", 2, "ended with status 0 but did not say that it allows the stop; "},
		{"it allows to stdout", put(t, 0o755, "#!/bin/sh\necho stopguard: allow\n"), "", 2, "ended with status 0 but did not say that it allows the stop; "},
		{"it allows and goes on", put(t, 0o755, "#!/bin/sh\necho stopguard: allow >&2; echo not >&2\n"), "", 2, "ended with status 0 but did not say that it allows the stop; "},
		{"it allows in a line of something else", put(t, 0o755, "#!/bin/sh\necho not stopguard: allow >&2\n"), "", 2, "ended with status 0 but did not say that it allows the stop; "},
		{"it allows after what its loader said", put(t, 0o755, "#!/bin/sh\necho ld.so: no libx.so >&2; echo stopguard: allow >&2\n"), "", 0, ""},
		{"it allows and ends badly", put(t, 0o755, "#!/bin/sh\necho stopguard: allow >&2; exit 3\n"), "", 2, "ended with status 3 instead of an answer; "},
		{"it is missing", "/nonexistent/program", "", 2, "is missing, empty or not executable; "},
		{"it is a folder", "/tmp", "", 2, "is missing, empty or not executable; "},
		{"it is not executable", put(t, 0o644, "#!/bin/sh\nexit 0\n"), "", 2, "is missing, empty or not executable; "},
		{"it is empty", put(t, 0o755, ""), "", 2, "is missing, empty or not executable; "},
		{"it is full of zeros", put(t, 0o755, strings.Repeat("\x00", 100000)), "", 2, "fault: vm: PROGRAM "},
		{"it is text", put(t, 0o755, "exit 0\n"), "", 2, "ended with status 0 but did not say that it allows the stop; "},
		{"it is another machine's", put(t, 0o755, string(foreign)), "", 2, "fault: vm: PROGRAM "},
		{"its interpreter is missing", put(t, 0o755, "#!/nonexistent/sh\nexit 0\n"), "", 2, "cannot be started (status 12"},
	} {
		file := front(t, tt.program)
		for name, shell := range shells(t) {
			if tt.handler == "stuck-runtime" && name != "sh" {
				continue // it takes 3 s each, and a shell sees no difference to an immediate kill
			}
			t.Run(tt.why+" in "+name, func(t *testing.T) {
				for _, op := range Operations() {
					if op.Driver != "qemu" || op.Op != OpStop && op.Op != OpRelease && name != "sh" {
						continue
					}
					cmd := exec.Command(shell[0], append(shell[1:], file, "vm", string(op.Op), op.SubOp, "-")...)
					cmd.Env = append(os.Environ(), "HOOK_HANDLER="+tt.handler)
					cmd.Dir = t.TempDir() // a shell that runs a foreign binary as a script may write files
					cmd.Stdin = strings.NewReader("<domain/>")
					got := execute(t, cmd)
					code, says := 0, ""
					if op.Op == OpStop {
						code, says = tt.code, strings.ReplaceAll(tt.says, "PROGRAM", tt.program)
					}
					if got.code != code || !strings.Contains(got.stderr, says) || (says == "") != (got.stderr == "") || got.stdout != "" {
						t.Errorf("%s: exit %d, want %d; stdout %q, stderr %q", op.Op, got.code, code, got.stdout, got.stderr)
					}
					if got.stderr != "" {
						checkLine(t, got.stderr)
					}
					if got.code == 2 && !strings.HasSuffix(got.stderr, "; to switch the guard off: chmod -x "+file+"\n") {
						t.Errorf("%s: the way out is %q", op.Op, got.stderr)
					}
				}
			})
		}
	}
}

func TestTheFrontIsNotFooledByANameOrAnEnvironment(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const unprintable = "(a name that cannot be printed here)"
	missing, allow := front(t, "/nonexistent/program"), front(t, hook.File(t))
	for name, shell := range shells(t) {
		for _, tt := range []struct{ guest, shown string }{
			{"pg-primary-01", "pg-primary-01"}, {"--help", "--help"}, {"-n", "-n"}, {"-", "-"}, {"a.b_c@d/e,f+g=h", "a.b_c@d/e,f+g=h"},
			{"", unprintable}, {"$(reboot)", unprintable}, {"`reboot`", unprintable}, {"a\nb", unprintable}, {"x: fine (rule none)", unprintable},
			{"%s%n", unprintable}, {`\033[2J`, unprintable}, {"Müller", unprintable}, {"a b", unprintable}, {"*", unprintable}, {"[a]", unprintable},
			{strings.Repeat("x", 200), strings.Repeat("x", 200)}, {strings.Repeat("x", 201), unprintable},
		} {
			t.Run(fmt.Sprintf("the name %.30q in %s", tt.guest, name), func(t *testing.T) {
				got := execute(t, exec.Command(shell[0], append(shell[1:], missing, tt.guest, "stop", "begin", "-")...))
				if got.code != 2 || !strings.HasPrefix(got.stderr, "stopguard: fault: "+tt.shown+": /nonexistent/program is missing") {
					t.Errorf("exit %d, %q", got.code, got.stderr)
				}
				checkLine(t, got.stderr)
			})
		}
		for _, env := range []string{
			"IFS=s", "PATH=", "PATH=/nonexistent", "LC_ALL=POSIX", "SHELLOPTS=errexit:nounset", "POSIXLY_CORRECT=1", "ENV=/etc/passwd", "BASH_ENV=/etc/passwd",
			"STOPGUARD_HOOK=/wrong", "program=/bin/true", "code=0", "what=x", "BASH_FUNC_test%%=() { return 1; }", "BASH_FUNC_runs%%=() { return 1; }", "thin=/bin/true", "run=/", "line=stopguard: allow", "key=Uid:", "euid=1",
		} {
			t.Run(env+" in "+name, func(t *testing.T) {
				path, err := exec.LookPath(shell[0])
				must(t, err)
				for handler, want := range map[string]string{"veto": "stopguard: veto: vm: protected (rule protected_list)\n", "panic": "chmod -x " + allow + "\n", "allow": ""} {
					cmd := exec.Command(path, append(shell[1:], allow, "vm", "stop", "begin", "-")...)
					cmd.Env = []string{"PATH=/usr/bin:/bin", "HOOK_HANDLER=" + handler, env}
					got := execute(t, cmd)
					if code := map[string]int{"veto": 1, "panic": 2}[handler]; got.code != code || !strings.HasSuffix(got.stderr, want) || strings.Count(got.stderr, "\n") > 1 {
						t.Errorf("%s: exit %d, %q", handler, got.code, got.stderr)
					}
				}
			})
		}
		t.Run("arguments that are missing in "+name, func(t *testing.T) {
			for _, args := range [][]string{{}, {"vm"}, {"stop"}, {"vm", ""}, {"vm", "-"}} {
				if got := execute(t, exec.Command(shell[0], append(append(shell[1:], missing), args...)...)); got.code != 0 || got.stderr != "" {
					t.Errorf("%q: exit %d, %q", args, got.code, got.stderr)
				}
			}
			if got := execute(t, exec.Command(shell[0], append(shell[1:], allow, "vm", "stop")...)); got.code != 2 || !strings.Contains(got.stderr, "2 arguments instead of 4") {
				t.Errorf("exit %d, %q", got.code, got.stderr)
			}
		})
		t.Run("a stderr that nobody reads in "+name, func(t *testing.T) {
			r, w, err := os.Pipe()
			must(t, err)
			must(t, r.Close())
			defer func() { _ = w.Close() }()
			for handler, code := range map[string]int{"veto": 1, "panic": 2} {
				cmd := exec.Command(shell[0], append(shell[1:], allow, "vm", "stop", "begin", "-")...)
				cmd.Env = append(os.Environ(), "HOOK_HANDLER="+handler)
				cmd.Stderr = w
				if got := execute(t, cmd); got.code != code {
					t.Errorf("%s: exit %d", handler, got.code)
				}
			}
		})
		t.Run("no stderr in "+name, func(t *testing.T) {
			for op, code := range map[string]int{"stop": 2, "release": 0, "reconnect": 0} {
				cmd := exec.Command("/bin/sh", append(append([]string{"-c", `exec "$0" "$@" 2>&-`}, shell...), missing, "vm", op, "begin", "-")...)
				if got := execute(t, cmd); got.code != code {
					t.Errorf("%s: exit %d", op, got.code)
				}
			}
		})
	}
	t.Run("run as libvirt runs it", func(t *testing.T) {
		cmd := exec.Command(allow, "vm", "stop", "begin", "-")
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "HOME=/root", "HOOK_HANDLER=veto"}
		if got := execute(t, cmd); got.code != 1 || got.stderr != "stopguard: veto: vm: protected (rule protected_list)\n" {
			t.Errorf("exit %d, %q", got.code, got.stderr)
		}
	})
}

// The choice between the two programs is a matter of speed, and must never leave a stop unanswered.
func TestTheFrontRunsTheThinProgramWhereItIsFaster(t *testing.T) {
	needRoot(t)
	const veto = "#!/bin/sh\necho stopguard: veto: vm: %s >&2; exit 1\n"
	living := exec.Command("sleep", "1000")
	must(t, living.Start())
	t.Cleanup(func() { _ = living.Process.Kill(); _ = living.Wait() })
	zombie := exec.Command("true")
	must(t, zombie.Start())
	t.Cleanup(func() { _ = zombie.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if stat, err := readStat(zombie.Process.Pid); err == nil && stat.state == 'Z' {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a process does not end")
		}
	}
	for _, tt := range []struct {
		why   string
		thin  func(t *testing.T, file string) // creates the thin program; nil for the working one
		state func(t *testing.T, root string) // creates the host's state
		want  string
	}{
		{"the domain's process lives", nil, pidFile(living.Process.Pid), "full"},
		{"it is a zombie", nil, pidFile(zombie.Process.Pid), "thin"},
		{"there is no such process", nil, pidFile(1 << 30), "thin"},
		{"there is no pid file", nil, func(*testing.T, string) {}, "thin"},
		{"the pid file is empty", nil, stateFile("qemu/vm.pid", ""), "thin"},
		{"the pid file is no pid file", nil, stateFile("qemu/vm.pid", "../self/../$(reboot)\n"), "thin"},
		{"the pid file is a FIFO that nobody writes", nil, func(t *testing.T, root string) {
			stateFile("qemu/other.pid", "")(t, root)
			must(t, syscall.Mkfifo(filepath.Join(root, "run/libvirt/qemu/vm.pid"), 0o600))
		}, "thin"},
		{"there is an agent", nil, func(t *testing.T, root string) {
			pidFile(living.Process.Pid)(t, root)
			must(t, os.MkdirAll(filepath.Join(root, "run/stopguard"), 0o755))
			listener, err := net.Listen("unix", filepath.Join(root, "run/stopguard/agent.sock"))
			must(t, err)
			t.Cleanup(func() { _ = listener.Close() })
		}, "thin"},
		{"the agent's socket is none", nil, func(t *testing.T, root string) {
			pidFile(living.Process.Pid)(t, root)
			stateFile("../stopguard/agent.sock", "")(t, root)
		}, "full"},
		{"it is not there", func(*testing.T, string) {}, pidFile(zombie.Process.Pid), "full"},
		{"it is empty", func(t *testing.T, file string) { must(t, os.WriteFile(file, nil, 0o755)) }, pidFile(zombie.Process.Pid), "full"},
		{"it is not executable", func(t *testing.T, file string) { must(t, os.WriteFile(file, []byte("#!/bin/sh\n"), 0o644)) }, pidFile(zombie.Process.Pid), "full"},
		{"it is a folder", func(t *testing.T, file string) { must(t, os.Mkdir(file, 0o755)) }, pidFile(zombie.Process.Pid), "full"},
		{"it is broken", func(t *testing.T, file string) { must(t, os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755)) }, pidFile(zombie.Process.Pid),
			"PROGRAM-thin ended with status 0 but did not say that it allows the stop; "},
	} {
		program := put(t, 0o755, fmt.Sprintf(veto, "full"))
		if tt.thin == nil {
			tt.thin = func(t *testing.T, file string) { must(t, os.WriteFile(file, fmt.Appendf(nil, veto, "thin"), 0o755)) }
		}
		tt.thin(t, program+"-thin")
		root := filepath.Join(filepath.Dir(program), "root")
		tt.state(t, root)
		file := front(t, program)
		for name, shell := range shells(t) {
			t.Run(tt.why+" in "+name, func(t *testing.T) {
				cmd := exec.Command(shell[0], append(shell[1:], file, "vm", "stop", "begin", "-")...)
				cmd.Env = append(os.Environ(), "STOPGUARD_ROOT="+root)
				got := execute(t, cmd)
				if want := strings.ReplaceAll(tt.want, "PROGRAM", program); got.code == 0 || !strings.Contains(got.stderr, "vm: "+want) {
					t.Errorf("exit %d, %q; want %q", got.code, got.stderr, want)
				}
			})
		}
	}
}

func pidFile(pid int) func(*testing.T, string) { return stateFile("qemu/vm.pid", fmt.Sprint(pid)) }

func stateFile(name, content string) func(*testing.T, string) {
	return func(t *testing.T, root string) {
		file := filepath.Join(root, "run/libvirt", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(content), 0o644))
	}
}

// A user's own session daemon runs the host's hooks, and the host's list must not refuse its stops.
func TestTheFrontLetsOtherUsersGo(t *testing.T) {
	t.Parallel()
	for _, program := range []string{hook.File(t), "/nonexistent/program"} {
		file := front(t, program)
		for name, shell := range shells(t) {
			for _, op := range []string{"stop", "release", "reconnect"} {
				cmd := exec.Command(shell[0], append(shell[1:], file, "vm", op, "begin", "-")...)
				cmd.Env = append(os.Environ(), "HOOK_HANDLER=veto")
				if os.Geteuid() == 0 {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				}
				if got := execute(t, cmd); got.code != 0 || got.stderr != "" {
					t.Errorf("%s in %s: exit %d, %q", op, name, got.code, got.stderr)
				}
			}
		}
	}
}

// A dispatcher that hands each hook's output to the next must survive a hook that prints nothing.
func TestTheDocumentsDispatcherHandsTheXMLOn(t *testing.T) {
	needRoot(t)
	page, err := os.ReadFile("../docs/hook.md")
	must(t, err)
	_, script, ok := strings.Cut(string(page), "```bash\n")
	if !ok {
		t.Fatal("docs/hook.md has no dispatcher")
	}
	script, _, _ = strings.Cut(script, "```")
	dispatcher := put(t, 0o755, script)
	must(t, os.Mkdir(dispatcher+".d", 0o755))
	for name, hook := range map[string]string{
		"10-changes": "#!/bin/sh\nsed s/old/new/\n",
		"60-reads":   "#!/bin/sh\nread -r xml; echo \"$xml\" >" + dispatcher + ".seen\n",
	} {
		must(t, os.WriteFile(filepath.Join(dispatcher+".d", name), []byte(hook), 0o755))
	}
	guard, err := os.ReadFile(front(t, hook.File(t)))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dispatcher+".d", "50-stopguard"), guard, 0o755))
	for _, tt := range []struct {
		why, operation, handler string
		code                    int
		stdout, stderr, seen    string
	}{
		{"the front prints nothing, and the change is kept", "migrate", "veto", 0, "<new/>\n", "", "<new/>\n"},
		{"an allowed stop reaches the hooks behind it", "stop", "allow", 0, "<new/>\n", "", "<new/>\n"},
		{"a veto ends the chain with its own line", "stop", "veto", 1, "", "stopguard: veto: vm: protected (rule protected_list)\n", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			_ = os.Remove(dispatcher + ".seen")
			cmd := exec.Command(dispatcher, "vm", tt.operation, "begin", "-")
			cmd.Env = append(os.Environ(), "HOOK_HANDLER="+tt.handler)
			cmd.Stdin = strings.NewReader("<old/>")
			got := execute(t, cmd)
			seen, _ := os.ReadFile(dispatcher + ".seen")
			if got.code != tt.code || got.stdout != tt.stdout || got.stderr != tt.stderr || string(seen) != tt.seen {
				t.Errorf("exit %d, stdout %q, stderr %q, the last hook read %q", got.code, got.stdout, got.stderr, seen)
			}
		})
	}
}
