package relay

import (
	"context"
	"sync"
	"sync/atomic"
)

// A place is one of those that all of the gate's verdicts share. A verdict that waits for libvirtd, or that nobody waits for
// any more, gives it to others.
type gateSlot struct {
	all chan struct{}

	mu          sync.Mutex
	taken, left bool
}

// take waits for a free place. It reports false if ctx ends first, or if the place was left.
func (p *gateSlot) take(ctx context.Context) bool {
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

// free returns the place to others, until it is taken again.
func (p *gateSlot) free() { p.release(false) }

// leave returns the place to others for good.
func (p *gateSlot) leave() { p.release(true) }

func (p *gateSlot) release(left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		<-p.all
	}
	p.taken, p.left = false, p.left || left
}

// A seat is what it takes to judge: one of the connection's, which are few so that others get their turn, and a place of the
// gate's.
type connSlot struct {
	gateSlot
	connection chan struct{}
	users      atomic.Int32 // who has not done with the connection's
}

// takeSeat waits for one. It gives nil if ctx ends first.
func takeSlot(ctx context.Context, c *connection) *connSlot {
	s := &connSlot{gateSlot: gateSlot{all: c.gate.evaluating}, connection: c.held.evaluating}
	select {
	case s.connection <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	s.share()
	if !s.take(ctx) {
		s.unshare()
		return nil
	}
	return s
}

// share has the connection's seat stay taken until unshare was called as often.
func (s *connSlot) share() { s.users.Add(1) }

func (s *connSlot) unshare() {
	if s.users.Add(-1) == 0 {
		<-s.connection
	}
}

// leave returns the place to others at once, and the connection's seat when nobody uses it.
func (s *connSlot) leave() {
	s.gateSlot.leave()
	s.unshare()
}
