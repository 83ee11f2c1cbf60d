package hostpolicy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/policy"
)

// An EngineCache keeps an engine of what a host decides by, as [Load] reads it, for a program that stays. Its zero value
// is that of the host itself. It is safe for concurrent use and must not be copied.
type EngineCache struct {
	// Root is the folder below which everything is looked for; "" is the host itself.
	Root string

	current atomic.Pointer[entry]
	mu      sync.Mutex
	loading *loading // nil while nobody waits for one
}

// A loading is an engine being made, for all who wait for it.
type loading struct {
	done   chan struct{} // closed when it is over
	engine *policy.Engine
	err    error
}

type entry struct {
	engine *policy.Engine
	paths  []string       // all that it was made of
	stamp  hostfile.Stamp // of paths, taken before they were read
}

// Engine gives an engine of the host's files as they are now, or were after Engine was called. The files are looked at each
// time, and read again if one has come, gone or changed, or changed so lately that the next change could not be told from
// it. What cannot be read is an error, whatever there was before.
//
// It is an error if ctx is done before the engine is there. Compiling cannot be broken off, and goes on for those who ask next.
func (c *EngineCache) Engine(ctx context.Context) (*policy.Engine, error) {
	if e := c.kept(); e != nil {
		return e, nil
	}
	if !c.look(hostPaths(c.Root)).Settled() {
		// It is good for this question alone, so there is nothing that others could wait for.
		return c.read(ctx)
	}
	l, ours := c.load(c.keep)
	if !ours { // its files may have been read before Engine was called
		if err := l.wait(ctx); err != nil {
			return nil, err
		}
		if e := c.kept(); e != nil {
			return e, nil
		}
		l, _ = c.load(c.keep)
	}
	if err := l.wait(ctx); err != nil {
		return nil, err
	}
	return l.engine, l.err
}

// load gives the loading that is under way, or one that it begins. There is one at a time, whoever leaves, and it ends with
// its goroutine.
func (c *EngineCache) load(read func() (*policy.Engine, error)) (l *loading, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loading != nil {
		return c.loading, false
	}
	l = &loading{done: make(chan struct{})}
	c.loading = l
	go func() {
		defer func() {
			if p := recover(); p != nil { // nobody above would recover it
				l.engine, l.err = nil, fmt.Errorf("policy: reading the host's policy panicked: %s; report this", strings.Join(strings.Fields(fmt.Sprint(p)), " "))
			}
			c.mu.Lock()
			c.loading = nil
			c.mu.Unlock()
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
func (c *EngineCache) keep() (*policy.Engine, error) {
	paths := hostPaths(c.Root)
	stamp := c.look(paths)
	e, err := c.read(context.Background()) // whoever asked first may leave before the others
	if err == nil && stamp.Settled() && slices.Equal(paths, hostPaths(c.Root)) {
		c.current.Store(&entry{e, paths, stamp})
	}
	return e, err
}

func (c *EngineCache) look(paths []string) hostfile.Stamp {
	return hostfile.Root(c.Root).Stamp(paths...)
}

// kept gives the engine that was made last, if nothing has changed since.
func (c *EngineCache) kept() *policy.Engine {
	if k := c.current.Load(); k != nil && k.stamp.Same(c.look(k.paths)) {
		return k.engine
	}
	return nil
}

func (c *EngineCache) read(ctx context.Context) (*policy.Engine, error) {
	config, err := Load(c.Root)
	if err != nil {
		return nil, err
	}
	return policy.New(ctx, config)
}
