package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/examples/gate/relay"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

// A verdict decides by the host's rules, which are read anew for each request.
type verdict struct{ root string }

func (v verdict) decide(ctx context.Context, r relay.Request) error {
	domain, err := domainxml.Parse(r.XML)
	if err != nil {
		return err
	}
	host := hookproto.Host{Root: v.root}
	process := host.Identify(host.Process(domain.Name), domain.UUID, domain.ID)
	// What is off cannot be stopped, but tampered with, and started so that it will be.
	off := domain.ID == 0 || process.Moot()
	if off && r.Operation != "tamper" && !slices.Contains(r.Flags, "autodestroy") {
		return nil
	}
	config, err := policy.HostConfig(v.root)
	if err != nil {
		return err
	}
	engine, err := policy.New(ctx, config)
	if err != nil {
		return err
	}
	in, err := stopguard.Config{Root: v.root}.Input(ctx, engine, domain, process)
	if err != nil {
		return err
	}
	in.Operation = r.Operation
	in.Caller = &policy.Caller{UID: r.Caller.UID, User: r.Caller.User, PID: r.Caller.PID}
	decision, err := engine.Decide(ctx, in)
	if err != nil {
		return err
	}
	if decision.Outcome == policy.Veto {
		first := decision.Reasons[0]
		return &hookproto.Veto{Reason: first.Message, Rule: first.Rule, More: len(decision.Reasons) - 1}
	}
	if decision.Outcome != policy.Allow {
		return fmt.Errorf("no decision could be made; report this")
	}
	return nil
}
