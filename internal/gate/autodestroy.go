package gate

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// An autodestroyGuard decides whether domains that end with a client's connection are protected,
// and records their ends.
type autodestroyGuard struct{ stopguard.Config }

// protected reports whether a stop of the domain would be refused now. It records nothing and takes
// no ticket.
func (g autodestroyGuard) protected(ctx context.Context, domain *domainxml.Domain) (bool, error) {
	decision, err := g.decide(ctx, domain)
	return decision.Outcome == policy.Veto, err
}

func (g autodestroyGuard) decide(ctx context.Context, domain *domainxml.Domain) (policy.Decision, error) {
	engine, err := g.Engine(ctx)
	if err != nil {
		return policy.Decision{}, err
	}
	in, err := g.Input(engine, domain, hookproto.Process{})
	if err != nil {
		return policy.Decision{}, err
	}
	return engine.Decide(ctx, in)
}

// recordTimeout bounds the record of an end.
const recordTimeout = time.Second

// ended records that a protected domain goes down because its client's connection has closed.
func (g autodestroyGuard) ended(domain *domainxml.Domain, caller policy.Caller) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	host, _ := os.Hostname()
	e := record.New(host, record.Domain{Name: domain.Name, UUID: domain.UUID}, time.Now())
	if decision, err := g.decide(ctx, domain); err == nil {
		recorded.Decision(&e, decision)
	}
	e.Result.Outcome = record.Escape
	e.Result.Detail = "it was started with autodestroy and protected later; the connection of the client that started it has closed"
	e.Result.Request = &record.Request{Operation: policy.OperationStop, UID: caller.UID, User: caller.User, PID: caller.PID, Via: caller.Via, ViaPID: caller.ViaPID}
	if err := (record.Recorder{Root: g.Root}).Write(ctx, e); err != nil {
		slog.Warn("the end of a protected domain could not be recorded", "domain", domain.Name, "error", err)
	}
}
