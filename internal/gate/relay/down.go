package relay

import (
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// A downlink is the direction from libvirtd to the client.
type downlink struct {
	*connection
	frames  wire.Splitter
	passing bool      // the frame is passed on, and the client's socket is locked
	answer  *question // the question that the frame answers; nil for the client's own frames
	start   []byte    // the bytes so far of the answer to a start with autodestroy; nil for other frames
}

func (c *connection) fromServer() error {
	d := &c.down
	defer func() {
		if d.passing {
			c.client.Unlock()
		}
	}()
	return transport.Pump(c.server, &d.frames, d.take)
}

func (d *downlink) take(p wire.Piece, descriptor int) error {
	if p.First {
		if opens(p.Header) {
			d.opened.Store(true)
		}
		d.caller.answered(p.Header)
		if d.autodestroy.isAnswer(p.Header) && p.Header.Length <= maxStartReply {
			d.start = []byte{}
		}
		if d.answer = d.questions.answered(p.Header); d.answer == nil {
			d.client.Lock()
			d.passing = true
		}
	}
	switch {
	case d.answer != nil:
		d.answer.add(p)
		if p.Last {
			d.questions.finish(d.answer)
		}
		return nil
	case p.Descriptor:
		if err := d.client.Pass(descriptor); err != nil {
			return err
		}
	default:
		if d.start != nil {
			d.start = append(d.start, p.Bytes...)
		}
		if d.start != nil && p.Last { // before the client sees it, and perhaps closes the connection
			d.autodestroy.answered(p.Header, d.start)
			d.start = nil
		}
		if err := d.client.Write(p.Bytes); err != nil {
			return err
		}
	}
	if p.Last {
		d.passing = false
		d.client.Unlock()
	}
	return nil
}

// mayRest reports whether the direction may pause in its present state. An answer that is being
// collected is not handed over.
func (d *downlink) mayRest() bool { return d.start == nil }

// opens reports whether libvirtd lets a client in. It does so by answering CONNECT_OPEN, which it
// refuses until the client has authenticated.
func opens(h wire.Header) bool {
	const connectOpen = 1
	return h.Program == call.Remote && h.Procedure == connectOpen && h.Kind == wire.Reply && h.Status == wire.OK
}
