//go:build e2e

package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// workers has all of libvirtd's workers wait for a guest that hangs, but for those that it keeps
// for calls such as destroy.
func (h *host) workers() {
	const some = 5
	h.prepare("min_workers = 5\nmax_workers = 5\nprio_workers = 5\n")
	h.StartGate()
	h.StartDaemon()
	for _, g := range []e2ehost.Guest{guarded, free} {
		h.StartGuest(g)
	}
	h.Remind(guarded)
	h.Doing = "a guest hangs, and clients ask it"
	h.Freeze(h.QEMU(free))
	for range 2 * some {
		h.Run("sh", "-c", "virsh -c '"+e2ehost.Direct+"' qemu-monitor-command "+free.Name+` '{"execute":"query-status"}' >/dev/null 2>&1 &`)
	}
	h.Until("libvirtd has nobody left for XML", func() bool {
		return h.Command("", h.Environment(), "timeout", "2", "virsh", "-c", e2ehost.Direct, "dumpxml", guarded.Name).Exit == 124
	})
	h.Doing = "guests are ended"
	h.note("a protected one", h.Virsh("destroy", guarded.Name))
	h.note("the one that hangs", h.Virsh("destroy", free.Name))
	h.Until("libvirtd has somebody again", func() bool { return h.OnDirect("dumpxml", guarded.Name).Exit == 0 })
	h.seen = append(h.seen, step{Name: "afterwards", State: h.State(guarded) + "; " + h.State(free), Memory: h.Ask(guarded)})
}

func TestAGuestThatHangsIsEndedWhenLibvirtdIsBusyWithIt(t *testing.T) {
	seen := on(t, "workers")
	want := []step{
		{Name: "a protected one", Through: e2ehost.Answer{Exit: 1, Stdout: "\n", Stderr: "error: Failed to destroy domain '" + guarded.Name + "'\n" + veto(guarded.Name) + "\n"}},
		{Name: "the one that hangs", Through: e2ehost.Answer{Stdout: "Domain '" + free.Name + "' destroyed\n\n"}},
		{Name: "afterwards", State: "running (booted); shut off (destroyed)", Memory: e2ehost.Kept},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}
