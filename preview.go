package stopguard

import (
	"context"
	"fmt"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
)

// Preview returns a function that returns the answer of [Decide] to a request, without its effects.
// It does not take a ticket, reserve anything, wait for another decision, or record. A ticket that
// Decide would take counts.
//
// It is for showing whether an operation would be refused, as before a button is offered. A program
// that performs the operation must call Decide: the answer may have changed, and a ticket has to be
// taken.
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
	in, answer, err := d.evaluate(ctx, g.runningDomains(false))
	if err != nil || answer.Outcome == policy.Allow {
		return err
	}
	tickets := d.tickets()
	list, _ := tickets.List(in.Time) // Decide records the tickets that cannot be read
	if _, ok := tickets.Serving(list, d.entry.incarnation, d.domain.Name, in.Operation); ok {
		return nil
	}
	return d.veto(answer)
}
