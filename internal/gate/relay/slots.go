package relay

import (
	"context"
	"sync"
	"sync/atomic"
)

// A gateSlot is one of the slots that all decisions of the gate share. A decision frees its slot
// while it waits for libvirtd, and when its client no longer waits.
type gateSlot struct {
	all chan struct{}

	mu          sync.Mutex
	taken, left bool
}

// take waits for a free slot. It reports false if ctx ends first, or after leave.
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

// free frees the slot until take is called again.
func (p *gateSlot) free() { p.release(false) }

// leave frees the slot for good.
func (p *gateSlot) leave() { p.release(true) }

func (p *gateSlot) release(left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		<-p.all
	}
	p.taken, p.left = false, p.left || left
}

// A connSlot allows one evaluation. It is one slot of the connection and one of the gate. The
// connection's slots are few, so that other clients get some of the gate's.
type connSlot struct {
	gateSlot
	connection chan struct{}
	users      atomic.Int32 // users of the connection's slot
}

// takeSlot waits for a slot. It returns nil if ctx ends first.
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

// share adds a user of the connection's slot, which is free when every user has called unshare.
func (s *connSlot) share() { s.users.Add(1) }

func (s *connSlot) unshare() {
	if s.users.Add(-1) == 0 {
		<-s.connection
	}
}

// leave frees the gate's slot at once, and the connection's with its last user.
func (s *connSlot) leave() {
	s.gateSlot.leave()
	s.unshare()
}
