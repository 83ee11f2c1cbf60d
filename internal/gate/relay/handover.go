package relay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/policy"
)

// A ConnState is the whole state of a paused connection, which one gate hands over to another. No
// call waits for a decision, and every question of the gate's own to libvirtd is answered.
type ConnState struct {
	Client int  // Client is the descriptor of the client's socket.
	Server int  // Server is the descriptor of the socket to libvirtd; -1 if the client has sent nothing yet.
	Opened bool // Opened is set if libvirtd has let the client in.

	// LoginUID, Service, Unit and Executable are those of the peer, which /proc may no longer have.
	// The kernel still has everything else about the peer.
	LoginUID int
	Service  string `json:",omitempty"`

	Unit, Executable string `json:",omitempty"`

	// Caller is the client that the peer has named; nil if the peer is the caller. Settled is set
	// if the peer may not name a client any more.
	Caller  *policy.Caller `json:",omitempty"`
	Settled bool

	FromClient, FromServer wire.Position // The positions of the two directions. A frame that has begun is being passed on.

	// Begun is the beginning of a call that is to be decided. FromClient stands before it. It may
	// be large, and is left out of JSON.
	Begun       []byte `json:"-"`
	Descriptors []int  // Descriptors are those that came with Begun.

	// Refused is set if FromClient stands within a call that is not passed on and will be refused.
	Refused bool

	// Autodestroy are the domains that end with the connection. Starts are the calls that start
	// such a domain and are not answered yet.
	Autodestroy []AutoDomain `json:",omitempty"`
	Starts      []CallState  `json:",omitempty"`

	Calls []CallState // Calls are the client's own calls of the procedures that a gate makes, without an answer yet.
}

// A CallState is a number of calls of one procedure with one serial.
type CallState struct {
	Procedure, Serial uint32
	Count             int
}

// A Busy is a connection that does not pause.
type Busy struct {
	UID, PID int
	Why      string
}

// retryPause is the time between two requests to pause, for loops that cannot pause at once.
const retryPause = 2 * time.Millisecond

// Quiesce pauses the gate: it accepts no client, held calls get their decision, and every
// connection stops between two reads. Clients notice a delay. Quiesce returns the connections that
// have not paused when ctx is done; nil if all have. [Gate.Resume] continues.
func (g *Gate) Quiesce(ctx context.Context) []Busy {
	for {
		busy, all := g.requestPause()
		if all {
			return nil
		}
		select {
		case <-ctx.Done():
			if len(busy) == 0 {
				busy = []Busy{{Why: "the gate is just beginning to serve, or accepts a client"}}
			}
			return busy
		case <-time.After(retryPause):
		}
	}
}

// requestPause asks every loop to pause. It returns the connections that have not paused yet, and
// whether everything has.
func (g *Gate) requestPause() (busy []Busy, all bool) {
	g.serving.Lock()
	defer g.serving.Unlock()
	all = len(g.listeners) > 0 // the gate serves, and has taken over its connections
	for l := range g.listeners {
		all = l.Request() && all
	}
	for c := range g.connections {
		if why := c.requestPause(); why != "" {
			busy = append(busy, Busy{c.caller.peer.UID, c.caller.peer.PID, why})
			all = false
		}
	}
	return busy, all
}

// Resume continues after [Gate.Quiesce].
func (g *Gate) Resume() {
	g.serving.Lock()
	defer g.serving.Unlock()
	for c := range g.connections {
		c.resume()
	}
	for l := range g.listeners {
		l.Resume()
	}
}

// States returns the connections of a gate that has paused. The gate keeps them, and must not
// continue once another gate has taken them over.
func (g *Gate) States() []ConnState {
	g.serving.Lock()
	defer g.serving.Unlock()
	all := make([]ConnState, 0, len(g.connections))
	for c := range g.connections {
		all = append(all, c.carry())
	}
	return all
}

// requestPause asks the connection to pause. It returns the reason if it has not paused yet, and ""
// if it has. The order is: stop reading from the client, decide the held calls, stop reading from
// libvirtd. Otherwise a held call would wait for an answer of libvirtd's that the gate does not
// read.
func (c *connection) requestPause() string {
	if !c.up.ended.Load() && !c.client.Pauser.Request() {
		return "libvirtd does not read, or the client has sent one call and a part of the next"
	}
	if c.held.calls.Load() > 0 || !c.questions.idle() {
		return "a call waits for its decision"
	}
	if !c.caller.isIdle() {
		return "libvirtd has not answered who its client is"
	}
	c.closing.Lock()
	server := c.server
	c.closing.Unlock()
	if server != nil && !server.Pauser.Request() {
		return "the client does not read"
	}
	return ""
}

func (c *connection) resume() {
	c.client.Pauser.Resume()
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.server != nil {
		c.server.Pauser.Resume()
	}
}

func (c *connection) carry() ConnState {
	k := ConnState{
		Client: c.client.Descriptor(), Server: transport.NoDescriptor, Opened: c.opened.Load(),
		FromClient: c.up.frames.Position(), FromServer: c.down.frames.Position(),
		Calls: c.questions.carry(), Autodestroy: c.autodestroy.list(), Starts: c.autodestroy.carry(),
	}
	c.caller.carry(&k)
	if c.server != nil {
		k.Server = c.server.Descriptor()
	}
	if h := c.up.call; !c.up.ended.Load() && h != nil { // after the end, the direction itself releases the call
		if h.refusal != nil {
			k.Refused = true
			return k
		}
		k.FromClient = wire.Position{}
		k.Descriptors = h.descriptors
		k.Begun = append(slices.Clip(h.frame), make([]byte, len(h.descriptors))...) // a byte for each
	}
	return k
}

// take returns the connection of a state. The descriptors of the state belong to the connection
// from then on, and are closed after an error.
func (g *Gate) take(ctx context.Context, k ConnState) (taken *connection, err error) {
	defer func() {
		if err != nil {
			transport.CloseAll(k.Descriptors)
		}
	}()
	client, err := transport.ConnOf(k.Client)
	if err != nil {
		_ = transport.CloseDescriptor(k.Server)
		return nil, err
	}
	c, err := newConnection(ctx, g, client)
	if err != nil {
		_ = client.Close()
		_ = transport.CloseDescriptor(k.Server)
		return nil, err
	}
	defer func() {
		if err != nil {
			c.cancel()
			c.close()
		}
	}()
	c.caller.take(k)
	c.questions.take(k.Calls)
	c.autodestroy.take(k)
	if c.up.frames, err = c.up.frames.At(k.FromClient); err == nil {
		c.down.frames, err = c.down.frames.At(k.FromServer)
	}
	if err == nil && k.Server == transport.NoDescriptor && isWithinFrame(k.FromClient) {
		err = fmt.Errorf("a frame is being passed on to nobody; report this")
	}
	if err != nil {
		_ = transport.CloseDescriptor(k.Server)
		return nil, err
	}
	if k.Server != transport.NoDescriptor {
		if err := c.takeServer(k); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// takeServer takes over the connection to libvirtd, and the frames that are being passed on.
func (c *connection) takeServer(k ConnState) error {
	conn, err := transport.ConnOf(k.Server)
	if err != nil {
		return err
	}
	if c.server, err = transport.New(conn); err != nil {
		_ = conn.Close()
		return err
	}
	c.server.Pauser.May = c.down.mayRest
	c.opened.Store(k.Opened)
	c.up.begun, c.up.descriptors = k.Begun, k.Descriptors
	switch isWithin := isWithinFrame(k.FromClient); {
	case isWithin && k.Refused:
		h := k.FromClient.Header
		c.up.call = &heldCall{header: h, began: time.Now(), refusal: refusalOf(h), inspected: call.Of(h.Program, h.Procedure) == call.Inspect}
		if c.up.call.refusal == nil {
			c.up.call.refusal = errNotKept
		}
	case isWithin:
		c.server.Lock()
		c.up.passing = true
	}
	if isWithinFrame(k.FromServer) {
		c.client.Lock()
		c.down.passing = true
	}
	return nil
}

// isWithinFrame reports whether a direction stands within a frame, which has bytes or descriptors
// to come.
func isWithinFrame(p wire.Position) bool { return p.Left+p.Descriptors > 0 }

// errNotKept refuses a call that was too large for the previous gate to hold.
var errNotKept = fmt.Errorf("the gate was replaced while the call came, and has not kept it; try again")

// carry returns the client's calls that are not answered yet.
func (q *questions) carry() []CallState {
	q.mu.Lock()
	defer q.mu.Unlock()
	return callStates(q.clients)
}

func callStates(all map[id]int) []CallState {
	var calls []CallState
	for key, n := range all {
		calls = append(calls, CallState{key.procedure, key.serial, n})
	}
	slices.SortFunc(calls, func(a, b CallState) int { return int(int64(a.Serial) - int64(b.Serial)) })
	return calls
}

// carry returns the starts without an answer.
func (a *autodestroy) carry() []CallState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return callStates(a.starts)
}

func (a *autodestroy) take(k ConnState) {
	for _, d := range k.Autodestroy {
		a.add(d)
	}
	for _, start := range k.Starts {
		for range start.Count {
			a.sent(wire.Header{Procedure: start.Procedure, Serial: start.Serial})
		}
	}
}

func (q *questions) take(calls []CallState) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range calls {
		if q.clients == nil {
			q.clients = map[id]int{}
		}
		q.clients[id{k.Procedure, k.Serial}] = k.Count
	}
}

// idle reports whether the gate has no question under way and no fetch.
func (q *questions) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.room) == 0 && len(q.state) == 0 && len(q.flights) == 0
}
