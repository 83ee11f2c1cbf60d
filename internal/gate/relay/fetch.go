package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/gate/volume"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The flags for the XML of a domain's run, and for that of its next start.
const (
	liveXML     = 0
	inactiveXML = 2
)

// errNoDomain is returned if libvirtd does not know the domain.
var errNoDomain = errors.New("there is no such domain")

// A noDomainError is errNoDomain, with libvirtd's own error.
type noDomainError struct{ own *wire.Error }

func (e *noDomainError) Error() string { return errNoDomain.Error() }

func (e *noDomainError) Is(target error) bool { return target == errNoDomain }

// named returns libvirtd's error for a client that gave the domain a name. libvirtd repeats the
// name in parentheses, and the gate asks without one.
func (e *noDomainError) named(name string) *wire.Error {
	named := *e.own
	const format = "Domain not found: %s"
	const longest = 1023 // libvirt's errors are cut to that many bytes
	if text, isNameless := strings.CutSuffix(named.Message, " ()"); isNameless {
		named.Message = text + " (" + name[:min(len(name), longest)] + ")"
		named.Message = named.Message[:min(len(named.Message), longest)]
	}
	if strings.HasPrefix(named.Message, strings.TrimSuffix(format, "%s")) {
		named.Format = format
	}
	return &named
}

// errTooLarge is returned if the domain's XML is longer than the 4 MiB that a reply of libvirtd
// carries. It means that the client may read the XML, because libvirtd checks that first.
var errTooLarge = volume.ErrTooLarge

type document struct {
	uuid  string
	flags uint32
}

// A flight deduplicates the fetches of a document. A request never joins a fetch that has already
// started, because its data may be stale; it joins the next one.
type flight struct{ next *fetch }

type fetch struct {
	done chan struct{}
	xml  []byte
	err  error
}

// xml returns a domain's XML, no older than the call of xml. It may be shared, and must not be
// changed. The error is errNoDomain if libvirtd knows no such domain, and a *wire.Error if the
// client may not read it.
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

// flight returns the fetch that a request waits for. If ours is set, the request itself makes it.
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

// fetchShared fetches for the requests that still wait.
func (c *connection) fetchShared(d document, f *fetch) {
	ctx, cancel := context.WithTimeout(c.ctx, c.gate.patience)
	defer cancel()
	c.fetch(ctx, d, f)
}

// freshXML asks libvirtd for the XML. If guests hang, libvirtd keeps workers free for calls such as
// destroy, but not for XML. If only the XML does not come, it is read from libvirtd's status file,
// for the gate's own user, who may read all of it.
func (c *connection) freshXML(ctx context.Context, d document) ([]byte, error) {
	if c.gate.StatusXML == nil || d.flags != liveXML || !c.caller.isUser(c.gate.self) {
		xml, err := c.getXML(ctx, d)
		return c.writtenIfTooLarge(d, xml, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan []byte, 1)
	defer time.AfterFunc(c.gate.fileDelay, func() {
		// One of the free workers answers this. If libvirtd does not answer even this, it would
		// make the held call at an unknown time.
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
		return c.writtenIfTooLarge(d, xml, err)
	}
}

// ErrNotRunning is returned by Config.StatusXML for a domain that is off.
var ErrNotRunning = errors.New("the domain does not run")

// writtenIfTooLarge reads the XML from libvirtd's files if libvirtd cannot send it: from the status
// file of a running domain, and otherwise from the definition. Otherwise a guest's owner could make
// every decision about the domain a fault, or hide which volumes it uses.
func (c *connection) writtenIfTooLarge(d document, xml []byte, err error) ([]byte, error) {
	if !errors.Is(err, errTooLarge) {
		return xml, err
	}
	if d.flags == liveXML {
		if c.gate.StatusXML == nil {
			return xml, err
		}
		written, statusErr := c.gate.StatusXML(d.uuid)
		if statusErr == nil {
			return written, nil
		}
		if !errors.Is(statusErr, ErrNotRunning) {
			return xml, err
		}
	}
	if c.gate.DefinedXML != nil {
		if written, definedErr := c.gate.DefinedXML(d.uuid); definedErr == nil {
			return written, nil
		}
	}
	return xml, err
}

func (c *connection) getXML(ctx context.Context, d document) ([]byte, error) {
	args, err := wire.AppendDomain(nil, "", d.uuid)
	if err != nil {
		return nil, err
	}
	reply, err := c.question(ctx, domainXML, wire.AppendUint32(args, d.flags))
	if err != nil {
		return nil, c.mapLibvirtError(err)
	}
	r := wire.Decode(reply)
	xml := r.Opaque()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("libvirtd's XML cannot be read: %w; report this", err)
	}
	return xml, nil
}

// starting reports whether libvirtd is about to start the domain. Such a domain has an id already,
// and is paused. starting reports false for a domain that libvirtd no longer knows.
func (c *connection) starting(ctx context.Context, uuid string) (bool, error) {
	args, err := wire.AppendDomain(nil, "", uuid)
	if err != nil {
		return false, err
	}
	reply, err := c.question(ctx, domainState, wire.AppendUint32(args, 0))
	if err != nil {
		if err = c.mapLibvirtError(err); errors.Is(err, errNoDomain) {
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
		return nil, c.mapLibvirtError(err)
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

// mapLibvirtError translates libvirtd's error into the answer for the held call. If the client may
// not read the domain, or its connection is not to a hypervisor, the answer is libvirtd's own
// error. Otherwise a client could end a domain that it may end and not read.
func (c *connection) mapLibvirtError(err error) error {
	var e *wire.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == wire.CodeNoDomain:
		return &noDomainError{e}
	case e.Code == wire.CodeRPC && e.Message == "Unable to encode message payload":
		return errTooLarge
	case e.Code == wire.CodeAccessDenied, e.Code == wire.CodeOperationDenied, e.Code == wire.CodeNoSupport, e.Domain == wire.FromRPC:
		return e
	}
	return fmt.Errorf("%s does not say what it was asked: %s; look at %[1]s's log", c.gate.daemon(), e.Message)
}
