// Package stopguard guards libvirt domains against being stopped by mistake: it joins the hook
// protocol, the domain XML and the policy. A whole hook binary is
//
//	func main() { hookproto.Main(stopguard.Handler(stopguard.Config{})) }
//
// It refuses stop requests that are made through libvirt by people and tools that are allowed to
// make them. It is an interlock against mistakes and not access control: it cannot keep a guest
// from powering off or crashing, nor root from killing it.
package stopguard

import (
	"context"
	"maps"
	"os"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
)

// A Config says where [Handler] and [Decide] find their host. Its zero value is the host itself.
type Config struct {
	// Root is a folder below which every path of the host is looked for, for tests. "" means the
	// folder that the environment variable STOPGUARD_ROOT names, or the host itself. libvirt does
	// not pass that variable on to a hook.
	Root string

	// Now returns the time; nil means time.Now.
	Now func() time.Time

	// Engine returns the engine that decides about one event; nil means one of the host's own files
	// and its agent's bundles, read anew for each event. A long-running program keeps one, such as
	// hostpolicy.EngineCache. An error is a fault. It is called by several goroutines at once.
	Engine func(context.Context) (*policy.Engine, error)

	// Rules are rules of the program's own, written in Go, by their names. They are evaluated with
	// the engine's rules, and like rules in Rego. They are not asked about a domain that is gone. A
	// ticket, monitor mode (by name), cluster_managed and a host that shuts down lift their
	// reasons. Each reason is recorded. An error, a panic, and a rule that outlasts the decision's
	// time are each a veto in the rule's name. See [policy.Rule].
	//
	// A name that another rule has, or that no rule can have, is a fault of every stop; package
	// hooktest finds it.
	Rules map[string]func(context.Context, policy.Input) ([]policy.Reason, error)

	// Fleet asks about groups of the fleet, and reserves allowed operations; nil means to ask the
	// host's agent. It is called only for a domain of such a group, by several goroutines at once.
	Fleet func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error)

	// Record writes one event; nil means to the host's file and its journal. Neither an error nor a
	// panic changes a decision. The context ends when the answer must not wait any longer. It is
	// called by several goroutines at once.
	Record func(context.Context, record.Event) error
}

// Handler returns a handler that decides by the host's own files. It reads nothing until a stop or
// a release arrives, and is safe for concurrent use. A veto that a ticket lifts is an allow.
//
// A domain whose process is gone, or lives on without its guest, is let go before any policy is
// read: a veto there would leave it half stopped for ever. A program that has reasons of its own
// puts them into [Config.Rules]. If it wraps the handler instead and returns before it, it loses
// that, the host's shutdown, tickets, monitor mode and the record.
func Handler(c Config) hookproto.Handler {
	g := c.guard()
	return func(ctx context.Context, e *hookproto.Event) error {
		switch e.Op {
		case hookproto.OpStop:
			return g.answer(ctx, question{event: e})
		case hookproto.OpRelease:
			g.release(ctx, e)
		}
		return nil
	}
}

// loadEngine returns a new engine of the host's policy and the Go rules.
func (c Config) loadEngine(ctx context.Context) (*policy.Engine, error) {
	config, err := hostpolicy.Load(c.Root)
	if err != nil {
		return nil, err
	}
	config.Rules = c.Rules
	return policy.New(ctx, config)
}

// engineWithRules returns the caller's engine with the Go rules.
func (c Config) engineWithRules(ctx context.Context) (*policy.Engine, error) {
	engine, err := c.Engine(ctx)
	if err != nil || len(c.Rules) == 0 {
		return engine, err
	}
	return engine.WithRules(c.Rules)
}

func (c Config) guard() guard {
	if c.Root == "" {
		c.Root = os.Getenv("STOPGUARD_ROOT")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Rules = maps.Clone(c.Rules)
	if c.Engine == nil {
		c.Engine = c.loadEngine
	} else {
		c.Engine = c.engineWithRules
	}
	if c.Fleet == nil {
		c.Fleet = remote.Agent{Root: c.Root}.Fleet
	}
	if c.Record == nil {
		c.Record = record.Recorder{Root: c.Root}.Write
	}
	return guard{Config: c, state: hookproto.Host{Root: c.Root}}
}
