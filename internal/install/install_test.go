package install

import (
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
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
	p := newSite(t)
	before := hosttest.Tree(t, p.Root)
	out := p.install()
	after := hosttest.Tree(t, p.Root)
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
	if p.Content(host.HookFile) != hookproto.Front || p.Content(host.HookProgram) != p.Content("/home/stopguard-hook") {
		t.Error("other content")
	}
	if to, _ := os.Readlink(p.Path(host.HookLink)); to != "../sbin/stopguard-hook" || p.Content(host.HookLink) != p.Content(host.HookProgram) {
		t.Error("the link leads to", to)
	}
	wantSaid(t, out, "installed  "+p.Path(host.HookFile), "Next:", "systemctl reload", "systemctl enable --now", "stopguard doctor", "chmod -x")
}

func TestInstallMayBeRunAgain(t *testing.T) {
	p := newSite(t)
	p.install()
	before := hosttest.Tree(t, p.Root)
	out := p.install()
	after := hosttest.Tree(t, p.Root)
	for _, all := range []map[string]string{before, after} {
		delete(all, manifestFile) // written anew
		maps.DeleteFunc(all, func(_, what string) bool { return strings.HasPrefix(what, "d") })
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	wantSaid(t, out, "unchanged  "+p.Path(host.HookFile), "unchanged  "+p.Path(host.HookProgram), "unchanged  "+p.Path(host.HookLink))
}

func TestInstallAgainReplacesWhatItPutThere(t *testing.T) {
	p := newSite(t)
	p.install()
	other := p.Another("/home/another-hook")
	out, err := p.do(Command(), "--hook", other)
	p.Must(err)
	wantSaid(t, out, "installed  "+p.Path(host.HookProgram), "unchanged  "+p.Path(host.HookFile))
	p.install() // and back
	if p.Content(host.HookProgram) != p.Content("/home/stopguard-hook") {
		t.Error("not replaced")
	}
}

// libvirt's daemon does not look for hooks again: one that noticed the former runs this one.
func TestAReplacedHookIsAsOldAsTheFormer(t *testing.T) {
	p := newSite(t)
	p.install()
	former := hookproto.Front + "# of another version\n"
	p.Put(host.HookFile, former, 0o755)
	p.Must(installer{Host: p.Host}.writeManifest(manifest{Files: map[string][]string{
		host.HookFile: {sumOf([]byte(former))}, host.HookProgram: {sumOf([]byte(p.Content(host.HookProgram)))},
	}, Links: map[string]string{host.HookLink: "../sbin/stopguard-hook"}, Folders: []string{}}))
	came := time.Now().Add(-time.Hour).Truncate(time.Second)
	p.HookSince(-time.Hour, 0)
	wantSaid(t, p.install(), "installed  "+p.Path(host.HookFile))
	hook, ok := p.RunningHook()
	if !ok || hook.Came.Sub(came).Abs() > time.Minute {
		t.Errorf("%+v, and not %v", hook, came)
	}
	p.Chmod(host.HookFile, 0o644)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 50*time.Millisecond))) // the note has a resolution of a second
	p.Chmod(host.HookFile, 0o755)
	if hook, ok = p.RunningHook(); !ok || time.Since(hook.Came) > time.Minute {
		t.Errorf("switched off and on: %+v", hook)
	}
	if _, err := p.do(Uninstall()); err != nil || p.Exists(host.HookSince) {
		t.Error(err, "or the note is left")
	}
}

func TestInstallSwitchesTheHookOnAgain(t *testing.T) {
	p := newSite(t)
	p.install()
	p.Chmod(host.HookFile, 0o644)
	out := p.install()
	info, err := os.Stat(p.Path(host.HookFile))
	p.Must(err)
	if info.Mode().Perm() != 0o755 {
		t.Error(info.Mode())
	}
	wantSaid(t, out, "(was 0644)")
}

func TestInstallStopsBeforeItTouchesWhatIsNotItsOwn(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		plant     func(*site)
		want      string
	}{
		{"another hook in its place", "", func(p *site) { p.Put(host.HookFile, "#!/bin/sh\n", 0o755) }, "was not put there by install"},
		{"its own hook, changed", "", func(p *site) { p.install(); p.Put(host.HookFile, hookproto.Front+"# mine\n", 0o755) }, "was changed since"},
		{"another program in its place", "", func(p *site) { p.Put(host.HookProgram, "\x7fELF", 0o755) }, host.HookProgram},
		{"another program where the link belongs", "", func(p *site) { p.Put(host.HookLink, "\x7fELF", 0o755) }, host.HookLink},
		{"the very program where the link belongs", "it is somebody's", func(p *site) { p.Program(host.HookLink) }, host.HookLink},
		{"a link to somewhere else", "", func(p *site) { p.Link("../../opt/hook", host.HookLink) }, host.HookLink + ": is a link"},
		{"its own link, in a folder that everybody can change", "", func(p *site) { p.install(); p.Chmod("/usr/libexec", 0o777) }, "writable by everyone"},
		{"another unit in its place", "", func(p *site) { p.Put(host.UnitFolder+"/"+host.ShutdownUnit, "[Unit]\n", 0o644) }, host.ShutdownUnit},
		{"a link in its place", "what it leads to is somebody's", func(p *site) {
			p.Put("/etc/mine", "", 0o644)
			p.Link("../../../mine", host.HookFile)
		}, "is a link"},
		{"a folder in its place", "", func(p *site) { p.Folder(host.HookFile) }, "is a folder"},
		{"a hooks folder that everybody can change", "root would run what they put there", func(p *site) {
			p.Folder(filepath.Dir(host.HookFile))
			p.Chmod(filepath.Dir(host.HookFile), 0o777)
		}, "writable by everyone"},
		{"a broken manifest", "", func(p *site) { p.Put(manifestFile, "{", 0o644) }, manifestFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newSite(t)
			tt.plant(p)
			before := hosttest.Tree(t, p.Root)
			_, err := p.do(Command(), "--hook", p.Path("/home/stopguard-hook"))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "; ") {
				t.Errorf("%s: %v", tt.why, err)
			}
			if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInstallTakesNoFlagForAFile(t *testing.T) {
	p := newSite(t)
	for _, name := range []string{"--gate", "--hook", "--thin"} {
		if _, err := p.do(Command(), name, "--restart"); err == nil || err.Error() != name+" needs a FILE before --restart" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHostWithoutSystemdGetsNoUnit(t *testing.T) {
	p := newSite(t)
	p.Remove("/usr/lib/systemd")
	out := p.install()
	if p.Exists("/etc/systemd") || strings.Contains(out, "systemctl enable") {
		t.Error(out)
	}
}

func TestOnlyRootInstallsOnAHost(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("is root")
	}
	t.Setenv("STOPGUARD_ROOT", "")
	for _, cmd := range []*cobra.Command{Command(), Uninstall()} {
		cmd.SetArgs(nil)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "only root") {
			t.Error(err)
		}
	}
}

func TestReloadIsForThisHostOnly(t *testing.T) {
	p := newSite(t)
	if _, err := p.do(Command(), "--reload"); err == nil || !strings.Contains(err.Error(), "STOPGUARD_ROOT") {
		t.Error(err)
	}
}

func TestReloadAsksSystemdFirst(t *testing.T) {
	p := newSite(t)
	var calls []string
	var out strings.Builder
	p.Systemctl = func(args ...string) (string, error) {
		calls = append(calls, strings.Join(args, " "))
		if args[0] == "is-active" && args[2] == "libvirtd.service" {
			return "", syscall.ESRCH
		}
		return "", nil
	}
	p.Must(installer{Host: p.Host, out: &out}.reloadDaemons())
	want := []string{"is-active --quiet libvirtd.service", "is-active --quiet virtqemud.service", "reload virtqemud.service"}
	if diff := cmp.Diff(want, calls); diff != "" {
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
			p := newSite(t)
			// The test's parent may ignore SIGHUP, which a child would inherit.
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			child := exec.Command("sleep", "60")
			p.Must(child.Start())
			pid := strconv.Itoa(child.Process.Pid)
			p.Put("/run/libvirtd.pid", pid+"\n", 0o644)
			p.Put("/proc/"+pid+"/comm", tt.comm+"\n", 0o444)
			var out strings.Builder
			p.Must(installer{Host: p.Host, out: &out}.reloadDaemons())
			if !tt.signalled {
				p.Must(child.Process.Kill())
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
	p := newSite(t)
	both := []string{"--hook", p.Path("/home/stopguard-hook"), "--thin", p.Another("/home/another-hook")}
	before := hosttest.Tree(t, p.Root)
	out, err := p.do(Command(), both...)
	p.Must(err)
	wantSaid(t, out, "installed  "+p.Path(host.ThinProgram), "linked     "+p.Path(host.ThinLink))
	if p.Content(host.ThinProgram) == p.Content(host.HookProgram) {
		t.Error("it is the other program")
	}
	p.install()
	if p.Exists(host.ThinProgram) || p.Exists(host.ThinLink) {
		t.Error("an old one stays")
	}
	_, err = p.do(Command(), both...)
	p.Must(err)
	_, err = p.do(Uninstall())
	p.Must(err)
	after := hosttest.Tree(t, p.Root)
	for _, all := range []map[string]string{before, after} {
		maps.DeleteFunc(all, func(_, what string) bool { return strings.HasPrefix(what, "d") })
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	t.Run("what is no program is refused", func(t *testing.T) {
		p.Put("/home/text", "text", 0o755)
		_, err := p.do(Command(), "--hook", p.Path("/home/stopguard-hook"), "--thin", p.Path("/home/text"))
		if err == nil || !strings.Contains(err.Error(), "--thin") || p.Exists(host.HookProgram) {
			t.Error(err)
		}
	})
	t.Run("somebody else's is left", func(t *testing.T) {
		p.Put(host.ThinProgram, "theirs", 0o755)
		p.install()
		if p.Content(host.ThinProgram) != "theirs" {
			t.Error("it was removed")
		}
	})
}
