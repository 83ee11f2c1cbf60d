package relay

import (
	"sync"
	"time"
)

// A pauser pauses a loop between two reads, to continue later, in this program or in another.
type pauser struct {
	interrupt func(deadline time.Time) error // for what the loop reads from
	may       func() bool                    // whether the loop may pause where it is; nil means always

	asked chan struct{} // has a value if a pause is requested, for a loop that does not read just then

	mu      sync.Mutex
	goOn    chan struct{} // closed when the loop may continue; nil if no pause is requested
	resting bool
	ended   bool // no pause is possible any more
}

func newPauser(interrupt func(time.Time) error) *pauser {
	return &pauser{interrupt: interrupt, asked: make(chan struct{}, 1)}
}

var longAgo = time.Unix(1, 0)

// ask requests a pause, and reports whether the loop has paused. If the loop must not pause yet, it
// has to be asked again.
func (h *pauser) ask() bool {
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
	case h.asked <- struct{}{}:
	default:
	}
	return false
}

// rest is called by the loop when its read was interrupted. It returns when the loop may continue.
func (h *pauser) rest() {
	h.mu.Lock()
	goOn := h.goOn
	h.resting = goOn != nil && (h.may == nil || h.may())
	if !h.resting {
		_ = h.interrupt(time.Time{})
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	<-goOn
}

// resume continues the loop.
func (h *pauser) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.goOn != nil {
		close(h.goOn)
	}
	h.goOn, h.resting = nil, false
	_ = h.interrupt(time.Time{})
}

// end continues the loop, and prevents further pauses.
func (h *pauser) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.resume()
}
