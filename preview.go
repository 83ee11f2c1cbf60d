package stopguard

import (
	"context"
	"fmt"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
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
	d, err := g.prepare(ctx, q, &auditEntry{}, false)
	if d == nil {
		return err
	}
	defer d.fleet.cancel()
	in, answer, err := d.ask(ctx, g.runningDomains(false))
	if err != nil || answer.Outcome == policy.Allow {
		return err
	}
	tickets := d.tickets()
	list, _ := tickets.List(in.Time) // Decide records what cannot be read
	if _, ok := tickets.Serving(list, d.entry.incarnation, d.domain.Name, in.Operation); ok {
		return nil
	}
	return d.veto(answer)
}
