package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostpath"
)

// bare is a host with systemd and libvirt on which nothing of ours is.
func bare(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, doctor: doctor{host: host{root: t.TempDir()}}}
	p.folder("/", "/etc/libvirt/hooks", "/usr/libexec", "/run/libvirt/qemu")
	p.put("/usr/lib/systemd/systemd", "", 0o755)
	p.program("/home/stopguard-hook")
	return p
}

// do runs a command on the host.
func (p *patient) do(cmd *cobra.Command, args ...string) (string, error) {
	p.t.Helper()
	p.t.Setenv("STOPGUARD_ROOT", p.root)
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func (p *patient) install() string {
	p.t.Helper()
	out, err := p.do(newInstall(), "--hook", p.path("/home/stopguard-hook"))
	p.must(err)
	return out
}

func (p *patient) content(name string) string {
	p.t.Helper()
	content, err := os.ReadFile(p.path(name))
	p.must(err)
	return string(content)
}

func wantSaid(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not said:\n%s", w, text)
		}
	}
}

func TestInstallPutsEverythingInItsPlace(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // it must not matter
	p := bare(t)
	before := tree(t, p.root)
	out := p.install()
	after := tree(t, p.root)
	modes := map[string]string{}
	for name, what := range after {
		if _, old := before[name]; !old {
			modes[name], _, _ = strings.Cut(what, " ")
		}
	}
	want := map[string]string{
		"/etc/libvirt/hooks/qemu.d":                      "drwxr-xr-x",
		"/etc/libvirt/hooks/qemu.d/50-stopguard":         "-rwxr-xr-x",
		"/etc/stopguard":                                 "drwxr-xr-x",
		"/etc/stopguard/policy":                          "drwxr-xr-x",
		"/etc/systemd":                                   "drwxr-xr-x",
		"/etc/systemd/system":                            "drwxr-xr-x",
		"/etc/systemd/system/stopguard-shutdown.service": "-rw-r--r--",
		"/usr/libexec/stopguard-hook":                    "Lrwxrwxrwx",
		"/usr/sbin":                                      "drwxr-xr-x",
		"/usr/sbin/stopguard-hook":                       "-rwxr-xr-x",
		"/var":                                           "drwxr-xr-x",
		"/var/lib":                                       "drwxr-xr-x",
		"/var/lib/stopguard":                             "drwxr-xr-x",
		"/var/lib/stopguard/installed.json":              "-rw-r--r--",
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Error(diff)
	}
	if p.content(hookFile) != hookproto.Front || p.content(hookProgram) != p.content("/home/stopguard-hook") {
		t.Error("other content")
	}
	if to, _ := os.Readlink(p.path(hookLink)); to != "../sbin/stopguard-hook" || p.content(hookLink) != p.content(hookProgram) {
		t.Error("the link leads to", to)
	}
	wantSaid(t, out, "installed  "+p.path(hookFile), "Next:", "systemctl reload", "systemctl enable --now", "stopguard doctor", "chmod -x")
}

func TestInstallMayBeRunAgain(t *testing.T) {
	p := bare(t)
	p.install()
	before := tree(t, p.root)
	out := p.install()
	after := tree(t, p.root)
	for _, all := range []map[string]string{before, after} {
		delete(all, receiptFile) // written anew
		maps.DeleteFunc(all, func(_, what string) bool { return strings.HasPrefix(what, "d") })
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	wantSaid(t, out, "unchanged  "+p.path(hookFile), "unchanged  "+p.path(hookProgram), "unchanged  "+p.path(hookLink))
}

func TestInstallAgainReplacesWhatItPutThere(t *testing.T) {
	p := bare(t)
	p.install()
	other := p.another("/home/another-hook")
	out, err := p.do(newInstall(), "--hook", other)
	p.must(err)
	wantSaid(t, out, "installed  "+p.path(hookProgram), "unchanged  "+p.path(hookFile))
	p.install() // and back
	if p.content(hookProgram) != p.content("/home/stopguard-hook") {
		t.Error("not replaced")
	}
}

func TestInstallSwitchesTheHookOnAgain(t *testing.T) {
	p := bare(t)
	p.install()
	p.chmod(hookFile, 0o644)
	out := p.install()
	info, err := os.Stat(p.path(hookFile))
	p.must(err)
	if info.Mode().Perm() != 0o755 {
		t.Error(info.Mode())
	}
	wantSaid(t, out, "(was 0644)")
}

func TestInstallStopsBeforeItTouchesWhatIsNotItsOwn(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		plant     func(*patient)
		want      string
	}{
		{"another hook in its place", "", func(p *patient) { p.put(hookFile, "#!/bin/sh\n", 0o755) }, "was not put there by install"},
		{"its own hook, changed", "", func(p *patient) { p.install(); p.put(hookFile, hookproto.Front+"# mine\n", 0o755) }, "was changed since"},
		{"another program in its place", "", func(p *patient) { p.put(hookProgram, "\x7fELF", 0o755) }, hookProgram},
		{"another program where the link belongs", "", func(p *patient) { p.put(hookLink, "\x7fELF", 0o755) }, hookLink},
		{"the very program where the link belongs", "it is somebody's", func(p *patient) { p.program(hookLink) }, hookLink},
		{"a link to somewhere else", "", func(p *patient) { p.link("../../opt/hook", hookLink) }, hookLink + ": is a link"},
		{"its own link, in a folder that everybody can change", "", func(p *patient) { p.install(); p.chmod("/usr/libexec", 0o777) }, "writable by everyone"},
		{"another unit in its place", "", func(p *patient) { p.put(unitFolder+"/"+shutdownUnit, "[Unit]\n", 0o644) }, shutdownUnit},
		{"a link in its place", "what it leads to is somebody's", func(p *patient) {
			p.put("/etc/mine", "", 0o644)
			p.link("../../../mine", hookFile)
		}, "is a link"},
		{"a folder in its place", "", func(p *patient) { p.folder(hookFile) }, "is a folder"},
		{"a hooks folder that everybody can change", "root would run what they put there", func(p *patient) {
			p.folder(filepath.Dir(hookFile))
			p.chmod(filepath.Dir(hookFile), 0o777)
		}, "writable by everyone"},
		{"a broken receipt", "", func(p *patient) { p.put(receiptFile, "{", 0o644) }, receiptFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := bare(t)
			tt.plant(p)
			before := tree(t, p.root)
			_, err := p.do(newInstall(), "--hook", p.path("/home/stopguard-hook"))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "; ") {
				t.Errorf("%s: %v", tt.why, err)
			}
			if diff := cmp.Diff(before, tree(t, p.root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInstallTakesNoFlagForAFile(t *testing.T) {
	p := bare(t)
	for _, name := range []string{"--gate", "--hook", "--thin"} {
		if _, err := p.do(newInstall(), name, "--restart"); err == nil || err.Error() != name+" needs a FILE before --restart" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInstallTakesOnlyAProgramOfThisMachine(t *testing.T) {
	p := bare(t)
	p.put("/home/text", "#!/bin/sh\n", 0o755)
	for _, file := range []string{p.path("/home/text"), p.path("/home/missing")} {
		before := tree(t, p.root)
		if _, err := p.do(newInstall(), "--hook", file); err == nil || !strings.Contains(err.Error(), "--hook") {
			t.Error(file, err)
		}
		if diff := cmp.Diff(before, tree(t, p.root)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestInstallTakesNoProgramThatIsKnownToBeAnother(t *testing.T) {
	const stopguard = "github.com/stopguard/stopguard"
	build := func(module, pkg string) func(*patient) string {
		return func(p *patient) string { return programOf(p.t, module, pkg) }
	}
	for _, tt := range []struct {
		why, flag string
		program   func(*patient) string
		want      string // "" if it is taken
	}{
		{"the gate would wait for connections at each stop", "--hook", build(stopguard, "examples/gate"), "is the gate's program, not the hook program; "},
		{"a slip of the same kind", "--hook", build(stopguard, "examples/agent"), "is the agent, not the hook program; "},
		{"the tool would list its commands", "--hook", build(stopguard, "examples/stopguard"), "is the stopguard tool, not the hook program; "},
		{"it hands over to a program that would be itself", "--hook", build(stopguard, "examples/agent/hook"), "is the thin hook program, not the hook program; "},
		{"it would never ask the agent", "--thin", build(stopguard, "examples/hook"), "is the hook program, not the thin hook program; "},
		{"", "--thin", build(stopguard, "examples/gate"), "is the gate's program, not the thin hook program; "},
		{"", "--hook", build(stopguard, "examples/hook"), ""},
		{"the site's own", "--hook", build(stopguard, "examples/exception"), ""},
		{"", "--thin", build(stopguard, "examples/agent/hook"), ""},
		{"a Go program without the library", "--hook", build("example.com/other", "."), "is not made with stopguard; "},
		{"", "--thin", build("example.com/other", "."), "is not made with stopguard; "},
		{"no Go program, but it can be asked", "--hook", func(p *patient) string {
			ls, err := exec.LookPath("ls")
			p.must(err)
			content, err := os.ReadFile(ls)
			p.must(err)
			p.put("/home/ls", string(content), 0o755)
			return p.path("/home/ls")
		}, "has nothing to do for, ended with"},
		{"it fails", "--hook", func(p *patient) string {
			p.put("/home/stopguard-hook.does", "fail", 0o644)
			return p.path("/home/stopguard-hook")
		}, "has nothing to do for, "},
		{"it is not run, for others could have changed it", "--hook", func(p *patient) string {
			p.put("/home/stopguard-hook.does", "fail", 0o644)
			p.chmod("/home", 0o777)
			return p.path("/home/stopguard-hook")
		}, ""},
		{"it came without its mode, which install sets", "--hook", func(p *patient) string {
			p.copied("/home/stopguard-hook")
			p.chmod("/home/stopguard-hook", 0o644)
			return p.path("/home/stopguard-hook")
		}, ""},
		{"half of it came over", "--hook", func(p *patient) string {
			content := p.content("/home/stopguard-hook")
			p.put("/home/half", content[:len(content)/8], 0o755)
			return p.path("/home/half")
		}, "is not whole; "},
	} {
		t.Run(tt.flag+" "+tt.why+tt.want, func(t *testing.T) {
			p := bare(t)
			args := []string{tt.flag, tt.program(p)}
			if tt.flag != "--hook" {
				args = append(args, "--hook", p.path("/home/stopguard-hook"))
			}
			before := tree(t, p.root)
			_, err := p.do(newInstall(), args...)
			if tt.want == "" {
				p.must(err)
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "nothing was installed: ") || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.flag) {
				t.Errorf("%s: %v", tt.why, err)
			}
			if diff := cmp.Diff(before, tree(t, p.root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// libvirt runs whatever is executable in qemu.d, so nothing may be written there piece by piece.
func TestAHookIsNeverSeenHalfWritten(t *testing.T) {
	p := bare(t)
	parts, err := installer{host: p.host, source: p.path("/home/stopguard-hook")}.parts()
	p.must(err)
	last := parts[len(parts)-1]
	if last.path != hookFile || last.via != hooksFolder {
		t.Errorf("%s comes last, by way of %s", last.path, last.via)
	}
	p.install()
	for _, folder := range []string{hooksFolder, hooksFolder + "/qemu.d", "/usr/libexec", "/usr/sbin", unitFolder} {
		left, err := filepath.Glob(p.path(folder) + "/.*")
		if err != nil || len(left) > 0 {
			t.Error(left, err)
		}
	}
	p.folder(hookFile + ".d/x")
	if err := (installer{host: p.host, out: io.Discard}).placeLink(p.path(hookFile+".d"), "x"); err == nil {
		t.Error("a folder was replaced by a link")
	}
	// A failure leaves nothing either.
	if err := writeWhole(p.path(hooksFolder), p.path("/etc"), []byte("x"), 0o755); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if left, _ := filepath.Glob(p.path(hooksFolder) + "/.*"); len(left) > 0 {
		t.Error(left)
	}
}

func TestTheUnitIsTheOneOfTheExample(t *testing.T) {
	want, err := os.ReadFile("../hook/" + shutdownUnit)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), shutdownUnitText); diff != "" {
		t.Error(diff)
	}
}

func TestAHostWithoutSystemdGetsNoUnit(t *testing.T) {
	p := bare(t)
	p.remove("/usr/lib/systemd")
	out := p.install()
	if p.exists("/etc/systemd") || strings.Contains(out, "systemctl enable") {
		t.Error(out)
	}
}

// What install leaves is what doctor looks for.
func TestDoctorFindsNothingWrongWithAnInstallation(t *testing.T) {
	p := healthy(t)
	p.remove("/etc/libvirt/hooks/qemu.d")
	p.remove(hookProgram)
	p.remove(hookLink)
	p.remove("/etc/systemd")
	p.remove("/etc/stopguard")
	p.program("/home/stopguard-hook")
	p.install()
	p.link("../"+shutdownUnit, unitFolder+"/multi-user.target.wants/"+shutdownUnit) // systemctl enable
	if diff := cmp.Diff([]string{}, ill(p.examine(context.Background()))); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyRootInstallsOnAHost(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("is root")
	}
	t.Setenv("STOPGUARD_ROOT", "")
	for _, cmd := range []*cobra.Command{newInstall(), newUninstall()} {
		cmd.SetArgs(nil)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "only root") {
			t.Error(err)
		}
	}
}

func TestReloadIsForThisHostOnly(t *testing.T) {
	p := bare(t)
	if _, err := p.do(newInstall(), "--reload"); err == nil || !strings.Contains(err.Error(), "STOPGUARD_ROOT") {
		t.Error(err)
	}
}

func TestReloadAsksSystemdFirst(t *testing.T) {
	p := bare(t)
	var asked []string
	var out strings.Builder
	p.systemctl = func(args ...string) (string, error) {
		asked = append(asked, strings.Join(args, " "))
		if args[0] == "is-active" && args[2] == "libvirtd.service" {
			return "", syscall.ESRCH
		}
		return "", nil
	}
	p.must(installer{host: p.host, out: &out}.reloadDaemons())
	want := []string{"is-active --quiet libvirtd.service", "is-active --quiet virtqemud.service", "reload virtqemud.service"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	wantSaid(t, out.String(), "reloaded   virtqemud.service")
}

func TestReloadSignalsTheDaemonOfThePIDFileAndNoOther(t *testing.T) {
	for _, tt := range []struct {
		why, comm string
		signalled bool
	}{
		{"it is the daemon", "libvirtd", true},
		{"the number is another process's by now", "postgres", false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := bare(t)
			// Who runs this test may ignore SIGHUP, and a child would inherit that.
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			child := exec.Command("sleep", "60")
			p.must(child.Start())
			pid := strconv.Itoa(child.Process.Pid)
			p.put("/run/libvirtd.pid", pid+"\n", 0o644)
			p.put("/proc/"+pid+"/comm", tt.comm+"\n", 0o444)
			var out strings.Builder
			p.must(installer{host: p.host, out: &out}.reloadDaemons())
			if !tt.signalled {
				p.must(child.Process.Kill())
			}
			_ = child.Wait()
			status, _ := child.ProcessState.Sys().(syscall.WaitStatus)
			if (status.Signal() == syscall.SIGHUP) != tt.signalled {
				t.Errorf("ended by %v: %s", status.Signal(), out.String())
			}
		})
	}
}

func TestUninstallRemovesWhatInstallPutThere(t *testing.T) {
	p := bare(t)
	before := tree(t, p.root)
	p.install()
	p.link("../"+shutdownUnit, unitFolder+"/multi-user.target.wants/"+shutdownUnit)
	out, err := p.do(newUninstall())
	p.must(err)
	after := tree(t, p.root)
	// The folder of links was systemctl's, and so stays, and those above it.
	for _, left := range []string{"/etc/systemd", unitFolder, unitFolder + "/multi-user.target.wants"} {
		delete(after, left)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	wantSaid(t, out, "removed    "+p.path(hookFile), "daemon-reload")
	out, err = p.do(newUninstall())
	p.must(err)
	wantSaid(t, out, "Nothing on this host")
}

func TestTheThinProgramIsInstalledOnlyIfItIsNamed(t *testing.T) {
	p := bare(t)
	both := []string{"--hook", p.path("/home/stopguard-hook"), "--thin", p.another("/home/another-hook")}
	before := tree(t, p.root)
	out, err := p.do(newInstall(), both...)
	p.must(err)
	wantSaid(t, out, "installed  "+p.path(thinProgram), "linked     "+p.path(thinLink))
	if p.content(thinProgram) == p.content(hookProgram) {
		t.Error("it is the other program")
	}
	p.install()
	if p.exists(thinProgram) || p.exists(thinLink) {
		t.Error("an old one stays")
	}
	_, err = p.do(newInstall(), both...)
	p.must(err)
	_, err = p.do(newUninstall())
	p.must(err)
	after := tree(t, p.root)
	for _, all := range []map[string]string{before, after} {
		maps.DeleteFunc(all, func(_, what string) bool { return strings.HasPrefix(what, "d") })
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	t.Run("what is no program is refused", func(t *testing.T) {
		p.put("/home/text", "text", 0o755)
		_, err := p.do(newInstall(), "--hook", p.path("/home/stopguard-hook"), "--thin", p.path("/home/text"))
		if err == nil || !strings.Contains(err.Error(), "--thin") || p.exists(hookProgram) {
			t.Error(err)
		}
	})
	t.Run("somebody else's is left", func(t *testing.T) {
		p.put(thinProgram, "theirs", 0o755)
		p.install()
		if p.content(thinProgram) != "theirs" {
			t.Error("it was removed")
		}
	})
}

func TestUninstallLeavesWhatIsTheSites(t *testing.T) {
	p := bare(t)
	p.install()
	for _, name := range []string{hostpath.Policy + "/ours.rego", hostpath.List, "/var/lib/stopguard/tickets/x.json", "/var/log/stopguard/decisions.jsonl", hooksFolder + "/qemu.d/20-network"} {
		p.put(name, "ours", 0o600)
	}
	_, err := p.do(newUninstall())
	p.must(err)
	for _, name := range []string{hostpath.Policy + "/ours.rego", hostpath.List, "/var/lib/stopguard/tickets/x.json", "/var/log/stopguard/decisions.jsonl", hooksFolder + "/qemu.d/20-network"} {
		if p.content(name) != "ours" {
			t.Error(name)
		}
	}
	if p.exists(hookFile) || p.exists(hookProgram) {
		t.Error("not removed")
	}
}

func TestUninstallLeavesWhatWasChanged(t *testing.T) {
	t.Run("a hook, and then all that it needs", func(t *testing.T) {
		p := bare(t)
		p.install()
		p.put(hookFile, hookproto.Front+"# mine\n", 0o755)
		before := tree(t, p.root)
		_, err := p.do(newUninstall())
		if err == nil || !strings.Contains(err.Error(), "nothing was removed") {
			t.Error(err)
		}
		if diff := cmp.Diff(before, tree(t, p.root)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a program", func(t *testing.T) {
		p := bare(t)
		p.install()
		p.put(hookProgram, "mine", 0o755)
		out, err := p.do(newUninstall())
		p.must(err)
		if p.content(hookProgram) != "mine" || p.exists(hookFile) {
			t.Error(out)
		}
		wantSaid(t, out, "left       "+p.path(hookProgram)+", which was changed")
	})
	t.Run("nothing that install did not put there", func(t *testing.T) {
		p := bare(t)
		p.put(hookFile, hookproto.Front, 0o755) // by hand, as the README says
		out, err := p.do(newUninstall())
		p.must(err)
		if !p.exists(hookFile) {
			t.Error(out)
		}
	})
}

// Killed at any moment, install leaves what uninstall can remove.
func TestAnInstallationThatWasCutOffCanBeUndone(t *testing.T) {
	p := bare(t)
	i := installer{host: p.host, out: &strings.Builder{}, source: p.path("/home/stopguard-hook")}
	parts, err := i.parts()
	p.must(err)
	r := receipt{}.with(parts)
	p.must(i.folders(&r, parts))
	p.must(i.keep(r))
	p.must(i.place(parts[0]))
	_, err = p.do(newUninstall())
	p.must(err)
	if p.exists(hookProgram) || p.exists(receiptFile) {
		t.Error("left")
	}
}

// older has the host be as versions left it that put the programs where the links are now.
func (p *patient) older() {
	p.t.Helper()
	p.put(hookLink, p.content("/home/stopguard-hook"), 0o755)
	p.put(thinLink, p.content("/home/stopguard-hook"), 0o755)
	p.put(hookFile, hookproto.Front, 0o755)
	sum := []string{sumOf([]byte(p.content(hookLink)))}
	files := map[string][]string{hookLink: sum, thinLink: sum, hookFile: {sumOf([]byte(hookproto.Front))}}
	p.folder(filepath.Dir(receiptFile))
	p.must(p.keep(receipt{Files: files, Folders: []string{}}))
}

func TestAnOlderInstallationIsTakenOver(t *testing.T) {
	for _, tt := range []struct {
		why  string
		thin bool
	}{{"with the thin program again", true}, {"without it", false}} {
		t.Run(tt.why, func(t *testing.T) {
			p := bare(t)
			before := tree(t, p.root)
			p.older()
			args := []string{"--hook", p.another("/home/another-hook")}
			if tt.thin {
				args = append(args, "--thin", p.path("/home/stopguard-hook"))
			}
			out, err := p.do(newInstall(), args...)
			p.must(err)
			wantSaid(t, out, "installed  "+p.path(hookProgram), "linked     "+p.path(hookLink), "unchanged  "+p.path(hookFile))
			if to, _ := os.Readlink(p.path(thinLink)); (to == "../sbin/stopguard-hook-thin") != tt.thin || p.exists(thinProgram) != tt.thin || p.exists(thinLink) != tt.thin {
				t.Error("the thin program's link leads to", to)
			}
			_, err = p.do(newUninstall())
			p.must(err)
			for name := range tree(t, p.root) {
				if _, old := before[name]; !old && strings.Contains(name, "stopguard-hook") {
					t.Error(name, "is left")
				}
			}
		})
	}
	t.Run("not one that was changed", func(t *testing.T) {
		p := bare(t)
		p.older()
		p.put(hookLink, "mine", 0o755)
		if _, err := p.do(newInstall(), "--hook", p.another("/home/another-hook")); err == nil || p.content(hookLink) != "mine" || p.exists(hookProgram) {
			t.Error(err)
		}
	})
	t.Run("uninstalled by this version, all of it goes", func(t *testing.T) {
		p := bare(t)
		p.older()
		_, err := p.do(newUninstall())
		p.must(err)
		for _, name := range []string{hookFile, hookLink, thinLink, receiptFile} {
			if p.exists(name) {
				t.Error(name, "is left")
			}
		}
	})
}

// Between any two steps, what the hook finds by its link is a whole program.
func TestTheLinkNeverComesBeforeItsProgram(t *testing.T) {
	p := bare(t)
	p.older()
	i := installer{host: p.host, out: io.Discard, source: p.path("/home/stopguard-hook"), thin: p.path("/home/stopguard-hook")}
	parts, err := i.parts()
	p.must(err)
	p.must(i.folders(&receipt{}, parts))
	want := p.content("/home/stopguard-hook")
	for _, part := range parts {
		p.must(i.place(part))
		if p.content(hookLink) != want || p.content(thinLink) != want {
			t.Error("after", part.path)
		}
	}
}

func TestALinkThatWasChangedIsLeft(t *testing.T) {
	p := bare(t)
	p.install()
	p.link("../../opt/hook", hookLink)
	out, err := p.do(newUninstall())
	p.must(err)
	if to, _ := os.Readlink(p.path(hookLink)); to != "../../opt/hook" || p.exists(hookProgram) {
		t.Error(out)
	}
	wantSaid(t, out, "left       "+p.path(hookLink))
}

func TestWhatAPackageBroughtIsNotInstalledOver(t *testing.T) {
	p := bare(t)
	p.install() // before the package came
	p.packaged()
	before := tree(t, p.root)
	i := installer{host: p.host, out: io.Discard, source: p.path("/home/stopguard-hook")}
	for what, err := range map[string]error{"install": i.install(), "uninstall": i.uninstall()} {
		if err == nil || !strings.Contains(err.Error(), "belongs to the package stopguard") || !strings.Contains(err.Error(), "; ") {
			t.Error(what, err)
		}
	}
	if diff := cmp.Diff(before, tree(t, p.root)); diff != "" {
		t.Error(diff)
	}
}

func TestWhereAPackageBroughtTheHookItIsTheCure(t *testing.T) {
	for _, tt := range []struct {
		why, cure string
		plant     func(*patient)
	}{
		{"the program is gone", "apt-get install --reinstall stopguard", func(p *patient) { p.remove(hookProgram) }},
		{"the link is gone", "apt-get install --reinstall stopguard", func(p *patient) { p.remove(hookLink) }},
		{"the link leads elsewhere", "apt-get install --reinstall stopguard", func(p *patient) { p.link("../sbin/none", hookLink) }},
		{"there is a copy", "apt-get install --reinstall stopguard", func(p *patient) { p.copied(hookLink) }},
		{"AppArmor", "apt-get install --reinstall stopguard; or allow it in /etc/apparmor.d/local/usr.sbin.libvirtd", func(p *patient) {
			p.put("/etc/apparmor.d/usr.sbin.libvirtd", debianProfile, 0o644)
			p.remove(hookProgram)
			p.program(hookLink)
		}},
		{"the hook file was deleted, and stays so", "install -m 0755 /usr/share/stopguard/50-stopguard " + hookFile, func(p *patient) { p.remove(hookFile) }},
		{"the hook file was changed", "move it out of qemu.d, and then: install -m 0755 /usr/share/stopguard/50-stopguard " + hookFile,
			func(p *patient) { p.put(hookFile, hookproto.Front+"# mine\n", 0o755) }},
		{"the unit is gone", "apt-get install --reinstall stopguard", func(p *patient) { p.remove(unitFolder) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy(t)
			p.packaged()
			tt.plant(p)
			var cures []string
			for _, f := range p.examine(context.Background()).Findings {
				if f.Severity != severityOK {
					cures = append(cures, f.Cure)
				}
			}
			if diff := cmp.Diff([]string{tt.cure}, cures); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The hook is no file of the package, so the gate must not ask whether it is there.
func TestTheGateComesToAPackagedHostWhoseHookWasDeleted(t *testing.T) {
	p, _ := withSystemd(t)
	p.program("/home/stopguard-gate")
	p.packaged()
	g := gate{installer: installer{source: p.path("/home/stopguard-gate")}, answers: func() error { return nil }}
	p.must(g.after(installer{host: p.host, out: io.Discard}, func() error { return errors.New("the hook was touched") }))
}

func TestDpkgAndRPMAreAskedWhoseAFileIs(t *testing.T) {
	if b, ok := packages(t.TempDir() + "/nobody's"); ok {
		t.Error(b)
	}
	for _, file := range []string{"/usr/bin/dpkg", "/usr/bin/rpm"} {
		name := filepath.Base(file)
		if _, err := os.Stat(file); err != nil {
			continue // a machine has the one or the other, or none
		}
		if _, err := os.Stat(map[string]string{"dpkg": "/var/lib/dpkg/info/dpkg.list", "rpm": "/var/lib/rpm/rpmdb.sqlite"}[name]); err != nil {
			continue
		}
		if b, ok := packages(file); !ok || b.name != name || !strings.Contains(b.again, "reinstall "+name) && !strings.Contains(b.again, "--reinstall "+name) {
			t.Error(file, b, ok)
		}
	}
}
