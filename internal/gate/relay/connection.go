package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/gate/peer"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// A connection serves one client. It has the client's socket, the socket to libvirtd that was
// opened for the client, and the held calls. Two goroutines serve it, and one more each held call.
type connection struct {
	gate   *Gate
	caller caller

	gateEnds context.Context
	ctx      context.Context // ctx ends when the client has gone
	cancel   context.CancelFunc

	client  *transport.Socket
	server  *transport.Socket // server is nil until the client has sent something
	closing sync.Mutex        // of server and closed
	closed  bool
	ended   chan error // how the direction from libvirtd ended

	opened      atomic.Bool // libvirtd has let the client in
	serverEnded atomic.Bool // libvirtd has closed the connection
	autodestroy autodestroy
	up          uplink
	down        downlink
	questions   questions
	held        held
}

func newConnection(ctx context.Context, g *Gate, conn *net.UnixConn) (*connection, error) {
	from, err := peer.Of(conn)
	if err != nil {
		return nil, err
	}
	client, err := transport.New(conn)
	if err != nil {
		return nil, err
	}
	c := &connection{gate: g, caller: caller{peer: from, readOnly: g.ReadOnly}, client: client, gateEnds: ctx, ended: make(chan error, 1)}
	c.up = uplink{connection: c, frames: wire.FromClient()}
	c.down = downlink{connection: c, frames: wire.FromServer()}
	client.Pauser.May = c.up.mayRest
	c.questions.room, c.questions.state = make(chan struct{}, maxQuestions), make(chan struct{}, 1)
	c.held.evaluating = make(chan struct{}, maxEvaluated)
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c, nil
}

// run serves the client until one side ends, and closes both. An idle client waits in a call of
// run, so run keeps little on the stack. Otherwise the runtime would not return the half of the
// stack that only connecting takes.
func (c *connection) run() error {
	defer context.AfterFunc(c.gateEnds, c.close)()
	defer c.held.wait.Wait()
	defer c.close()
	defer c.cancel()

	if c.server != nil { // it was taken over
		c.listen()
	}
	return c.finish(c.fromClient())
}

// finish ends the connection after the client's direction has ended. err is nil at the end of its
// bytes.
func (c *connection) finish(err error) error {
	c.loseAutodestroy()
	c.cancel() // held calls are dropped
	if c.server == nil {
		return quiet(err)
	}
	if err != nil {
		c.close() // as libvirtd does with bytes that it does not understand
	} else {
		// libvirtd then ends the other direction after its last answer.
		_ = c.server.CloseWrite()
	}
	return errors.Join(quiet(err), quiet(<-c.ended))
}

// logEnd logs the error with which a connection ended; nil if the client or libvirtd closed it.
func (c *connection) logEnd(err error) {
	if err != nil {
		c.gate.Log.Warn("a connection is ended", "uid", c.caller.peer.UID, "pid", c.caller.peer.PID, "error", err)
	}
}

// dialWait is how long a client waits for a free slot among the connections to libvirtd that are
// being made.
const dialWait = 5 * time.Second

// dial connects to libvirtd as the client. The attempts at once are limited: while libvirtd does
// not accept, each takes a thread of the gate for some seconds. Otherwise a user could take as many
// threads as the gate has clients.
func (c *connection) dial() (*net.UnixConn, error) {
	wait := time.NewTimer(dialWait)
	defer wait.Stop()
	select {
	case c.gate.dials <- struct{}{}:
		defer func() { <-c.gate.dials }()
		return peer.DialAs(c.gate.Upstream, c.caller.peer.UID, c.caller.peer.GID)
	case <-wait.C:
		return nil, syscall.EAGAIN // as from the kernel
	case <-c.ctx.Done():
		return nil, net.ErrClosed
	}
}

// reach connects the client to libvirtd.
func (c *connection) reach() error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	server, err := transport.New(conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.closed {
		_ = conn.Close()
		return net.ErrClosed
	}
	server.Pauser.May = c.down.mayRest
	c.server = server
	c.listen()
	return nil
}

// listen passes libvirtd's frames on, in a goroutine of its own.
func (c *connection) listen() {
	go func() {
		err := c.fromServer()
		c.closing.Lock()
		c.serverEnded.Store(!c.closed)
		c.closing.Unlock()
		c.close()
		c.ended <- err
	}()
}

func (c *connection) close() {
	c.closing.Lock()
	defer c.closing.Unlock()
	c.closed = true
	c.client.Close()
	if c.server != nil {
		c.server.Close()
	}
}

// quiet returns the error, or nil if it only says that a connection has ended.
func quiet(err error) error {
	for _, end := range []error{net.ErrClosed, io.EOF, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return nil
		}
	}
	return err
}

// unreachable answers a client's first call with an error if libvirt's daemon cannot be reached.
// Otherwise the client would only see the connection end.
func (c *connection) unreachable(first wire.Header, err error) error {
	daemon := c.gate.daemon()
	e := &wire.Error{Code: wire.CodeSystem, Domain: wire.FromRPC, Message: fmt.Sprintf("%s is not reachable: %v; look at systemctl status %[1]s", daemon, err)}
	if isExhausted(err) {
		c.gate.Metrics.exhausted.Inc()
		e = exhausted(err)
	} else {
		c.gate.Metrics.unreachable.Inc()
	}
	if isCall(first) && c.client.Send(e.Refusal(first), nil) == nil && !isExhausted(err) {
		// Otherwise virt-ssh-helper, which sees the answer and the end of the connection at once,
		// would drop the answer.
		c.client.AwaitHangUp(c.gate.patience)
	}
	return e
}

// daemon returns the name of the daemon behind the gate, which is also its unit's.
func (c Config) daemon() string {
	if strings.HasPrefix(filepath.Base(c.Upstream), "virtqemud-sock") {
		return "virtqemud"
	}
	return "libvirtd"
}

func isCall(h wire.Header) bool { return h.Kind == wire.Call || h.Kind == wire.CallWithFDs }
