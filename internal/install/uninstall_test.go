package install

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
	"github.com/stopguard/stopguard/internal/hostpath"
)

func TestUninstallRemovesWhatInstallPutThere(t *testing.T) {
	p := newSite(t)
	before := hosttest.Tree(t, p.Root)
	p.install()
	p.Link("../"+host.ShutdownUnit, host.UnitFolder+"/multi-user.target.wants/"+host.ShutdownUnit)
	out, err := p.do(Uninstall())
	p.Must(err)
	after := hosttest.Tree(t, p.Root)
	// The folder of links was systemctl's, and so stays, and those above it.
	for _, left := range []string{"/etc/systemd", host.UnitFolder, host.UnitFolder + "/multi-user.target.wants"} {
		delete(after, left)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	wantSaid(t, out, "removed    "+p.Path(host.HookFile), "daemon-reload")
	out, err = p.do(Uninstall())
	p.Must(err)
	wantSaid(t, out, "Nothing on this host")
}

func TestUninstallLeavesWhatIsTheSites(t *testing.T) {
	p := newSite(t)
	p.install()
	for _, name := range []string{hostpath.Policy + "/ours.rego", hostpath.List, "/var/lib/stopguard/tickets/x.json", "/var/log/stopguard/decisions.jsonl", host.HooksFolder + "/qemu.d/20-network"} {
		p.Put(name, "ours", 0o600)
	}
	_, err := p.do(Uninstall())
	p.Must(err)
	for _, name := range []string{hostpath.Policy + "/ours.rego", hostpath.List, "/var/lib/stopguard/tickets/x.json", "/var/log/stopguard/decisions.jsonl", host.HooksFolder + "/qemu.d/20-network"} {
		if p.Content(name) != "ours" {
			t.Error(name)
		}
	}
	if p.Exists(host.HookFile) || p.Exists(host.HookProgram) {
		t.Error("not removed")
	}
}

func TestUninstallLeavesWhatWasChanged(t *testing.T) {
	t.Run("a hook, and then all that it needs", func(t *testing.T) {
		p := newSite(t)
		p.install()
		p.Put(host.HookFile, hookproto.Front+"# mine\n", 0o755)
		before := hosttest.Tree(t, p.Root)
		_, err := p.do(Uninstall())
		if err == nil || !strings.Contains(err.Error(), "nothing was removed") {
			t.Error(err)
		}
		if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a program", func(t *testing.T) {
		p := newSite(t)
		p.install()
		p.Put(host.HookProgram, "mine", 0o755)
		out, err := p.do(Uninstall())
		p.Must(err)
		if p.Content(host.HookProgram) != "mine" || p.Exists(host.HookFile) {
			t.Error(out)
		}
		wantSaid(t, out, "left       "+p.Path(host.HookProgram)+", which was changed")
	})
	t.Run("nothing that install did not put there", func(t *testing.T) {
		p := newSite(t)
		p.Put(host.HookFile, hookproto.Front, 0o755) // by hand, as in the README
		out, err := p.do(Uninstall())
		p.Must(err)
		if !p.Exists(host.HookFile) {
			t.Error(out)
		}
	})
}

// If install is killed at any moment, uninstall can remove its files.
func TestAnInstallationThatWasCutOffCanBeUndone(t *testing.T) {
	p := newSite(t)
	i := installer{Host: p.Host, out: &strings.Builder{}, source: p.Path("/home/stopguard-hook")}
	parts, err := i.parts()
	p.Must(err)
	r := manifest{}.with(parts)
	p.Must(i.folders(&r, parts))
	p.Must(i.writeManifest(r))
	p.Must(i.place(parts[0]))
	_, err = p.do(Uninstall())
	p.Must(err)
	if p.Exists(host.HookProgram) || p.Exists(manifestFile) {
		t.Error("left")
	}
}

func TestALinkThatWasChangedIsLeft(t *testing.T) {
	p := newSite(t)
	p.install()
	p.Link("../../opt/hook", host.HookLink)
	out, err := p.do(Uninstall())
	p.Must(err)
	if to, _ := os.Readlink(p.Path(host.HookLink)); to != "../../opt/hook" || p.Exists(host.HookProgram) {
		t.Error(out)
	}
	wantSaid(t, out, "left       "+p.Path(host.HookLink))
}
