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

	// maxQuestions bounds the gate's questions at once, besides one for a state. libvirtd may be
	// slow with XML and still answer about states. It stops reading when five calls of a connection
	// (max_client_requests) are under way.
	maxQuestions = 2
)

// questions are the gate's calls on a client's connection, between the client's own calls. An
// answer is known by its procedure and serial. So the client's calls of the same procedures are
// counted, and a serial in use by one side is not used by the other.
type questions struct {
	mu      sync.Mutex
	clients map[id]int       // the client's calls without an answer
	ours    map[id]*question // the gate's calls without an answer
	flights map[document]*flight
	room    chan struct{} // a slot for each question, but for states
	state   chan struct{} // the slot for a question about a state
}

type id struct{ procedure, serial uint32 }

// isOurs reports whether the gate makes calls of this procedure.
func isOurs(h wire.Header) bool {
	return h.Program == call.Remote && (h.Procedure == domainXML || h.Procedure == domainState || h.Procedure == listDomains || volume.IsAsked(h.Procedure))
}

// A question is a call that the gate makes.
type question struct {
	id     id
	done   chan struct{} // closed when the answer is complete
	header wire.Header
	data   []byte // the answer's frame
	err    error
}

// note counts a client's call that passes. If a question of the gate has its procedure and serial,
// note returns the call instead, which is held until the question is answered.
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

// answered returns the question that a frame of libvirtd's answers; nil if it answers the client.
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

// add appends a piece of the answer, unless the answer is too long.
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
func (q *questions) finish(own *question) {
	q.mu.Lock()
	delete(q.ours, own.id)
	q.mu.Unlock()
	<-q.slots(own.id.procedure)
	close(own.done)
}

// question makes a call and returns libvirtd's reply; an error of libvirtd's is a *wire.Error. It
// also returns an error when ctx is done or the client has gone. A call that is not answered keeps
// its serial and its slot.
func (c *connection) question(ctx context.Context, procedure uint32, args []byte) ([]byte, error) {
	q := &c.questions
	select {
	case q.slots(procedure) <- struct{}{}:
	case <-ctx.Done():
		return nil, errLate
	}
	own := q.register(procedure)
	frame := wire.Frame(wire.Header{Program: call.Remote, Version: 1, Procedure: procedure, Serial: own.id.serial}, args)
	if err := c.server.Send(frame, nil); err != nil {
		c.close()
		return nil, err
	}
	select {
	case <-own.done:
	case <-c.ctx.Done():
		return nil, errors.New("the client has gone")
	case <-ctx.Done():
		return nil, errLate
	}
	if own.err != nil {
		return nil, own.err
	}
	payload := own.data[wire.HeaderSize:]
	if own.header.Status == wire.OK {
		return payload, nil
	}
	e, err := wire.ReadError(payload)
	if err != nil {
		return nil, fmt.Errorf("libvirtd's error cannot be read: %w; report this", err)
	}
	return nil, e
}

// register returns a question with a random serial, which a client cannot foresee, and which no
// call under way has.
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
