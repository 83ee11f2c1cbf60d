package hostpolicy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// An EngineCache caches the engine of a host's policy, as [Load] reads it, for a program that
// decides more than once. Its zero value is ready to use. It is safe for concurrent use and must
// not be copied.
type EngineCache struct {
	// Root is the folder below which the host's files lie; "" is as in [Load].
	Root string

	current atomic.Pointer[entry]
	mu      sync.Mutex
	flight  *flight // nil unless an engine is being made
}

// A flight is an engine that is being made while callers wait for it.
type flight struct {
	done   chan struct{} // closed when engine or err is set
	engine *policy.Engine
	err    error
}

type entry struct {
	engine *policy.Engine
	paths  []string       // the files that the engine was made of
	stamp  hostfile.Stamp // of the paths, taken before they were read
}

// Engine returns an engine of the host's files as they are now, or were after Engine was called.
// Each call looks at the files. They are read again if one was added, removed or changed, or
// changed so lately that the next change could not be told from it. It is an error if they cannot
// be read, also if they could be read before.
//
// It is an error if ctx is done before the engine is there. Compiling cannot be cancelled, and goes
// on for later callers.
func (c *EngineCache) Engine(ctx context.Context) (*policy.Engine, error) {
	if e := c.cached(); e != nil {
		return e, nil
	}
	if !c.stamp(hostPaths(c.root())).Settled() {
		// The engine is good for this call alone, so no other call could wait for it.
		return c.load(ctx)
	}
	f, isNew := c.join(c.refresh)
	if !isNew { // its files may have been read before Engine was called
		if err := f.wait(ctx); err != nil {
			return nil, err
		}
		if e := c.cached(); e != nil {
			return e, nil
		}
		f, _ = c.join(c.refresh)
	}
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	return f.engine, f.err
}

func (c *EngineCache) root() string { return hostpath.Root(c.Root) }

// join returns the current flight, or starts one. There is one at a time. It ends with its
// goroutine, whether its callers still wait or not.
func (c *EngineCache) join(load func() (*policy.Engine, error)) (f *flight, isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != nil {
		return c.flight, false
	}
	f = &flight{done: make(chan struct{})}
	c.flight = f
	go func() {
		defer func() {
			if p := recover(); p != nil { // otherwise the whole program would end
				f.engine, f.err = nil, &problem.Error{
					What: "policy: reading the host's policy panicked: " + problem.OneLine(fmt.Sprint(p)),
					Cure: "report this",
				}
			}
			c.mu.Lock()
			c.flight = nil
			c.mu.Unlock()
			close(f.done)
		}()
		f.engine, f.err = load()
	}()
	return f, true
}

// wait waits for the flight to end. It is an error if ctx is done before.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("policy: loading took too long (%w); make the policy smaller", ctx.Err())
	}
}

// refresh makes an engine, and keeps it if the next change of the files will be seen.
func (c *EngineCache) refresh() (*policy.Engine, error) {
	paths := hostPaths(c.root())
	stamp := c.stamp(paths)
	e, err := c.load(context.Background()) // the first caller may leave before the others
	if err == nil && stamp.Settled() && slices.Equal(paths, hostPaths(c.root())) {
		c.current.Store(&entry{e, paths, stamp})
	}
	return e, err
}

func (c *EngineCache) stamp(paths []string) hostfile.Stamp {
	return hostfile.Root(c.root()).Stamp(paths...)
}

// cached returns the last engine if none of its files has changed, and nil otherwise.
func (c *EngineCache) cached() *policy.Engine {
	if entry := c.current.Load(); entry != nil && entry.stamp.Same(c.stamp(entry.paths)) {
		return entry.engine
	}
	return nil
}

func (c *EngineCache) load(ctx context.Context) (*policy.Engine, error) {
	config, err := Load(c.Root)
	if err != nil {
		return nil, err
	}
	return policy.New(ctx, config)
}
