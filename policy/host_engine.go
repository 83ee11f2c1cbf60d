package policy

import (
	"context"
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

	loading sync.Mutex
	current atomic.Pointer[keptEngine]
}

type keptEngine struct {
	engine *Engine
	paths  []string       // all that it was made of
	stamp  hostfile.Stamp // of paths, taken before they were read
}

// Engine gives an engine of the host's files as they are now, or were after Engine was called. The files are looked at each
// time, and read again if one has come, gone or changed, or changed so lately that the next change could not be told from
// it. What cannot be read is an error, whatever there was before.
func (h *HostEngine) Engine(ctx context.Context) (*Engine, error) {
	if e := h.kept(); e != nil {
		return e, nil
	}
	if !h.look(hostPaths(h.Root)).Settled() {
		// It is good for this question alone, so there is nothing that others could wait for.
		return h.read(ctx)
	}
	h.loading.Lock()
	defer h.loading.Unlock()
	if e := h.kept(); e != nil {
		return e, nil
	}
	paths := hostPaths(h.Root)
	stamp := h.look(paths)
	e, err := h.read(ctx)
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
