package host

import (
	"slices"

	"github.com/stopguard/stopguard/internal/gate/unit"
)

// HasGate reports whether the gate is on the host, or was meant to be.
func (h Host) HasGate() bool {
	return h.InFront() || slices.ContainsFunc([]string{GateManifest, UnitFolder + "/" + GateSocket, UnitFolder + "/" + GateService, unit.UpstreamFolder}, h.Exists)
}

// InFront reports whether the gate has been put in front of libvirt's daemon.
func (h Host) InFront() bool {
	_, inFront := h.Guarded()
	return inFront
}

// Guarded returns the layout that the gate has been put into. It returns false if the gate is not
// in front of a daemon.
func (h Host) Guarded() (unit.Layout, bool) {
	for _, l := range unit.Layouts {
		if h.Exists(l.Move().Path) {
			return l, true
		}
	}
	return unit.Layout{}, false
}

// Active returns the unit of a layout's daemon that is active, or "". Its socket counts first.
func (h Host) Active(l unit.Layout) string {
	for _, name := range []string{l.Socket(), l.Service()} {
		if h.Systemctl != nil && h.IsActive(name) {
			return name
		}
	}
	return ""
}

// HasMoved reports whether the host uses another daemon by now than the one that the gate has been
// put in front of.
func (h Host) HasMoved(guarded unit.Layout) bool {
	return h.Active(guarded) == "" && h.Active(guarded.Other()) != ""
}
