package gate

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/policy"
)

// A notifier runs the site's program when protection is lost. It is stopped before the gate hands
// over to another program by exec. Otherwise the new program would inherit a child that it does not
// wait for.
type notifier struct {
	root   string
	engine func(context.Context) (*policy.Engine, error)

	mu      sync.Mutex
	running *notify.Notifier // nil while it is stopped
	gate    *notify.Gate
}

func (n *notifier) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	var err error
	if n.gate, err = notify.RunGate(n.root); err != nil {
		slog.Warn("the end of this gate will not be told", "error", err)
	}
	n.running = notify.Start(notify.Config{
		Root: n.root,
		Settings: func() (*policy.Notify, error) {
			engine, err := n.engine(context.Background())
			if err != nil {
				return nil, err
			}
			return engine.Notify(), nil
		},
		Log: func(format string, args ...any) { slog.Warn(fmt.Sprintf(format, args...)) },
	})
}

func (n *notifier) stop(grace time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running != nil {
		n.running.Stop(grace)
		n.gate.End()
		n.running, n.gate = nil, nil
	}
}

// tellStop queues an event that the gate was stopped.
func (n *notifier) tellStop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running != nil {
		n.gate.TellStop(n.running)
	}
}

func (n *notifier) stats() notify.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running == nil {
		return notify.Stats{}
	}
	return n.running.Stats()
}
