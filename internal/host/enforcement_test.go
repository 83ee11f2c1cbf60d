package host_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

func TestWhatCanRefuseOnAHost(t *testing.T) {
	healthy := hosttest.Healthy(t)
	stock := func(p *hosttest.Fixture) { p.Library(hosttest.StockOperations) }
	front := func(p *hosttest.Fixture) { p.Put(unit.Monolithic.Move().Path, "", 0o644) }
	runs := func(p *hosttest.Fixture) { p.Put("/proc/99/comm", "stopguard-gate\n", 0o444) }
	for _, tt := range []struct {
		why       string
		plant     []func(*hosttest.Fixture)
		operation string
		by        []string
		known     bool
		says      []string // of the line, if nothing can refuse
	}{
		{"a libvirt that calls the hook", nil, "stop", []string{"hook"}, true, nil},
		{"every released libvirt", []func(*hosttest.Fixture){stock}, "stop", nil, true,
			[]string{"a stop: this libvirt does not call the hook for a stop, and no gate is in front of it; put one there: stopguard install --restart --gate FILE"}},
		{"nothing of libvirt is found", []func(*hosttest.Fixture){func(p *hosttest.Fixture) { p.NoLibrary() }}, "stop", nil, false, nil},
		{"the hook is switched off", []func(*hosttest.Fixture){func(p *hosttest.Fixture) { p.Chmod(host.HookFile, 0o644) }}, "stop", nil, true,
			[]string{"there is no hook of stopguard that libvirt may run", "chmod 0755 "}},
		{"only a leftover of the hook is there", []func(*hosttest.Fixture){func(p *hosttest.Fixture) {
			p.Remove(host.HookFile)
			p.Put(host.HooksFolder+"/qemu.d/other", "#!/bin/sh\n", 0o755)
		}}, "stop", nil, true, []string{"stopguard install"}},
		{"libvirt looks for hooks elsewhere", []func(*hosttest.Fixture){func(p *hosttest.Fixture) {
			library := hosttest.LibraryHere(hosttest.PatchedOperations)
			library.HooksFolder = "/var/lib/libvirt/hooks"
			p.Put(hosttest.LibraryPath, string(library.Bytes()), 0o644)
		}}, "stop", nil, true, []string{"looks for hooks in /var/lib/libvirt/hooks"}},
		{"a gate", []func(*hosttest.Fixture){stock, front, runs}, "stop", []string{"gate"}, true, nil},
		{"both", []func(*hosttest.Fixture){front, runs}, "stop", []string{"hook", "gate"}, true, nil},
		{"a gate that does not run", []func(*hosttest.Fixture){stock, front}, "stop", nil, true, []string{"the gate does not run; systemctl enable --now stopguard-gate.socket stopguard-gate.service"}},
		{"a gate that is switched off", []func(*hosttest.Fixture){stock, front, runs, func(p *hosttest.Fixture) { p.Put(host.GateOff, "", 0o644) }}, "stop", nil, true,
			[]string{"the gate is switched off; rm "}},
		{"a gate that somebody put there by hand", []func(*hosttest.Fixture){stock, runs}, "stop", nil, false, nil},
		{"systemd says whether the gate's socket is there", []func(*hosttest.Fixture){stock, front, func(p *hosttest.Fixture) {
			p.Systemd(map[string]string{"ActiveState --value " + host.GateSocket: "active"})
		}}, "stop", []string{"gate"}, true, nil},
		{"systemd says that it is not", []func(*hosttest.Fixture){stock, front, runs, func(p *hosttest.Fixture) {
			p.Systemd(map[string]string{"ActiveState": "failed"})
		}}, "stop", nil, true, []string{"the gate does not run"}},
		{"no hook is asked about a reset", nil, "reset", nil, true, []string{"a reset: a hook is not asked about it, and no gate is in front of it"}},
		{"nothing of libvirt is found, and no hook is asked about a reset", []func(*hosttest.Fixture){func(p *hosttest.Fixture) { p.NoLibrary() }}, "reset", nil, false, nil},
		{"a gate is", []func(*hosttest.Fixture){front, runs}, "reset", []string{"gate"}, true, nil},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy.Sub(t)
			for _, plant := range tt.plant {
				plant(p)
			}
			e := p.Enforcement(tt.operation)
			if diff := cmp.Diff(append([]string{}, tt.by...), e.By); diff != "" || e.Known != tt.known || e.Enforced != (len(tt.by) > 0) {
				t.Errorf("%s%+v", diff, e)
			}
			text := e.Text(tt.operation)
			if (text != "") != (tt.known && len(tt.by) == 0) || strings.Contains(text, "\n") {
				t.Errorf("%q", text)
			}
			for _, part := range tt.says {
				if !strings.Contains(text, part) {
					t.Errorf("%q is not in %q", part, text)
				}
			}
			if !e.Enforced && (e.Why == "" || e.Cure == "") {
				t.Errorf("%+v does not say why, or what to do", e)
			}
		})
	}
}

// The library of the running daemon counts, not the one on disk for the next daemon.
func TestTheLibraryOfTheDaemonThatRunsCounts(t *testing.T) {
	p := hosttest.Healthy(t)
	p.Put("/nix/store/x-libvirt/lib/libvirt.so.0.11003.0", string(hosttest.LibraryHere(hosttest.StockOperations).Bytes()), 0o644)
	p.Put(fmt.Sprintf("/proc/%d/maps", hosttest.DaemonPID), "7f00-7f01 r-xp 00000000 08:01 42   /nix/store/x-libvirt/lib/libvirt.so.0.11003.0\n", 0o444)
	if e := p.Enforcement("stop"); e.Enforced || !e.Known {
		t.Errorf("%+v", e)
	}
}
