// Package stopguard guards libvirt domains against being stopped by mistake: it joins the hook protocol, the domain XML
// and the policy. A whole hook binary is
//
//	func main() { hookproto.Main(stopguard.Handler(stopguard.Config{})) }
//
// It refuses stop requests that are made through libvirt by people and tools that are allowed to make them. It is an
// interlock against mistakes and not access control: it cannot keep a guest from powering off or crashing, nor root from
// killing it.
package stopguard

import (
	"context"
	"os"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
)

// A Config says where [Handler] and [Decide] find their host. Its zero value is the host itself.
type Config struct {
	// Root is a folder below which every path of the host is looked for, for tests. "" means the folder that the
	// environment variable STOPGUARD_ROOT names, or the host itself. libvirt does not pass that variable on to a hook.
	Root string

	// Now gives the time; nil means time.Now.
	Now func() time.Time

	// Engine gives what decides about one event; nil means the host's own files and its agent's bundles, read anew for each
	// event. A program that stays has one ready. An error is a fault. It is called by several goroutines at once.
	Engine func(context.Context) (*policy.Engine, error)

	// Record writes one event down; nil means the host's file and its journal. Neither an error nor a panic changes a decision.
	// The context ends when the answer must not wait any longer. It is called by several goroutines at once.
	Record func(context.Context, record.Event) error
}

// Handler makes the handler that decides by the host's own files. It reads nothing until a stop or a release arrives, and
// is safe for concurrent use. A veto that a ticket lifts is an allow.
//
// A domain whose process is gone, or lives on without its guest, is let go before any policy is read: a veto there would
// leave it half stopped for ever.
func Handler(c Config) hookproto.Handler {
	g := c.guard()
	return func(ctx context.Context, e *hookproto.Event) error {
		switch e.Op {
		case hookproto.OpStop:
			return g.stop(ctx, e)
		case hookproto.OpRelease:
			g.release(ctx, e)
		}
		return nil
	}
}

// read makes an engine of what the host decides by now.
func (c Config) read(ctx context.Context) (*policy.Engine, error) {
	config, err := hostpolicy.Load(c.Root)
	if err != nil {
		return nil, err
	}
	return policy.New(ctx, config)
}

func (c Config) guard() guard {
	if c.Root == "" {
		c.Root = os.Getenv("STOPGUARD_ROOT")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Engine == nil {
		c.Engine = c.read
	}
	if c.Record == nil {
		c.Record = record.Recorder{Root: c.Root}.Write
	}
	return guard{Config: c, state: hookproto.Host{Root: c.Root}}
}
