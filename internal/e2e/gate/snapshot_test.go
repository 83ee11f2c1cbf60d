//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// Guests whose disks can hold snapshots, memory included.
var (
	guardedQcow = e2ehost.Guest{Name: "protected-04", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c14", Format: "qcow2"}
	freeQcow    = e2ehost.Guest{Name: "web-05", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a62", Format: "qcow2"}
	controlQcow = e2ehost.Guest{Name: "web-06", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a63", Format: "qcow2"} // past the gate
)

// A snapshotCase is one command, as a virshCase. Before each there is a snapshot "before", taken
// when the guest had just booted. The guest has received another byte since.
type snapshotCase struct {
	virshCase
	taken  string // the snapshot that the domain has afterwards; "" for none
	memory string // the byte that the unprotected guest remembers afterwards; "" if it is off
}

var snapshotCases = []snapshotCase{
	{virshCase{name: "SNAPSHOT_CREATE_XML, halt", args: "snapshot-create-as DOM s --halt", after: "shut off (from snapshot)"}, "s", ""},
	{virshCase{name: "SNAPSHOT_CREATE_XML", args: "snapshot-create-as DOM s"}, "s", e2ehost.Kept},
	{virshCase{name: "REVERT_TO_SNAPSHOT", args: "snapshot-revert DOM before", after: "running (from snapshot)"}, "", e2ehost.Fresh},
	{virshCase{name: "REVERT_TO_SNAPSHOT, running", args: "snapshot-revert DOM before --running --force", after: "running (from snapshot)"}, "", e2ehost.Fresh},
	{virshCase{name: "REVERT_TO_SNAPSHOT, paused", args: "snapshot-revert DOM before --paused", after: "paused (from snapshot)"}, "", ""},

	// Pass: the guest runs on meanwhile.
	{virshCase{name: "SNAPSHOT_CREATE_XML, live", args: "snapshot-create-as DOM live --live --memspec /run/libvirt/DOM.memory --diskspec hda,file=/var/lib/libvirt/images/DOM.live", passes: true}, "live", e2ehost.Kept},
	{virshCase{name: "SNAPSHOT_CREATE_XML, disks alone", args: "snapshot-create-as DOM alone --disk-only --diskspec hda,file=/var/lib/libvirt/images/DOM.alone", passes: true}, "alone", e2ehost.Kept},
}

func (h *host) snapshots() {
	h.begin()
	all := []e2ehost.Guest{guardedQcow, freeQcow, controlQcow}
	for _, g := range all {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
		h.DirectOK("snapshot-create-as", g.Name, "before")
		h.Remind(g)
	}
	note := func(name string, g e2ehost.Guest, s step) {
		s.Name = name
		s.State = h.State(g)
		s.Snapshots = strings.Fields(h.OnDirect("snapshot-list", "--name", g.Name).Stdout)
		s.Memory = h.memory(g)
		h.seen = append(h.seen, s)
	}
	for _, c := range snapshotCases {
		h.Doing = c.name
		note(c.name, guardedQcow, step{Through: h.Virsh(c.on(guardedQcow.Name)...)})
		var s step
		both(func() { s.Through = h.Virsh(c.on(freeQcow.Name)...) }, func() { s.Direct = h.OnDirect(c.on(controlQcow.Name)...) })
		note(c.name, freeQcow, s)
		for _, g := range all {
			switch state := h.State(g); {
			case strings.HasPrefix(state, off):
				h.DirectOK("start", g.Name)
			case strings.HasPrefix(state, paused):
				h.DirectOK("resume", g.Name)
			}
			_ = h.OnDirect("snapshot-delete", g.Name, "s")
			h.Remind(g)
		}
	}
}

func TestASnapshotNeitherEndsAProtectedGuestNorTakesItBack(t *testing.T) {
	seen := on(t, "snapshots")
	if len(seen) != 2*len(snapshotCases) {
		t.Fatalf("%d steps, want %d", len(seen), 2*len(snapshotCases))
	}
	for i, c := range snapshotCases {
		onProtected, onFree := seen[2*i], seen[2*i+1]
		t.Run(c.name, func(t *testing.T) {
			c.check(t, guardedQcow, onProtected.Through)
			if !strings.HasPrefix(onProtected.State, "running") || onProtected.Memory != e2ehost.Kept {
				t.Errorf("the protected guest is %s, its memory %s", onProtected.State, onProtected.Memory)
			}
			if slices.Contains(onProtected.Snapshots, c.taken) != c.passes {
				t.Errorf("the protected guest has the snapshots %q", onProtected.Snapshots)
			}
			if onFree.Through.Exit != 0 || !c.reached(onFree.State) || onFree.Memory != c.memory {
				t.Errorf("the other guest is %s, its memory %q; want %q, %q", onFree.State, onFree.Memory, c.after, c.memory)
			}
			if c.taken != "" && !slices.Contains(onFree.Snapshots, c.taken) {
				t.Errorf("the other guest has the snapshots %q", onFree.Snapshots)
			}
			c.same(t, onFree, freeQcow, controlQcow)
		})
	}
}
