package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/policy"
)

// A Config configures a [Gate]. Decide and Upstream must be set.
type Config struct {
	// Decide decides about each held call.
	Decide DecideFunc

	// Upstream is the path of the socket on which libvirtd listens. Only root should be able to
	// reach it.
	Upstream string

	// ReadOnly is set if Upstream is libvirtd's read-only socket.
	ReadOnly bool

	// StatusXML returns the XML of a running domain from libvirtd's status file. It is called for
	// clients of the gate's own user if libvirtd is too busy to answer, and for XML that is too
	// large for libvirtd to send; nil means never. The error is ErrNotRunning if the domain is off.
	StatusXML func(uuid string) ([]byte, error)

	// DefinedXML returns the XML of a domain's definition from libvirtd's file. It is called for
	// XML that is too large for libvirtd to send; nil means never.
	DefinedXML func(uuid string) ([]byte, error)

	// Protected reports whether a stop of a running domain would be refused now, and records
	// nothing. It is called for domains that were started with autodestroy; nil means never.
	Protected func(context.Context, *domainxml.Domain) (bool, error)

	// Ended is called with a protected domain that ends because its client's connection closes: the
	// client had started it with autodestroy. If Ended is nil, only the log has it.
	Ended func(*domainxml.Domain, policy.Caller)

	// Off reports whether the gate is switched off: every call passes then. nil means never. It is
	// called for each call that would be held, from many goroutines at once.
	Off func() bool

	// OffText is the command that switches the gate off. It ends the text of each fault.
	OffText string

	// RefuseUnknown refuses calls of procedures that are newer than the table of package call,
	// which pass otherwise.
	RefuseUnknown bool

	// Metrics counts what the gate does; nil counts nothing.
	Metrics *Metrics

	// Log gets a line for each refused call and each connection that fails; nil means slog.Default.
	Log *slog.Logger
}

// The limits of a gate. A limit for each connection protects a client from itself, one for the gate
// protects the other clients.
const (
	maxDials     = 64        // connections to libvirtd that are being made: each takes a thread
	maxClients   = 5000      // connections, as many as libvirtd takes; more wait in the backlog
	maxHeld      = 256       // calls of one connection that wait for a decision
	maxEvaluated = 2         // of these, how many are evaluated at once, so that other clients get slots
	maxCall      = 16 << 20  // bytes of one call that is held: three strings of libvirt's and some
	maxHeldHere  = 32 << 20  // bytes of all calls of one connection that are held
	maxHeldAll   = 256 << 20 // bytes of all large calls that are held
	largeCall    = 64 << 10  // bytes from which a call is large

	// A client that libvirtd has not authenticated, or that may only read, may be any user of the
	// host. None of these calls has an effect for it.
	maxHeldUnauthenticated      = 2       // calls of it that wait for a decision
	maxHeldUnauthenticatedBytes = 4 << 10 // bytes of them

	maxReply = 8 << 20 // bytes of a reply to the gate: the XML of a domain is at most 4 MiB

	// minDecisions is how many decisions are evaluated at once on a small host. Decisions compete
	// for CPU time, so fewer at once are each faster.
	minDecisions = 4

	decisionTimeout = 5 * time.Second // from the call to the decision
)

// A Gate is a proxy before one socket of libvirtd. [New] makes it.
type Gate struct {
	Config
	clients    chan struct{}
	dials      chan struct{}
	evaluating chan struct{} // a slot for each decision that is being evaluated
	held       atomic.Int64  // bytes of large calls
	unknown    sync.Map      // procedures that the table does not know and that were reported
	unknowns   atomic.Int64  // how many
	patience   time.Duration
	fileDelay  time.Duration // time after which libvirtd counts as too busy to send XML, and its status file is read
	watchPace  time.Duration
	self       int // the user that the gate runs as, who may read libvirtd's status files
	root       int // the user whose processes may name another client as the caller

	serving     sync.Mutex // guards listeners and connections
	listeners   map[*transport.Pauser]struct{}
	connections map[*connection]struct{}
}

// New returns a Gate.
func New(c Config) *Gate {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Off == nil {
		c.Off = func() bool { return false }
	}
	return &Gate{
		Config:     c,
		clients:    make(chan struct{}, maxClients),
		dials:      make(chan struct{}, maxDials),
		evaluating: make(chan struct{}, max(minDecisions, runtime.GOMAXPROCS(0))),
		patience:   decisionTimeout,
		fileDelay:  decisionTimeout / 2,
		watchPace:  watchPace,
		self:       os.Geteuid(),

		listeners:   map[*transport.Pauser]struct{}{},
		connections: map[*connection]struct{}{},
	}
}

// Serve takes over the connections of another gate, and accepts clients until ctx is done. It
// returns when all connections have ended. It closes the listener. It may be called with several
// listeners.
func (g *Gate) Serve(ctx context.Context, l *net.UnixListener, taken ...ConnState) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() { _ = l.Close() }() // before the program ends, so that its socket is removed
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for _, k := range taken {
		g.clients <- struct{}{} // they had a slot before
		c, err := g.take(ctx, k)
		if err != nil {
			<-g.clients
			g.Log.Warn("a connection cannot be taken over", "error", err)
			continue
		}
		g.start(c, &wait)
	}
	wait.Go(func() { g.watch(ctx) })
	spare := newReserve()
	defer spare.close()
	h := transport.NewPauser(l.SetDeadline)
	g.listen(h)
	defer g.unlisten(h)
	defer context.AfterFunc(ctx, h.End)()
	for {
		select {
		case g.clients <- struct{}{}:
		case <-h.Requested: // all slots are taken, and the loop is to pause
			h.Rest()
			continue
		case <-ctx.Done():
			return nil
		}
		c, err := g.acceptClient(ctx, l, spare)
		if c != nil {
			g.start(c, &wait)
			continue
		}
		<-g.clients
		if errors.Is(err, os.ErrDeadlineExceeded) {
			h.Rest()
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

// start serves a client in a goroutine, which frees the client's slot at the end.
func (g *Gate) start(c *connection, wait *sync.WaitGroup) {
	g.remember(c)
	g.Metrics.clients.Inc()
	wait.Go(func() {
		defer func() { <-g.clients }()
		defer g.forget(c)
		defer g.Metrics.clients.Dec()
		c.logEnd(c.run())
	})
}

// acceptClient accepts a client. If it returns an error, ctx is done, the loop is to pause, or the
// listener is closed. It logs any other error and returns a nil connection; the next client may be
// accepted.
func (g *Gate) acceptClient(ctx context.Context, l *net.UnixListener, spare *reserve) (*connection, error) {
	conn, err := g.accept(l, spare)
	switch {
	case ctx.Err() != nil:
		if conn != nil {
			_ = conn.Close()
		}
		return nil, ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return nil, err
	case err != nil:
		// Out of descriptors or memory, or the client has gone already.
		g.Log.Warn("a client cannot be accepted", "error", err)
		time.Sleep(acceptPause)
		return nil, nil
	}
	c, err := newConnection(ctx, g, conn)
	if err != nil {
		if isExhausted(err) {
			g.Metrics.exhausted.Inc()
			turnAway(conn, exhausted(err))
		}
		_ = conn.Close()
		g.Log.Warn("a client cannot be served", "error", err)
		return nil, nil
	}
	return c, nil
}

const acceptPause = 50 * time.Millisecond

func (g *Gate) remember(c *connection) {
	g.serving.Lock()
	defer g.serving.Unlock()
	g.connections[c] = struct{}{}
}

func (g *Gate) forget(c *connection) {
	g.serving.Lock()
	defer g.serving.Unlock()
	delete(g.connections, c)
}

func (g *Gate) listen(h *transport.Pauser) {
	g.serving.Lock()
	defer g.serving.Unlock()
	g.listeners[h] = struct{}{}
}

func (g *Gate) unlisten(h *transport.Pauser) {
	g.serving.Lock()
	defer g.serving.Unlock()
	delete(g.listeners, h)
}
