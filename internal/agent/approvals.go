package agent

import (
	"context"

	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/policy"
)

// board returns the requests of tickets that need approvals, by what decides now.
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
		OnEvent: func(e approval.Event) {
			a.logger.Info("ticket %s %s by %s: %s", e.ID, e.What, e.Person.User, e.Reason)
		},
	}
}
