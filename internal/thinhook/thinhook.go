// Package thinhook decides in the hook of a host with an agent. It allows a stop of a guest that is
// gone, sends everything else to the agent, and hands over to the full hook program if the agent
// does not answer.
package thinhook

import (
	"context"
	"errors"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
)

// Handler returns the thin hook's handler. root is STOPGUARD_ROOT, and full is the path of the full
// hook program.
func Handler(root, full string) hookproto.Handler {
	return guard{root: root, state: hookproto.Host{Root: root}, agent: remote.Agent{Root: root}, full: full}.answer
}

// The timeouts of the agent. After a late answer to a stop, the full hook decides again, and may
// use the ticket that the agent took for this run. If libvirt's state does not identify the run,
// that ticket is used up and the full hook vetoes. A late release would be handled twice, and the
// second would see an escape.
const (
	stopTime    = 300 * time.Millisecond
	releaseTime = 1500 * time.Millisecond
)

// A guard answers the events of one host.
type guard struct {
	root  string // STOPGUARD_ROOT
	state hookproto.Host
	agent remote.Agent
	full  string // the full hook program
}

func (g guard) answer(ctx context.Context, e *hookproto.Event) error {
	began := time.Now()
	patience := releaseTime
	if e.Op == hookproto.OpStop {
		patience = stopTime
		if process := g.state.Process(e.Domain); process.Gone() && isQEMU(ctx, e) {
			_ = g.record(ctx, e, moot(process), began) // an allow does not write to stderr
			return nil
		}
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := g.agent.Ask(asking, e)
	switch {
	case errors.Is(answer, remote.ErrMoot):
		// The agent may live in another PID namespace, or have looked at another time. Without own
		// evidence that the guest is gone, the full hook decides.
		if e.Op == hookproto.OpStop && g.state.Process(e.Domain).Gone() {
			return nil
		}
	case !errors.As(answer, new(remote.NoAnswer)):
		return answer
	}
	failed := hookproto.HandOver(ctx, e, g.full)
	return withAuditError(failed, g.record(ctx, e, fault(failed), began))
}
