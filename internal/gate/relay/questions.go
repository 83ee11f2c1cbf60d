package relay

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/volume"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The procedures that the gate calls on a client's connection.
const (
	listDomains = 273 // CONNECT_LIST_ALL_DOMAINS
	domainXML   = 14  // DOMAIN_GET_XML_DESC
	domainState = 212 // DOMAIN_GET_STATE

	// maxQuestions bounds the gate's calls at once, besides one for a state: libvirtd may be slow
	// with XML and still answer about states. It reads no further when five calls of a connection
	// (max_client_requests) are under way.
	maxQuestions = 2
)

// questions are the gate's calls on a client's connection, between the client's own calls. An
// answer is known by its procedure and serial, so the client's calls of the same procedures are
// counted, and neither may use a serial of the other's.
type questions struct {
	mu      sync.Mutex
	clients map[id]int       // the client's calls without an answer
	ours    map[id]*question // ours
	flights map[document]*flight
	room    chan struct{} // a slot for each of ours, but for states
	state   chan struct{} // the slot of one for a state
}

type id struct{ procedure, serial uint32 }

// isOurs reports whether we make calls of this procedure.
func isOurs(h wire.Header) bool {
	return h.Program == call.Remote && (h.Procedure == domainXML || h.Procedure == domainState || h.Procedure == listDomains || volume.IsAsked(h.Procedure))
}

// A question is a call that we have made.
type question struct {
	id     id
	done   chan struct{} // closed when the rest is there
	header wire.Header
	data   []byte // the frame
	err    error
}

// note counts a client's call that passes. If its serial is that of a question of ours, it returns
// the call, which is to be held until that is answered.
func (q *questions) note(h wire.Header) *heldCall {
	if !isOurs(h) {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if ours := q.ours[id{h.Procedure, h.Serial}]; ours != nil {
		return &heldCall{header: h, after: ours.done}
	}
	q.count(h)
	return nil
}

// sent counts a client's call that was held and passes now.
func (q *questions) sent(h wire.Header) {
	if isOurs(h) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.count(h)
	}
}

func (q *questions) count(h wire.Header) {
	if q.clients == nil {
		q.clients = map[id]int{}
	}
	q.clients[id{h.Procedure, h.Serial}]++
}

// answered returns the question that a frame of libvirtd's answers, if it is one of ours.
func (q *questions) answered(h wire.Header) *question {
	if h.Kind != wire.Reply || !isOurs(h) {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	key := id{h.Procedure, h.Serial}
	if ours := q.ours[key]; ours != nil {
		return ours
	}
	if q.clients[key]--; q.clients[key] <= 0 {
		delete(q.clients, key)
	}
	return nil
}

// add keeps a piece of the answer.
func (q *question) add(p wire.Piece) {
	q.header = p.Header
	switch {
	case q.err != nil || p.Descriptor:
	case p.Header.Length > maxReply:
		q.err = fmt.Errorf("libvirtd's answer has %d bytes; make the domain's metadata smaller", p.Header.Length)
	default:
		q.data = append(q.data, p.Bytes...)
	}
}

// slots returns the semaphore for questions of a procedure.
func (q *questions) slots(procedure uint32) chan struct{} {
	if procedure == domainState {
		return q.state
	}
	return q.room
}

// finish passes the answer to the goroutine that waits for it.
func (q *questions) finish(answered *question) {
	q.mu.Lock()
	delete(q.ours, answered.id)
	q.mu.Unlock()
	<-q.slots(answered.id.procedure)
	close(answered.done)
}

// question makes a call and returns libvirtd's reply; an error of libvirtd's is a *wire.Error. It
// also returns an error when ctx is done or the client has gone. A call without a reply keeps its
// serial and its slot.
func (c *connection) question(ctx context.Context, procedure uint32, args []byte) ([]byte, error) {
	q := &c.questions
	select {
	case q.slots(procedure) <- struct{}{}:
	case <-ctx.Done():
		return nil, errLate
	}
	asked := q.register(procedure)
	frame := wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: procedure, Serial: asked.id.serial}, args)
	if err := c.server.Send(frame, nil); err != nil {
		c.close()
		return nil, err
	}
	select {
	case <-asked.done:
	case <-c.ctx.Done():
		return nil, errors.New("the client has gone")
	case <-ctx.Done():
		return nil, errLate
	}
	if asked.err != nil {
		return nil, asked.err
	}
	payload := asked.data[wire.HeaderSize:]
	if asked.header.Status == wire.OK {
		return payload, nil
	}
	e, err := wire.ReadError(payload)
	if err != nil {
		return nil, fmt.Errorf("libvirtd's error cannot be read: %w; report this", err)
	}
	return nil, e
}

// register chooses a serial that no call of the client's has, and that a client cannot foresee.
func (q *questions) register(procedure uint32) *question {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ours == nil {
		q.ours = map[id]*question{}
	}
	for {
		var random [4]byte
		_, _ = rand.Read(random[:]) // it never fails
		key := id{procedure, binary.BigEndian.Uint32(random[:])}
		if q.clients[key] == 0 && q.ours[key] == nil {
			q.ours[key] = &question{id: key, done: make(chan struct{})}
			return q.ours[key]
		}
	}
}
