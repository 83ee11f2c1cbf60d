package tool

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/hookproto"
)

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
