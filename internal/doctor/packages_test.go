package doctor

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

func TestWhereAPackageBroughtTheHookItIsTheCure(t *testing.T) {
	healthy := newPatient(t)
	for _, tt := range []struct {
		why, cure string
		plant     func(*patient)
	}{
		{"the program is gone", "apt-get install --reinstall stopguard", func(p *patient) { p.Remove(host.HookProgram) }},
		{"the link is gone", "apt-get install --reinstall stopguard", func(p *patient) { p.Remove(host.HookLink) }},
		{"the link leads elsewhere", "apt-get install --reinstall stopguard", func(p *patient) { p.Link("../sbin/none", host.HookLink) }},
		{"there is a copy", "apt-get install --reinstall stopguard", func(p *patient) { p.Copied(host.HookLink) }},
		{"AppArmor", "apt-get install --reinstall stopguard; or allow it in /etc/apparmor.d/local/usr.sbin.libvirtd", func(p *patient) {
			p.Put("/etc/apparmor.d/usr.sbin.libvirtd", hosttest.DebianProfile, 0o644)
			p.Remove(host.HookProgram)
			p.Program(host.HookLink)
		}},
		{"the hook file was deleted, and stays so", "install -m 0755 /usr/share/stopguard/50-stopguard " + host.HookFile, func(p *patient) { p.Remove(host.HookFile) }},
		{"the hook file was changed", "move it out of qemu.d, and then: install -m 0755 /usr/share/stopguard/50-stopguard " + host.HookFile,
			func(p *patient) { p.Put(host.HookFile, hookproto.Front+"# mine\n", 0o755) }},
		{"the unit is gone", "apt-get install --reinstall stopguard", func(p *patient) { p.Remove(host.UnitFolder) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy.sub(t)
			p.Packaged()
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
