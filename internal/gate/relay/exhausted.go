package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// isExhausted reports whether an error means that the gate, or the whole host, is out of file
// descriptors.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// exhausted returns the error for a client that cannot be served for lack of descriptors. It must
// not suggest connecting to libvirtd directly.
func exhausted(err error) *wire.Error {
	return &wire.Error{Code: wire.CodeSystem, Domain: wire.FromRPC,
		Message: fmt.Sprintf("stopguard-gate is out of file descriptors: %v; close connections that are not needed, or raise LimitNOFILE of stopguard-gate.service", err)}
}

// A reserve is a descriptor that is closed to accept one more client when all others are in use.
// Otherwise the client would wait in the listener's backlog without an error.
type reserve struct{ descriptor int }

func newReserve() *reserve {
	r := &reserve{transport.NoDescriptor}
	_ = r.fill() // accept retries when the reserve is needed
	return r
}

// fill opens the reserve's descriptor, unless it is open.
func (r *reserve) fill() error {
	if r.descriptor != transport.NoDescriptor {
		return nil
	}
	d, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		r.descriptor = d
	}
	return err
}

func (r *reserve) close() {
	_ = transport.CloseDescriptor(r.descriptor)
	r.descriptor = transport.NoDescriptor
}

// accept accepts a client. If no descriptor is free for it, the client reads an error, and conn is
// nil.
func (g *Gate) accept(l *net.UnixListener, r *reserve) (conn *net.UnixConn, err error) {
	conn, err = l.AcceptUnix()
	if err == nil || !isExhausted(err) {
		return conn, err
	}
	r.close()
	conn, acceptErr := l.AcceptUnix()
	if acceptErr != nil {
		_ = r.fill()
		return nil, acceptErr
	}
	if r.fill() == nil { // there are descriptors again
		return conn, nil
	}
	g.Metrics.exhausted.Inc()
	turnAway(conn, exhausted(err))
	_ = r.fill()
	return nil, err
}

// turnAwayTimeout bounds the wait for a client's first call. libvirt's clients make it at once.
const turnAwayTimeout = time.Second

// turnAway answers a client's first call with an error and closes the connection.
func turnAway(conn *net.UnixConn, e *wire.Error) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(turnAwayTimeout))
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	if h := wire.ReadHeader(head); isCall(h) {
		_, _ = conn.Write(e.Refusal(h))
	}
}
