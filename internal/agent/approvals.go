package agent

import (
	"context"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/policy"
)

// board returns the board of the tickets' requests that need approvals, by the current policy.
func (a *agent) board(ctx context.Context) *approval.Board {
	return &approval.Board{
		Root: a.root,
		Approvals: func() (*policy.Approvals, error) {
			engine, err := a.bundles.Engine(ctx)
			if err != nil {
				return nil, err
			}
			return engine.Approvals(), nil
		},
		DomainName: a.domainName,
		OnEvent: func(e approval.Event) {
			a.logger.Info("ticket %s %s by %s: %s", e.ID, e.What, e.Person.User, e.Reason)
			a.tellTicket(e)
		},
	}
}

// domainName returns the name of a running domain; "" if it is not found.
func (a *agent) domainName(uuid string) string {
	guests, _ := hookproto.Host{Root: a.root}.Guests() // those that can be read
	for _, g := range guests {
		if strings.EqualFold(g.Process.Status.UUID, uuid) {
			return g.Name
		}
	}
	return ""
}
