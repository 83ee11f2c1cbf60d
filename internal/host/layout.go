package host

import (
	"slices"

	"github.com/stopguard/stopguard/internal/gate/unit"
)

// HasGate reports whether the gate, or a part of its installation, is on the host.
func (h Host) HasGate() bool {
	return h.InFront() || slices.ContainsFunc([]string{GateManifest, UnitFolder + "/" + GateSocket, UnitFolder + "/" + GateService, unit.UpstreamFolder}, h.Exists)
}

// InFront reports whether the gate stands in front of libvirt's daemon.
func (h Host) InFront() bool {
	_, inFront := h.Guarded()
	return inFront
}

// Guarded returns the layout in which the gate stands. It reports false if the gate is not in front
// of a daemon.
func (h Host) Guarded() (unit.Layout, bool) {
	for _, l := range unit.Layouts {
		if h.Exists(l.Move().Path) {
			return l, true
		}
	}
	return unit.Layout{}, false
}

// Active returns the active unit of a layout's daemon, the socket first; "" if neither is active.
func (h Host) Active(l unit.Layout) string {
	for _, name := range []string{l.Socket(), l.Service()} {
		if h.Systemctl != nil && h.IsActive(name) {
			return name
		}
	}
	return ""
}

// HasMoved reports whether the host now uses another daemon than the one behind the gate.
func (h Host) HasMoved(guarded unit.Layout) bool {
	return h.Active(guarded) == "" && h.Active(guarded.Other()) != ""
}
