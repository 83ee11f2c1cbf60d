package tool

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostpath"
)

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
