package tool

import (
	"context"
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
)

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

func TestTheUnitIsTheOneOfTheExample(t *testing.T) {
	want, err := os.ReadFile("../../examples/hook/" + shutdownUnit)
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
