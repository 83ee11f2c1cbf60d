package relay

import (
	"context"
	"sync"
)

// A place is one of those that all of the gate's verdicts share. A verdict that waits for libvirtd, or that nobody waits for
// any more, gives it to others.
type place struct {
	all chan struct{}

	mu          sync.Mutex
	taken, left bool
}

// take waits for a free place. It reports false if ctx ends first, or if the place was left.
func (p *place) take(ctx context.Context) bool {
	select {
	case p.all <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		<-p.all
		return false
	}
	p.taken = true
	return true
}

// free gives the place to others, until it is taken again.
func (p *place) free() { p.release(false) }

// leave gives the place to others for good.
func (p *place) leave() { p.release(true) }

func (p *place) release(left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		<-p.all
	}
	p.taken, p.left = false, p.left || left
}
