//go:build e2e

// Package e2e tests the gate with the real libvirtd, QEMU and polkitd of the machine: see .ci/e2e.
// Clients are virsh and Python's libvirt, as they are installed.
//
// Each test asks for a host; see package e2ehost. There libvirtd listens where only root can reach
// it, and the gate where clients look for libvirtd.
package e2e

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/unit"
)

const (
	upstreamDir = unit.UpstreamFolder
	ruleFile    = "/etc/stopguard/policy/site.rego"
)

var (
	daemon     = e2ehost.Layout.Daemon
	gateSocket = e2ehost.Layout.Public
	pastSocket = e2ehost.Layout.Upstream
)

// The rule is against everything that may be done to a domain of such a name.
const rule = `package stopguard.rules.site

veto contains "it is protected" if startswith(input.domain.name, "protected-")
`

// veto returns virsh's output for a stop that the rule refuses.
func veto(name string) string {
	return "error: stopguard: veto: " + name + ": it is protected (rule site)"
}

// A step is the observation of one action.
type step struct {
	Name            string
	Through, Direct e2ehost.Answer // with the gate, and without
	State           string
	Memory          string
	Records         []string // the new lines of the record, one for each decision
	Snapshots       []string // their names
	Saved           bool     // the guest's memory is stored while it is off
}

var scripts = map[string]func(*host){
	"virsh":       (*host).virshCalls,
	"clients":     (*host).clients,
	"users":       (*host).users,
	"migration":   (*host).migration,
	"crossing":    (*host).crossing,
	"shutdown":    (*host).shutdown,
	"drain":       (*host).drain,
	"deletes":     (*host).deletes,
	"managers":    (*host).managers,
	"week":        (*host).firstWeek,
	"pipeline":    (*host).pipeline,
	"created":     (*host).created,
	"off":         (*host).off,
	"attacks":     (*host).attacks,
	"stalled":     (*host).stall,
	"sasl":        (*host).sasl,
	"drivers":     (*host).drivers,
	"linux":       (*host).linux,
	"snapshots":   (*host).snapshots,
	"asleep":      (*host).nodeSuspend,
	"rpc":         (*host).rpc,
	"restart":     (*host).restart,
	"workers":     (*host).workers,
	"reload":      (*host).reload,
	"open":        (*host).open,
	"proxied":     (*host).proxied,
	"autodestroy": (*host).autodestroyed,
	"descriptors": (*host).descriptors,
	"people":      (*host).people,
	"verdicts":    (*host).verdicts,
	"programs":    (*host).programs,
	"rooted":      (*host).rooted,
}

type host struct {
	*e2ehost.Gated
	seen []step
}

func TestMain(m *testing.M) {
	e2ehost.Main(m, func(script string) {
		h := &host{Gated: &e2ehost.Gated{}}
		scripts[script](h)
		if script != "open" {
			h.noNameElsewhere()
		}
		h.Report(h.seen)
	})
}

func on(t *testing.T, script string) []step {
	t.Helper()
	e2ehost.Need(t, e2ehost.GateVariable)
	var seen []step
	e2ehost.On(t, script, &seen)
	return seen
}

// begin starts the daemons of a host, with the gate before libvirtd.
func (h *host) begin() {
	h.prepare("")
	h.StartGate()
	h.StartDaemon()
}

// prepare starts the services that libvirtd needs.
func (h *host) prepare(config string) {
	h.PrepareGated(config)
	h.File(ruleFile, rule, 0o644)
}

// memory returns the byte that a guest remembers; "" if it does not run.
func (h *host) memory(g e2ehost.Guest) string {
	if !strings.HasPrefix(h.State(g), "running") {
		return ""
	}
	return h.Ask(g)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
