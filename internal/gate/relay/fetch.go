package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// What XML of a domain is wanted, as libvirt's flags.
const (
	liveXML     = 0
	inactiveXML = 2
)

// errNoDomain: libvirtd does not know the domain.
var errNoDomain = errors.New("there is no such domain")

type document struct {
	uuid  string
	flags uint32
}

// A turn is the fetch of a document that is under way, and the one after it. What is under way may have been read before a
// request came, so requests share the next one.
type flight struct{ next *fetch }

type fetch struct {
	done chan struct{}
	xml  []byte
	err  error
}

// xml returns a domain's XML as it is now or was after it was asked for. It may be shared, and is not to be changed. If
// libvirtd knows no such domain, the error is errNoDomain; what the client may not read is a *wire.Error.
func (c *connection) xml(ctx context.Context, uuid string, flags uint32) ([]byte, error) {
	d := document{uuid, flags}
	f, ours := c.flight(d)
	if ours {
		c.fetch(ctx, d, f)
	}
	select {
	case <-f.done:
		return f.xml, f.err
	case <-ctx.Done():
		return nil, errLate
	}
}

// turn returns the fetch that a request waits for. The first one is the request's own, which makes it.
func (c *connection) flight(d document) (f *fetch, ours bool) {
	q := &c.questions
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flights == nil {
		q.flights = map[document]*flight{}
	}
	f = &fetch{done: make(chan struct{})}
	switch t := q.flights[d]; {
	case t == nil:
		q.flights[d] = &flight{}
		return f, true
	case t.next == nil:
		t.next = f
	default:
		f = t.next
	}
	return f, false
}

func (c *connection) fetch(ctx context.Context, d document, f *fetch) {
	began := time.Now()
	f.xml, f.err = c.freshXML(ctx, d)
	c.gate.Metrics.fetching.Observe(time.Since(began).Seconds())
	close(f.done)

	q := &c.questions
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.flights[d]
	if t.next == nil {
		delete(q.flights, d)
		return
	}
	go c.fetchShared(d, t.next)
	t.next = nil
}

// fetchShared fetches for whoever still waits.
func (c *connection) fetchShared(d document, f *fetch) {
	ctx, cancel := context.WithTimeout(c.ctx, c.gate.patience)
	defer cancel()
	c.fetch(ctx, d, f)
}

// freshXML asks libvirtd for the XML. It has workers of their own for calls such as destroy, for when all others wait for guests
// that hang, but they give no XML. So if only that does not come, it is taken from what libvirtd has written: for a client
// whom nothing of it would be kept from.
func (c *connection) freshXML(ctx context.Context, d document) ([]byte, error) {
	if c.gate.StatusXML == nil || d.flags != liveXML || c.caller.UID != c.gate.self {
		return c.getXML(ctx, d)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan []byte, 1)
	defer time.AfterFunc(c.gate.patience/2, func() {
		// Such a worker tells the state. A libvirtd that does not even tell that would do what it is asked to when nobody knows.
		if _, err := c.starting(ctx, d.uuid); err != nil {
			return
		}
		if xml, err := c.gate.StatusXML(d.uuid); err == nil {
			written <- xml
			cancel()
		}
	}).Stop()
	xml, err := c.getXML(ctx, d)
	select {
	case xml := <-written:
		return xml, nil
	default:
		return xml, err
	}
}

func (c *connection) getXML(ctx context.Context, d document) ([]byte, error) {
	args, err := wire.AppendDomain(nil, "", d.uuid)
	if err != nil {
		return nil, err
	}
	reply, err := c.question(ctx, domainXML, wire.AppendUint32(args, d.flags))
	if err != nil {
		return nil, mapLibvirtError(err)
	}
	r := wire.Decode(reply)
	xml := r.Opaque()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("libvirtd's XML cannot be read: %w; report this", err)
	}
	return xml, nil
}

// starting reports whether libvirtd is about to start the domain, which has an id already. It is paused then, for that reason.
// One that libvirtd does not know any more is not.
func (c *connection) starting(ctx context.Context, uuid string) (bool, error) {
	args, err := wire.AppendDomain(nil, "", uuid)
	if err != nil {
		return false, err
	}
	reply, err := c.question(ctx, domainState, wire.AppendUint32(args, 0))
	if err != nil {
		if err = mapLibvirtError(err); errors.Is(err, errNoDomain) {
			err = nil
		}
		return false, err
	}
	const paused, startingUp = 3, 11 // VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP
	r := wire.Decode(reply)
	state, why := r.Uint32(), r.Uint32()
	if err := r.Err(); err != nil {
		return false, fmt.Errorf("libvirtd's state of the domain cannot be read: %w; report this", err)
	}
	return state == paused && why == startingUp, nil
}

// running returns the UUIDs of the domains that run and that the client may see.
func (c *connection) running(ctx context.Context) ([]string, error) {
	const wanted, active = 1, 1
	reply, err := c.question(ctx, listDomains, wire.AppendUint32(wire.AppendUint32(nil, wanted), active))
	if err != nil {
		return nil, mapLibvirtError(err)
	}
	r := wire.Decode(reply)
	var uuids []string
	for n := r.Uint32(); n > 0 && r.Err() == nil; n-- {
		_ = r.String()
		uuids = append(uuids, r.UUID())
		r.Uint32()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("libvirtd's list of domains cannot be read: %w; report this", err)
	}
	return uuids, nil
}

// told reports what an error of libvirtd's means for the call that it was asked for. What the client may not see, or what its
// connection is not for, it is told in libvirtd's own words. To let such a call pass would be a way around: libvirtd may
// let somebody end a domain who may not read it.
func mapLibvirtError(err error) error {
	var e *wire.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == wire.CodeNoDomain:
		return errNoDomain
	case e.Code == wire.CodeRPC && e.Message == "Unable to encode message payload":
		return fmt.Errorf("libvirtd cannot send the domain's XML: %s; if its metadata has megabytes, remove some of it with virsh metadata", e.Message)
	case e.Code == wire.CodeAccessDenied, e.Code == wire.CodeOperationDenied, e.Code == wire.CodeNoSupport, e.Domain == wire.FromRPC:
		return e
	}
	return fmt.Errorf("libvirtd does not say what it was asked: %s; look at libvirtd's log", e.Message)
}
