package hosttest

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/host"
)

func TestMain(m *testing.M) { Main(m) }

func TestASubtestLeavesTheHostAsItWas(t *testing.T) {
	p := Healthy(t)
	before := contents(t, p.Root)
	for _, tt := range []struct {
		why    string
		change func(p *Fixture)
	}{
		{"a file more, in a folder more", func(p *Fixture) { p.Put("/srv/a/b", "b", 0o644) }},
		{"a file in the place of a file", func(p *Fixture) { p.Put(host.HookFile, "#!/bin/sh\n", 0o600) }},
		{"the same file again and again", func(p *Fixture) {
			for range 3 {
				p.Put(host.HookFile, "#!/bin/sh\n", 0o600)
			}
			p.Remove(host.HookFile)
		}},
		{"a file in the place of a folder", func(p *Fixture) { p.Put("/var/log/stopguard", "", 0o600) }},
		{"a folder in the place of a file", func(p *Fixture) { p.Remove(host.HookFile); p.Folder(host.HookFile + "/a") }},
		{"a folder without what was in it", func(p *Fixture) { p.Remove("/proc"); p.Process(1, "init", 0, Booted) }},
		{"a link in the place of a file", func(p *Fixture) { p.Link("../front", host.HookFile) }},
		{"a program in the place of a link", func(p *Fixture) { p.Program(host.HookLink) }},
		{"a copy with another mode in the place of a program", func(p *Fixture) { p.Copied(host.HookProgram); p.Chmod(host.HookProgram, 0o777) }},
		{"other modes", func(p *Fixture) { p.Chmod(host.HookFile, 0o644); p.Chmod("/run", 0o777); p.Chmod(host.HookFile, 0o600) }},
		{"a mode of what goes", func(p *Fixture) { p.Chmod(host.HookFile, 0o644); p.Remove(host.HookFile) }},
		{"what is not there", func(p *Fixture) { p.Remove("/nowhere") }},
		{"a file system", func(p *Fixture) {
			p.Noexec("/etc/libvirt/hooks/qemu.d")
			p.Put(host.HookFile, "", 0o755)
		}},
		{"answers of systemd's", func(p *Fixture) { p.Systemd(nil) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := p.Sub(t)
			tt.change(p)
		})
		if diff := cmp.Diff(before, contents(t, p.Root)); diff != "" || p.Systemctl != nil {
			t.Fatal(tt.why, diff)
		}
		if left, err := os.ReadDir(p.Root + ".aside"); len(left) > 0 || err != nil {
			t.Fatal(tt.why, left, err)
		}
	}
}
