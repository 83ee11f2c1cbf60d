//go:build e2e

package e2e

import (
	_ "embed"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// A cluster manager runs this fencing agent: it shuts the guest down, waits, and destroys it. It
// trusts only the guest's state, not the answers.
const fence = `
name=$1
running() { virsh domstate "$name" | grep -qE '^(running|paused|in shutdown)'; }
timeout 2 virsh shutdown "$name" # a guest that hangs never answers
for i in 1 2 3 4 5 6 7 8 9 10; do running || exit 0; sleep 0.1; done
virsh destroy "$name"
running || exit 0
echo "fencing of $name failed" >&2
exit 1
`

//go:embed managers.py
var managersProgram string

var (
	away    = e2ehost.Guest{Name: "away-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a57"}                            // it is off
	away2   = e2ehost.Guest{Name: "away-02", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a58"}                            // as away, past the gate
	cold    = e2ehost.Guest{Name: "cold-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a59", Metadata: marked.Metadata} // it is off
	noGuest = "00000000-1111-4222-8333-444444444444"
)

func (h *host) managers() {
	h.beginDefault(listed, marked, third, free, control)
	for _, g := range []e2ehost.Guest{away, away2, cold} {
		h.DirectOK("define", h.Write(g))
	}
	h.Doing = "a guest is fenced"
	h.File("/run/fence.sh", fence, 0o755)
	h.record("fenced, and not listed", h.Command("", h.Environment(), "sh", "/run/fence.sh", third.Name), third)
	h.File(dataFile, "site:\n  cluster_managed: [pg-standby-01]\n", 0o644)
	h.record("fenced", h.Command("", h.Environment(), "sh", "/run/fence.sh", third.Name), third)
	h.DirectOK("start", third.Name)
	h.Ask(third)
	h.Freeze(h.QEMU(third))
	h.record("fenced while it hangs", h.Command("", h.Environment(), "sh", "/run/fence.sh", third.Name), third)
	h.record("another is not the manager's", h.Virsh("destroy", listed.Name), listed)

	h.Doing = "Python's manager"
	h.File("/run/managers.py", managersProgram, 0o600)
	for _, p := range []struct {
		name, uri string
		on        e2ehost.Guest
		off       e2ehost.Guest
	}{{"listed", "qemu:///system", listed, cold}, {"unprotected", "qemu:///system", free, away}, {"without the gate", e2ehost.Direct, control, away2}} {
		got := h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), python, "/run/managers.py", p.uri, p.on.UUID, p.off.UUID, noGuest)
		var results [][2]string
		if err := json.Unmarshal([]byte(got.Stdout), &results); err != nil {
			h.Fatalf("%v: %+v", err, got)
		}
		for _, r := range results {
			h.seen = append(h.seen, step{Name: p.name + ": " + r[0], Memory: r[1]})
		}
		h.record(p.name, e2ehost.Answer{}, p.on)
	}
}

func TestAManagersDomainsAreItsOwnAndARefusalIsNeverTakenForGone(t *testing.T) {
	seen := on(t, "managers")
	const standby = "stopguard: veto: pg-standby-01: listed in /etc/libvirt/protected-domains; take it off the list to stop it (rule protected_list)"
	let := "pg-standby-01 stop allow cluster_managed monitored:protected_list"
	compare(t, seen[:4], map[string]expected{
		"fenced, and not listed":       {1, standby + "\nfencing of pg-standby-01 failed", "running", "", []string{"pg-standby-01 stop veto protected_list", "pg-standby-01 stop veto protected_list"}},
		"fenced":                       {0, "", "shut off", "", []string{let}},
		"fenced while it hangs":        {0, "", "shut off (destroyed)", "", []string{let, let}},
		"another is not the manager's": {1, byList, "running", "", []string{"pg-primary-01 stop veto protected_list"}},
	})
	got := map[string]map[string]string{}
	for _, s := range seen[4:] {
		who, what, isStep := strings.Cut(s.Name, ": ")
		if got[who] == nil {
			got[who] = map[string]string{}
		}
		if isStep {
			got[who][what] = s.Memory
		} else {
			got[who]["afterwards"] = s.State
		}
	}
	if diff := cmp.Diff(got["without the gate"], got["unprotected"]); diff != "" {
		t.Errorf("a domain that nothing protects is dealt with in another way (-without, +with the gate):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{
		"hard reboot":                           "code 88: " + byList,
		"hard reboot, transient":                "code 88: " + byList,
		"hard reboot of one that is off":        "off, same, running",
		"and off again":                         "code 88: stopguard: veto: cold-01" + strings.TrimPrefix(byMark, "stopguard: veto: billing-01"),
		"delete of one that has gone meanwhile": "gone, gone",
		"clean up":                              "code 88: " + byList + "; code 88: stopguard: veto: cold-01" + strings.TrimPrefix(byMark, "stopguard: veto: billing-01") + "; absent",
		"delete again":                          "code 88: " + byList,
		"afterwards":                            "running (booted)",
	}, got["listed"]); diff != "" {
		t.Error(diff)
	}
	if want := "destroyed, same, running"; got["unprotected"]["hard reboot"] != want {
		t.Errorf("%q, want %q", got["unprotected"]["hard reboot"], want)
	}
}
