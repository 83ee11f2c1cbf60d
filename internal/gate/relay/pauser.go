package relay

import (
	"sync"
	"time"
)

// A halt is where a loop that reads can be stopped between two reads, to go on later, here or in another program.
type pauser struct {
	interrupt func(deadline time.Time) error // for what the loop reads from
	may       func() bool                    // whether the loop may rest where it is; nil means always

	asked chan struct{} // has something when it is asked to rest, for a loop that does not read just then

	mu      sync.Mutex
	goOn    chan struct{} // closed when the loop may go on; nil if it is not asked to rest
	resting bool
	ended   bool // it is not to rest any more
}

func newPauser(interrupt func(time.Time) error) *pauser {
	return &pauser{interrupt: interrupt, asked: make(chan struct{}, 1)}
}

var longAgo = time.Unix(1, 0)

// ask asks the loop to rest, and reports whether it does by now. A loop that must not rest yet has to be asked again.
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

// rest is called by the loop when its read was interrupted. It returns when the loop is to read on.
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

// resume has the loop go on.
func (h *pauser) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.goOn != nil {
		close(h.goOn)
	}
	h.goOn, h.resting = nil, false
	_ = h.interrupt(time.Time{})
}

// end has the loop go on, for good.
func (h *pauser) end() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.resume()
}
