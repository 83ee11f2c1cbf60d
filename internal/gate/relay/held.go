package relay

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// held counts the calls of one connection that wait for a decision.
type held struct {
	calls      atomic.Int64
	bytes      atomic.Int64
	evaluating chan struct{} // a slot for each evaluation that has not ended
	wait       sync.WaitGroup
}

// A heldCall is a call that is held as a whole until it is decided.
type heldCall struct {
	header      wire.Header
	began       time.Time // when its first bytes came
	frame       []byte
	descriptors []int
	charged     int64           // bytes of it that count for the whole gate
	refusal     error           // the refusal that is certain already; the frame is not held then
	after       <-chan struct{} // a call without a decision passes when this is closed; nil for others
	inspected   bool            // its arguments alone decide
	autodestroy bool            // it starts a domain that ends with the connection
}

// args returns the arguments of a call that is held whole.
func (h *heldCall) args() []byte {
	if h.header.Kind == wire.CallWithFDs {
		return h.frame[wire.HeaderSize+4:] // behind the number of descriptors
	}
	return h.frame[wire.HeaderSize:]
}

// add appends a piece to a call. If the call exceeds a limit, add sets its refusal and frees the
// frame.
func (c *connection) add(h *heldCall, p wire.Piece, descriptor int) {
	if p.Descriptor {
		h.descriptors = append(h.descriptors, descriptor)
		return
	}
	if h.refusal != nil {
		return
	}
	size := int64(len(p.Bytes))
	here := c.held.bytes.Add(size)
	var everywhere int64
	if len(h.frame)+len(p.Bytes) > largeCall {
		everywhere = c.gate.held.Add(size)
		h.charged += size
	}
	h.frame = append(h.frame, p.Bytes...)
	_, most := c.limits()
	switch {
	case h.header.Length > maxCall:
		h.refusal = fmt.Errorf("the call has %d bytes, and the gate holds no more than %d MiB for a decision; make it smaller", h.header.Length, maxCall>>20)
	case here > most:
		h.refusal = fmt.Errorf("this connection has more than %d bytes of calls that wait for a decision; wait for some of them", most)
	case everywhere > maxHeldAll:
		h.refusal = fmt.Errorf("more than %d MiB of calls wait for a decision; try again", maxHeldAll>>20)
	}
	if h.refusal != nil {
		c.discharge(h)
	}
}

// limits returns how many calls of the connection may wait for a decision, and their bytes.
func (c *connection) limits() (calls, bytes int64) {
	if c.gate.ReadOnly || !c.opened.Load() {
		return maxHeldUnauthenticated, maxHeldUnauthenticatedBytes
	}
	return maxHeld, maxHeldHere
}

// discharge frees a call's frame, and its share of the limits.
func (c *connection) discharge(h *heldCall) {
	c.held.bytes.Add(-int64(len(h.frame)))
	c.gate.held.Add(-h.charged)
	h.frame, h.charged = nil, 0
}

// release frees a call's frame and closes its descriptors.
func (c *connection) release(h *heldCall) {
	c.discharge(h)
	transport.CloseAll(h.descriptors)
	h.descriptors = nil
}

// hold starts the evaluation of a call. If too many calls wait, it refuses the call at once.
// Otherwise the gate would have to stop reading, and libvirtd would miss the client's signs of
// life.
func (c *connection) hold(h *heldCall) {
	if most, _ := c.limits(); c.held.calls.Add(1) > most {
		c.held.calls.Add(-1)
		c.release(h)
		c.gate.Metrics.answered(answerFault, h.began)
		c.refuse(h, "", fmt.Errorf("%d calls of this connection wait for a decision already; wait for some of them", most))
		return
	}
	c.held.wait.Go(func() {
		defer c.held.calls.Add(-1)
		defer c.release(h)
		c.evaluate(h)
	})
}

// inspect passes or refuses a call by its arguments, before the next frame is read. Otherwise a
// later call could overtake it.
func (c *connection) inspect(h *heldCall) {
	defer c.release(h)
	err := h.refusal
	if err == nil {
		err = c.check(h)
	}
	if err != nil && h.refusal == nil && c.gate.Off() {
		c.countOff(h.header)
		err = nil
	} else if err == nil {
		c.gate.Metrics.passed.Inc()
	}
	if err != nil {
		c.gate.Metrics.answered(answerOf(err), h.began)
		c.refuse(h, "", err)
		return
	}
	c.passOn(h)
}

// check returns the reason for which the call's arguments are refused; nil if there is not one.
func (c *connection) check(h *heldCall) error {
	if call.Of(h.header.Program, h.header.Procedure) == call.Identify {
		return c.caller.offer(h.header, h.args())
	}
	return call.Check(h.header.Program, h.header.Procedure, h.args())
}

// evaluate decides about a call, and passes or refuses it. If the client has gone by then, the call
// is dropped.
func (c *connection) evaluate(h *heldCall) {
	if h.after != nil {
		select {
		case <-h.after:
			c.passOn(h)
		case <-c.ctx.Done():
		}
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.gate.patience)
	defer cancel()
	name, err := "", h.refusal
	if err == nil {
		name, err = c.decide(ctx, h)
	}
	if c.ctx.Err() != nil || c.client.HasHungUp() {
		c.gate.Metrics.answered(answerDropped, h.began)
		c.log("a client has gone; its call was dropped", h, name, err)
		return
	}
	c.gate.Metrics.answered(answerOf(err), h.began)
	if err != nil {
		c.refuse(h, name, err)
		return
	}
	c.passOn(h)
}

// passOn sends a call to libvirtd as it came.
func (c *connection) passOn(h *heldCall) {
	c.questions.sent(h.header)
	if h.autodestroy {
		c.autodestroy.sent(h.header)
	}
	descriptors := h.descriptors
	h.descriptors = nil // Send closes them
	if c.server.Send(h.frame, descriptors) != nil {
		c.close()
	}
}
