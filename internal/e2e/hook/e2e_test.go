//go:build e2e

// Package e2e tests the installed hook and the operator's tool with the real libvirtd and QEMU of
// the machine: see .ci/e2e.
//
// Each test starts hosts and compares their reports; see package e2ehost.
package e2e

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

const (
	programVariable = "STOPGUARD_E2E_PROGRAM" // the built cmd/stopguard-hook
	toolVariable    = "STOPGUARD_E2E_TOOL"    // the built cmd/stopguard
	frontVariable   = "STOPGUARD_E2E_FRONT"   // hookproto/front.sh
)

// An observation is the result of one step on a host.
type observation struct {
	Step   string
	Answer answer // of virsh, or of the hook

	// Set by a step of the everyday script.
	State, Memory, XML string
	Calls              string
	Record             []string

	// Set by a step of the stop script.
	Life, Seen, Monitor, OtherID string
}

func TestMain(m *testing.M) {
	e2ehost.Main(m, func(script string) {
		h := &host{Host: &e2ehost.Host{}}
		h.Prepare()
		if name, ok := strings.CutPrefix(script, everydayScript); ok {
			h.everyday(conditionNamed(name))
		} else if script == toolScript {
			h.tools()
		} else if script == besideScript {
			h.beside()
		} else {
			h.stops()
		}
		h.Report(h.seen)
	})
}

// onHost runs a script on a new host and returns its observations.
func onHost(t *testing.T, script string) []observation {
	t.Helper()
	e2ehost.Need(t, programVariable, toolVariable, frontVariable)
	var seen []observation
	e2ehost.On(t, script, &seen)
	return seen
}
