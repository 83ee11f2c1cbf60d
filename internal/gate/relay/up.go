package relay

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// An uplink is the direction from the client to libvirtd.
type uplink struct {
	*connection
	frames      wire.Splitter
	passing     bool        // the frame is passed on, and libvirtd's socket is locked
	call        *heldCall   // the call that is collected
	begun       []byte      // the beginning of a call that the previous gate has read
	descriptors []int       // the descriptors that came with begun
	ended       atomic.Bool // the client sends nothing any more
}

func (c *connection) fromClient() error {
	u := &c.up
	defer func() {
		if u.passing {
			c.server.Unlock()
		}
		if u.call != nil {
			c.release(u.call)
		}
	}()
	err := transport.Cut(&u.frames, u.begun, u.descriptors, u.take)
	u.begun, u.descriptors = nil, nil
	if err == nil {
		err = transport.Pump(c.client, &u.frames, u.take)
	}
	u.ended.Store(err == nil)
	return err
}

// mayRest reports whether the direction may pause in its present state. It may not do so within a
// frame if a held call or a question of the gate waits for the frame's end.
func (u *uplink) mayRest() bool {
	return !u.passing || u.held.calls.Load() == 0 && u.questions.idle()
}

func (u *uplink) take(p wire.Piece, descriptor int) error {
	if p.First {
		if err := u.begin(p.Header); err != nil {
			return err
		}
	}
	switch {
	case u.call != nil:
		u.add(u.call, p, descriptor)
		if p.Last {
			h := u.call
			u.call = nil
			if h.inspected {
				u.inspect(h)
			} else {
				u.hold(h)
			}
		}
		return nil
	case p.Descriptor:
		if err := u.server.Pass(descriptor); err != nil {
			return err
		}
	default:
		if err := u.server.Write(p.Bytes); err != nil {
			return err
		}
	}
	if p.Last {
		u.passing = false
		u.server.Unlock()
	}
	return nil
}

// begin decides how a frame is handled. Only calls make libvirtd act, so other frames pass.
func (u *uplink) begin(h wire.Header) error {
	if u.server == nil {
		if err := u.reach(); err != nil {
			return u.unreachable(h, err)
		}
	}
	if isCall(h) {
		u.call = u.treat(h)
	}
	if u.call == nil {
		u.server.Lock()
		u.passing = true
	}
	return nil
}

// treat returns the call that is to be collected, or nil if it passes.
func (u *uplink) treat(h wire.Header) *heldCall {
	treatment := call.Of(h.Program, h.Procedure)
	if treatment == call.Unknown {
		u.gate.Metrics.unknown.Inc()
		u.gate.reportUnknown(h)
		if !u.gate.RefuseUnknown {
			treatment = call.Pass
		}
	}
	if treatment == call.Pass {
		u.gate.Metrics.passed.Inc()
		return u.questions.note(h)
	}
	if treatment == call.Inspect || treatment == call.Identify && u.mayIdentify() {
		return &heldCall{header: h, began: time.Now(), inspected: true}
	}
	if u.gate.Off() {
		u.countOff(h)
		return nil
	}
	refusal := refusalOf(h)
	if refusal == nil {
		refusal = u.caller.settle()
	}
	return &heldCall{header: h, began: time.Now(), refusal: refusal}
}

// mayIdentify reports whether the client may name another client as the caller. Only root's
// processes may, which can reach libvirtd in any case.
func (c *connection) mayIdentify() bool { return c.caller.peer.UID == c.gate.root }

// countOff notes a call that passes because the gate is off.
func (c *connection) countOff(h wire.Header) {
	c.gate.Metrics.off.Inc()
	c.gate.Log.Warn("the gate is off: a call passes", "procedure", call.Name(h.Program, h.Procedure), "uid", c.caller.get().UID, "pid", c.caller.get().PID)
}

// refusalOf returns the reason for which a call is refused whatever its arguments; nil if the call
// has to be decided.
func refusalOf(h wire.Header) error {
	switch call.Of(h.Program, h.Procedure) {
	case call.Refuse, call.Identify:
		return &hookproto.Veto{Reason: "no client may do this through the gate"}
	case call.Unknown:
		return errors.New("the gate does not know this procedure; update the gate, or let it pass what it does not know")
	}
	return nil
}

// maxUnknown bounds how many unknown procedures are logged. Otherwise any user could fill the log.
const maxUnknown = 100

func (g *Gate) reportUnknown(h wire.Header) {
	name := call.Name(h.Program, h.Procedure)
	if g.unknowns.Load() >= maxUnknown {
		return
	}
	if _, known := g.unknown.LoadOrStore(name, true); !known {
		g.unknowns.Add(1)
		g.Log.Warn("the gate does not know a procedure that is called; update it", "procedure", name, "passes", !g.RefuseUnknown)
	}
}
