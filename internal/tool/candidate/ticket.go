package candidate

import (
	"context"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Ticket returns the ticket that would lift the veto of an operation on a run of in's domain. It
// does not take the ticket. If in.Operation is the former name of two operations, each refused one
// needs a ticket, and Ticket returns the first.
func Ticket(ctx context.Context, tickets ticket.Store, list []ticket.Listed, engine *policy.Engine, in policy.Input, run policy.Incarnation) (ticket.Listed, bool) {
	operations := operation.Expand(in.Operation)
	if len(operations) > 1 {
		operations = refused(ctx, engine, in, operations)
	}
	var first ticket.Listed
	for i, name := range operations {
		tickets.Required = engine.Approvals().For(in.Domain.Name, in.Domain.UUID, name)
		t, ok := tickets.Serving(list, run, in.Domain.Name, name)
		if !ok {
			return ticket.Listed{}, false
		}
		if i == 0 {
			first = t
		}
	}
	return first, len(operations) > 0
}

func refused(ctx context.Context, engine *policy.Engine, in policy.Input, operations []string) []string {
	var refused []string
	for _, name := range operations {
		in.Operation = name
		if d, err := engine.Decide(ctx, in); err != nil || d.Outcome != policy.Allow {
			refused = append(refused, name)
		}
	}
	return refused
}
