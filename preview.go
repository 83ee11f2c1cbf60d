package stopguard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Preview returns a function that says what [Decide] would answer to a request now, and changes
// nothing: it takes no ticket, reserves nothing, waits for no other decision and records nothing.
// A ticket that Decide would take counts.
//
// It is for showing whether an operation would be refused, as before a button is offered. A program
// that goes on to do the operation asks Decide: by then the answer may be another one, and a
// ticket has to be taken.
func Preview(c Config) func(context.Context, Request) error {
	g := c.guard()
	return func(ctx context.Context, r Request) error {
		for _, name := range operation.Expand(r.Operation) {
			r.Operation = name
			if err := g.preview(ctx, question{request: &r}); err != nil {
				return err
			}
		}
		return nil
	}
}

// preview follows decide, without its effects.
func (g guard) preview(ctx context.Context, q question) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the guard crashed: %.200v; report this as a bug", p)
		}
	}()
	if !slices.Contains(policy.Operations(), q.operation()) {
		return fmt.Errorf("the operation %.100q is unknown; ask about one of %s", q.operation(), strings.Join(policy.Operations(), ", "))
	}
	domain, process, err := g.find(ctx, q)
	if err != nil {
		return err
	}
	if process.Gone() && !q.decideWhenGone() {
		return nil
	}
	engine, err := g.Engine(ctx)
	if err != nil {
		return err
	}
	fleet := g.fleetDecision(ctx, engine, q.operation(), domain, false)
	defer fleet.cancel()
	in, err := g.input(ctx, engine, domain, process, g.runningDomains(false))
	if err != nil {
		return err
	}
	q.complete(&in)
	in.Fleet = fleet.input()
	decision, err := engine.Decide(ctx, in)
	if err != nil {
		return err
	}
	decision = vetoUnread(decision, domain)
	switch {
	case decision.Outcome == policy.Fault:
		return errors.New("no decision could be made; report this")
	case decision.Outcome == policy.Allow:
		return nil
	}
	run := policy.Incarnation{UUID: domain.UUID, PID: process.PID, Start: process.Start}
	tickets := ticket.Store{Root: g.Root, Required: engine.Approvals().For(domain.Name, domain.UUID, in.Operation)}
	list, _ := tickets.List(in.Time) // Decide records what cannot be read
	if _, ok := tickets.Serving(list, run, domain.Name, in.Operation); ok {
		return nil
	}
	first := decision.Reasons[0]
	return &hookproto.Veto{Reason: first.Message + doubt(process, domain), Rule: first.Rule, More: len(decision.Reasons) - 1}
}
