//go:build e2e

// Package stop tests the installed hook with a libvirt that calls it for stop, as a released
// libvirt does not: Debian's libvirt with the operation added by .ci/patched-libvirt. See .ci/e2e.
//
// Each test starts a host and compares its report; see package e2ehost.
package stop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

const (
	programVariable = "STOPGUARD_E2E_PROGRAM" // the built cmd/stopguard-hook
	toolVariable    = "STOPGUARD_E2E_TOOL"    // the built cmd/stopguard
	frontVariable   = "STOPGUARD_E2E_FRONT"   // hookproto/front.sh
	libvirtVariable = "STOPGUARD_E2E_LIBVIRT" // the file `built` of the libvirt that .ci/patched-libvirt has built

	hookFile    = "/etc/libvirt/hooks/qemu.d/50-stopguard"
	programFile = "/usr/sbin/stopguard-hook"
	programLink = "/usr/libexec/stopguard-hook"
	toolFile    = "/usr/sbin/stopguard"
	listFile    = "/etc/libvirt/protected-domains"
	ruleFile    = "/etc/stopguard/policy/site.rego"
	dataFile    = "/etc/stopguard/policy/data.yaml"
	recordFile  = "/var/log/stopguard/decisions.jsonl"
)

// A step is the observation of one action on a host.
type step struct {
	Name     string
	Answer   e2ehost.Answer // of virsh
	State    string         // of the domain, as virsh domstate prints it
	Memory   string         // the byte that the guest remembers; "" if it does not run
	Outcomes string         // the recorded decisions about the domain in this step
	Details  []string       // of these records
}

type host struct {
	*e2ehost.Host
	seen []step
	read int // how much of the records earlier steps have
}

var scripts = map[string]func(*host){
	"stops":        (*host).stops,
	"groups":       (*host).groups,
	"broken move":  (*host).brokenMove,
	"failed moves": (*host).failedMoves,
	"owners":       (*host).owners,
}

func TestMain(m *testing.M) {
	e2ehost.Main(m, func(script string) {
		h := &host{Host: &e2ehost.Host{Prefix: filepath.Dir(os.Getenv(libvirtVariable))}}
		h.Prepare()
		h.install()
		scripts[script](h)
		h.Report(h.seen)
	})
}

func on(t *testing.T, script string) []step {
	t.Helper()
	e2ehost.Need(t, programVariable, toolVariable, frontVariable, libvirtVariable)
	var seen []step
	e2ehost.On(t, script, &seen)
	return seen
}

// install puts the hook and the tool in place.
func (h *host) install() {
	h.File(hookFile, h.Read(os.Getenv(frontVariable)), 0o755)
	h.File(programFile, h.Read(os.Getenv(programVariable)), 0o755)
	h.File(toolFile, h.Read(os.Getenv(toolVariable)), 0o755)
	if err := os.Symlink("../sbin/stopguard-hook", programLink); err != nil {
		h.Fatalf("%v", err)
	}
	h.File(listFile, "listed-*\n", 0o644)
}

// guest defines and starts a guest.
func (h *host) guest(g e2ehost.Guest) {
	h.VirshOK("define", h.Write(g))
	h.start(g)
}

func (h *host) start(g e2ehost.Guest) {
	h.VirshOK("start", g.UUID)
	h.Remind(g)
}

// records returns the outcomes about a domain that were recorded since it was called last, and
// their details.
func (h *host) records(g e2ehost.Guest) (outcomes string, details []string) {
	data, err := os.ReadFile(recordFile)
	if err != nil {
		return "", nil
	}
	var list []string
	for line := range bytes.Lines(data[h.read:]) {
		var event struct {
			Result struct {
				Outcome, Detail string
				Domain          struct{ Name, UUID string }
				Reasons         []struct{ Message string }
			}
		}
		if err := json.Unmarshal(line, &event); err != nil {
			h.Fatalf("the record %q: %v", line, err)
		}
		if r := event.Result; r.Domain.UUID == g.UUID || r.Domain.Name == g.Name {
			list = append(list, r.Outcome)
			details = append(details, fmt.Sprint(r.Detail, r.Reasons))
		}
	}
	h.read = len(data)
	return strings.Join(list, " "), details
}

// asReached returns the guest by the name under which its serial port was made.
func asReached(g e2ehost.Guest) e2ehost.Guest {
	if g.UUID == control.UUID {
		g.Name = "plain"
	}
	return g
}

// observe records the result of a step.
func (h *host) observe(name string, g e2ehost.Guest, got e2ehost.Answer) {
	s := step{Name: name, Answer: got, State: h.State(g)}
	if strings.HasPrefix(s.State, "running") {
		s.Memory = h.Ask(asReached(g))
	}
	s.Outcomes, s.Details = h.records(g)
	h.seen = append(h.seen, s)
}

// awaitState waits until a domain is in a state. It does not fail for a wedged domain, which is
// not: the test compares the state.
func (h *host) awaitState(g e2ehost.Guest, state string) {
	h.Within(e2ehost.Patience/2, func() bool { return h.State(g) == state })
}
