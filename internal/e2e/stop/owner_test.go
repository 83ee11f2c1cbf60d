//go:build e2e

package stop

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

var (
	heavy       = e2ehost.Guest{Name: "heavy", UUID: "e0a7b3f4-2d11-4b36-8c56-6f1f0d2c9a01"}
	heavyListed = e2ehost.Guest{Name: "listed-heavy", UUID: "e0a7b3f4-2d11-4b36-8c56-6f1f0d2c9a02"}
	heavyMarked = e2ehost.Guest{Name: "marked-heavy", UUID: "e0a7b3f4-2d11-4b36-8c56-6f1f0d2c9a03", Metadata: mark}
)

// defineHeavy defines a guest whose owner has written 3 MB of quotation marks into its description.
// libvirt writes each as &quot;, so that the hook reads 18 MB.
func (h *host) defineHeavy(g e2ehost.Guest) {
	file := h.Write(g)
	text := strings.Repeat(`"`, 3_000_000)
	h.File(file, strings.Replace(g.XML(), "<metadata>", "<description>"+text+"</description>\n  <metadata>", 1), 0o644)
	h.VirshOK("define", file)
	h.start(g)
}

// owners stops domains with large texts of their owners, and another domain, on a host with a rule
// that counts.
func (h *host) owners() {
	h.File(dataFile, "site:\n  min_running:\n    groups:\n      - {name: dns, min: 1, members: [\"dns-*\"]}\n", 0o644)
	h.StartDaemon()
	for _, g := range []e2ehost.Guest{heavy, heavyListed, heavyMarked} {
		h.Doing = g.Name + " is started"
		h.defineHeavy(g)
	}
	for _, g := range []e2ehost.Guest{member(0), member(1), ordinary} {
		h.guest(g)
	}
	step := func(name string, g e2ehost.Guest, do func(*host, e2ehost.Guest) e2ehost.Answer) {
		h.Doing = name
		h.records(g)
		h.observe(name, g, do(h, g))
	}
	step("another domain beside it", ordinary, destroy)
	step("a member of a group beside it", member(0), destroy)
	step("the last member", member(1), destroy)
	step("a listed one", heavyListed, destroy)
	step("a marked one", heavyMarked, destroy)
	step("a marked one that is dead", heavyMarked, func(h *host, g e2ehost.Guest) e2ehost.Answer {
		h.Signal(h.QEMU(g), syscall.SIGKILL)
		h.awaitState(g, "shut off (crashed)")
		return e2ehost.Answer{}
	})
	step("a listed one with a ticket", heavyListed, func(h *host, g e2ehost.Guest) e2ehost.Answer {
		h.Run("stopguard", "ticket", "grant", g.Name, "--reason", "it may go")
		return destroy(h, g)
	})
	step("one that nothing protects", heavy, destroy)
}

func TestAnOwnersTextIsNoFault(t *testing.T) {
	t.Parallel()
	seen := on(t, "owners")
	for i, want := range []struct{ state, fails, first string }{
		{"shut off (destroyed)", "", "allow"},
		{"shut off (destroyed)", "", "allow"},
		{isRunning, "(rule min_running)", "veto"},
		{isRunning, "(rule protected_list)", "veto"},
		{isRunning, "", "veto"},
		{"shut off (crashed)", "", "moot"},
		{"shut off (destroyed)", "", "allow"},
		{"shut off (destroyed)", "", "allow"},
	} {
		s := seen[i]
		t.Run(s.Name, func(t *testing.T) {
			first, _, _ := strings.Cut(s.Outcomes, " ")
			if s.State != want.state || first != want.first || !strings.Contains(s.Answer.Stderr, want.fails) {
				t.Errorf("%+v, want %+v", s, want)
			}
		})
	}
}
