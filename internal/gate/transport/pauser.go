package transport

import (
	"sync"
	"time"
)

// A Pauser pauses a loop between two reads, to continue later, in this program or in another. Rest
// is for the loop; the other methods may be called by any goroutine.
type Pauser struct {
	// May reports whether the loop may pause where it is; nil means always. It is set before the
	// loop begins.
	May func() bool

	// Requested has a value if a pause is requested, for a loop that does not read just then.
	Requested chan struct{}

	interrupt func(deadline time.Time) error // for what the loop reads from

	mu      sync.Mutex
	goOn    chan struct{} // closed when the loop may continue; nil if no pause is requested
	resting bool
	ended   bool // no pause is possible any more
}

// NewPauser returns a pauser of a loop whose reads interrupt ends by setting their deadline.
func NewPauser(interrupt func(deadline time.Time) error) *Pauser {
	return &Pauser{interrupt: interrupt, Requested: make(chan struct{}, 1)}
}

var longAgo = time.Unix(1, 0)

// Request requests a pause, and reports whether the loop has paused. If the loop must not pause
// yet, it has to be requested again.
func (h *Pauser) Request() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.resting {
		return h.resting
	}
	if h.goOn == nil {
		h.goOn = make(chan struct{})
	}
	_ = h.interrupt(longAgo)
	select {
	case h.Requested <- struct{}{}:
	default:
	}
	return false
}

// Rest is called by the loop when its read was interrupted. It returns when the loop may continue.
func (h *Pauser) Rest() {
	h.mu.Lock()
	goOn := h.goOn
	h.resting = goOn != nil && (h.May == nil || h.May())
	if !h.resting {
		_ = h.interrupt(time.Time{})
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	<-goOn
}

// Resume continues the loop.
func (h *Pauser) Resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.goOn != nil {
		close(h.goOn)
	}
	h.goOn, h.resting = nil, false
	_ = h.interrupt(time.Time{})
}

// End continues the loop, and prevents further pauses.
func (h *Pauser) End() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.Resume()
}
