package relay

import (
	"context"
	"sync"
	"sync/atomic"
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

// A seat is what it takes to judge: one of the connection's, which are few so that others get their turn, and a place of the
// gate's.
type seat struct {
	place
	connection chan struct{}
	users      atomic.Int32 // who has not done with the connection's
}

// takeSeat waits for one. It gives nil if ctx ends first.
func takeSeat(ctx context.Context, c *connection) *seat {
	s := &seat{place: place{all: c.gate.judging}, connection: c.held.judging}
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
func (s *seat) share() { s.users.Add(1) }

func (s *seat) unshare() {
	if s.users.Add(-1) == 0 {
		<-s.connection
	}
}

// leave gives the place to others at once, and the connection's seat when nobody uses it.
func (s *seat) leave() {
	s.place.leave()
	s.unshare()
}
