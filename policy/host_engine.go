package policy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// A HostEngine keeps an engine of what a host decides by, as [HostConfig] reads it, for a program that stays. Its zero value
// is that of the host itself. It is safe for concurrent use and must not be copied.
type HostEngine struct {
	// Root is the folder below which everything is looked for; "" is the host itself.
	Root string

	current atomic.Pointer[keptEngine]
	mu      sync.Mutex
	loading *loading // nil while nobody waits for one
}

// A loading is an engine being made, for all who wait for it.
type loading struct {
	done   chan struct{} // closed when it is over
	engine *Engine
	err    error
}

type keptEngine struct {
	engine *Engine
	paths  []string       // all that it was made of
	stamp  hostfile.Stamp // of paths, taken before they were read
}

// Engine gives an engine of the host's files as they are now, or were after Engine was called. The files are looked at each
// time, and read again if one has come, gone or changed, or changed so lately that the next change could not be told from
// it. What cannot be read is an error, whatever there was before.
//
// It is an error if ctx is done before the engine is there. Compiling cannot be broken off, and goes on for those who ask next.
func (h *HostEngine) Engine(ctx context.Context) (*Engine, error) {
	if e := h.kept(); e != nil {
		return e, nil
	}
	if !h.look(hostPaths(h.Root)).Settled() {
		// It is good for this question alone, so there is nothing that others could wait for.
		return h.read(ctx)
	}
	l, ours := h.load(h.keep)
	if !ours { // its files may have been read before Engine was called
		if err := l.wait(ctx); err != nil {
			return nil, err
		}
		if e := h.kept(); e != nil {
			return e, nil
		}
		l, _ = h.load(h.keep)
	}
	if err := l.wait(ctx); err != nil {
		return nil, err
	}
	return l.engine, l.err
}

// load gives the loading that is under way, or one that it begins. There is one at a time, whoever leaves, and it ends with
// its goroutine.
func (h *HostEngine) load(read func() (*Engine, error)) (l *loading, begun bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loading != nil {
		return h.loading, false
	}
	l = &loading{done: make(chan struct{})}
	h.loading = l
	go func() {
		defer func() {
			if p := recover(); p != nil { // nobody above would recover it
				l.engine, l.err = nil, fmt.Errorf("policy: reading the host's policy panicked: %s; report this", oneLine(fmt.Sprint(p)))
			}
			h.mu.Lock()
			h.loading = nil
			h.mu.Unlock()
			close(l.done)
		}()
		l.engine, l.err = read()
	}()
	return l, true
}

// wait waits for it as long as ctx allows.
func (l *loading) wait(ctx context.Context) error {
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("policy: loading took too long (%w); make the policy smaller", ctx.Err())
	}
}

// keep makes an engine, and keeps it if the next change will show.
func (h *HostEngine) keep() (*Engine, error) {
	paths := hostPaths(h.Root)
	stamp := h.look(paths)
	e, err := h.read(context.Background()) // whoever asked first may leave before the others
	if err == nil && stamp.Settled() && slices.Equal(paths, hostPaths(h.Root)) {
		h.current.Store(&keptEngine{e, paths, stamp})
	}
	return e, err
}

func (h *HostEngine) look(paths []string) hostfile.Stamp {
	return hostfile.Root(h.Root).Stamp(paths...)
}

// kept gives the engine that was made last, if nothing has changed since.
func (h *HostEngine) kept() *Engine {
	if k := h.current.Load(); k != nil && k.stamp.Same(h.look(k.paths)) {
		return k.engine
	}
	return nil
}

func (h *HostEngine) read(ctx context.Context) (*Engine, error) {
	config, err := HostConfig(h.Root)
	if err != nil {
		return nil, err
	}
	return New(ctx, config)
}
