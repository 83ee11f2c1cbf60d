package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/internal/testhost"
)

const (
	protected = "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11"
	ordinary  = "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"
	absent    = "9a8f1f0e-7f0b-4a6e-9d6b-7b5a3f1d2c44"

	patience = 30 * time.Second // for what must happen: the machine may be slow

	// late is a gate's patience with what never comes. What does come needs a small part of it,
	// also on a busy machine.
	late = time.Second

	open            = 1
	destroy         = 12
	suspend         = 34
	getLibVersion   = 157
	openGraphicsFD  = 343
	setIdentity     = 419
	destroyFlags    = 234
	setMetadata     = 264
	nodeSuspend     = 250
	associateFDs    = 443
	keepaliveNumber = 0x6b656570
)

// A message is one frame with its descriptors.
type message struct {
	wire.Header
	payload     []byte
	descriptors []int
}

func (m message) frame() []byte {
	if m.Program == 0 {
		m.Program, m.Version = call.Remote, 1
	}
	return wire.Frame(m.Header, m.payload)
}

// An end is one end of a connection, of a test's client or of its libvirtd. What it reads comes on
// messages, which is closed when the other side has ended.
type end struct {
	*transport.Socket
	conn     *net.UnixConn
	messages chan message

	// state is what libvirtd answers about the state of every domain; such questions do not come on
	// messages then.
	state atomic.Pointer[state]

	// isTransient is what libvirtd answers about the definition of every domain, likewise,
	// unless isBusy is set.
	isTransient, isBusy atomic.Bool
}

func newEnd(t testing.TB, conn *net.UnixConn, s wire.Splitter) *end {
	t.Helper()
	sock, err := transport.New(conn)
	must(t, err)
	e := &end{Socket: sock, conn: conn, messages: make(chan message, 1000)}
	go func() {
		defer close(e.messages)
		var m message
		_ = transport.Pump(e.Socket, &s, func(p wire.Piece, descriptor int) error {
			if p.First {
				m = message{Header: p.Header}
			}
			if p.Descriptor {
				m.descriptors = append(m.descriptors, descriptor)
			} else {
				m.payload = append(m.payload, p.Bytes...)
			}
			if p.Last {
				m.payload = m.payload[wire.HeaderSize:]
				if state := e.state.Load(); state != nil && m.Procedure == domainState {
					m.Kind, m.payload = wire.Reply, wire.AppendUint32(wire.AppendUint32(nil, state.state), state.reason)
					return e.Send(m.frame(), nil)
				}
				if m.Procedure == domainIsPersistent && !e.isBusy.Load() {
					m.Kind, m.payload = wire.Reply, wire.AppendUint32(nil, 1)
					if e.isTransient.Load() {
						m.payload = wire.AppendUint32(nil, 0)
					}
					return e.Send(m.frame(), nil)
				}
				e.messages <- m
			}
			return nil
		})
	}()
	t.Cleanup(func() { _ = conn.Close() })
	return e
}

func (e *end) next(t testing.TB) message {
	t.Helper()
	select {
	case m, ok := <-e.messages:
		if !ok {
			t.Fatal("the connection has ended")
		}
		return m
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	return message{}
}

// ended waits until the other side has ended, and fails if anything else comes.
func (e *end) ended(t *testing.T) {
	t.Helper()
	select {
	case m, ok := <-e.messages:
		if ok {
			t.Fatalf("instead of the end comes %+v", m.Header)
		}
	case <-time.After(patience):
		t.Fatal("the connection does not end")
	}
}

func (e *end) say(t testing.TB, m message) {
	t.Helper()
	must(t, e.Send(m.frame(), m.descriptors))
}

// A stage is a gate between clients and a libvirtd that a test plays: what the real one does at a
// moment of our choosing, or never, cannot be had from it.
type stage struct {
	*Gate
	t      testing.TB
	daemon *net.UnixListener
	public *net.UnixListener // where clients come
	end    func()            // ends the gate, and what it has of connections
	asking sync.Mutex        // of asked

	unauthenticated bool // libvirtd rejects all clients until a test changes it
	asked           []stopguard.Request
}

// notHere is the UID of no client: whoever runs the tests, none is root's, unless a test says so.
const notHere = -2

// newStage starts a gate. Its verdict, if it is given none, is against whatever is done to the
// domain protected.
func newStage(t testing.TB, change func(*Gate)) *stage {
	t.Helper()
	dir := testhost.SocketDir(t)
	s := &stage{t: t}
	s.daemon = listen(t, filepath.Join(dir, "up"))
	s.Gate = New(Config{
		Upstream: filepath.Join(dir, "up"), OffText: "touch /etc/stopguard/gate-off",
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Decide: func(_ context.Context, r stopguard.Request) error {
			s.asking.Lock()
			defer s.asking.Unlock()
			s.asked = append(s.asked, r)
			if r.Err != nil {
				return r.Err
			}
			if r.Domain.UUID == protected || r.Domain.Name == protected {
				return &hookproto.Veto{Reason: "it is protected", Rule: "test"}
			}
			return nil
		},
	})
	s.root = notHere
	if change != nil {
		change(s.Gate)
	}
	s.serve(listen(t, filepath.Join(dir, "down")))
	return s
}

// serve has the gate serve, until the test ends or end is called.
func (s *stage) serve(l *net.UnixListener, taken ...ConnState) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	gate := s.Gate
	go func() { done <- gate.Serve(ctx, l, taken...) }()
	end := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			must(s.t, err)
		case <-time.After(patience):
			s.t.Error("the gate does not end")
		}
	})
	s.public, s.end = l, end
	s.t.Cleanup(end)
}

func listen(t testing.TB, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func (s *stage) dial() *net.UnixConn { return s.dialTo("down") }

func (s *stage) dialTo(socket string) *net.UnixConn {
	s.t.Helper()
	conn, err := net.DialUnix("unix", nil, s.address(socket))
	must(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (s *stage) address(socket string) *net.UnixAddr {
	return &net.UnixAddr{Name: strings.TrimSuffix(s.Upstream, "up") + socket, Net: "unix"}
}

// A state is a domain's, as libvirtd gives it.
type state struct{ state, reason uint32 }

const running, paused = 1, 3

var opening = openingOf("qemu:///system")

// openingOf is the call by which a client opens a name.
func openingOf(name string) message {
	return message{Header: wire.Header{Procedure: open, Serial: 3}, payload: wire.AppendUint32(wire.AppendString(wire.AppendUint32(nil, 1), name), 0)}
}

// accept returns libvirtd's end of the connection of a client that has said that it opens.
func (s *stage) accept() *end {
	s.t.Helper()
	must(s.t, s.daemon.SetDeadline(time.Now().Add(patience)))
	conn, err := s.daemon.AcceptUnix()
	must(s.t, err)
	daemon := newEnd(s.t, conn, wire.FromClient())
	daemon.state.Store(&state{running, 1})
	if m := daemon.next(s.t); m.Procedure != open {
		s.t.Fatalf("%+v came first", m.Header)
	}
	// Most tests do not want to see libvirtd's answer.
	s.serving.Lock()
	defer s.serving.Unlock()
	for c := range s.connections {
		c.opened.Store(!s.unauthenticated)
	}
	return daemon
}

// connect returns both ends of a connection through the gate. The client has said something
// already: the gate connects no sooner.
func (s *stage) connect() (client, daemon *end) {
	s.t.Helper()
	client = newEnd(s.t, s.dial(), wire.FromServer())
	client.say(s.t, opening)
	return client, s.accept()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func xmlOf(uuid string) string {
	name := "web-01"
	if uuid == protected {
		name = "pg-primary-01"
	}
	return "<domain type='qemu' id='7'><name>" + name + "</name><uuid>" + uuid + "</uuid></domain>"
}

// about is a call about a domain.
func about(procedure uint32, uuid string, more ...uint32) message {
	payload, err := wire.AppendDomain(nil, "a-name", uuid)
	if err != nil {
		panic(err)
	}
	for _, n := range more {
		payload = wire.AppendUint32(payload, n)
	}
	return message{Header: wire.Header{Procedure: procedure, Serial: 7}, payload: payload}
}

// answerXML answers the gate's question for a domain's XML as libvirtd would.
func (e *end) answerXML(t *testing.T) {
	t.Helper()
	e.reply(t, e.question(t))
}

// question waits for the gate's question for a domain's XML.
func (e *end) question(t *testing.T) message {
	t.Helper()
	q := e.next(t)
	if q.Procedure != domainXML {
		t.Fatalf("instead of a question for XML comes %+v", q.Header)
	}
	return q
}

func (e *end) reply(t *testing.T, q message) {
	t.Helper()
	d := wire.Decode(q.payload)
	_ = d.String()
	uuid := d.UUID()
	answer := message{Header: q.Header}
	answer.Kind = wire.Reply
	if uuid == absent {
		answer.Status = wire.Failed
		answer.payload = (&wire.Error{Code: wire.CodeNoDomain, Domain: wire.FromQEMU, Message: "Domain not found"}).AppendPayload(nil)
	} else {
		answer.payload = wire.AppendString(nil, xmlOf(uuid))
	}
	e.say(t, answer)
}

// refused waits for the error that answers a call.
func (e *end) refused(t *testing.T, to message) *wire.Error {
	t.Helper()
	m := e.next(t)
	want := wire.Header{Length: m.Length, Program: call.Remote, Version: 1, Procedure: to.Procedure, Kind: wire.Reply, Serial: to.Serial, Status: wire.Failed}
	if to.Program != 0 {
		want.Program, want.Version = to.Program, to.Version
	}
	if m.Header != want {
		t.Fatalf("the answer is %+v, want %+v", m.Header, want)
	}
	err, decodeErr := wire.ReadError(m.payload)
	must(t, decodeErr)
	return err
}

const vetoLine = "stopguard: veto: pg-primary-01: it is protected (rule test)"

func (e *end) vetoed(t *testing.T, to message) {
	t.Helper()
	if err := e.refused(t, to); err.Message != vetoLine || err.Code != wire.CodeAccessDenied {
		t.Fatalf("the answer is %d, %q", err.Code, err.Message)
	}
}

// untouched makes sure that the next that comes is a call that needs no decision: nothing else has
// come before it.
func untouched(t *testing.T, client, daemon *end) {
	t.Helper()
	m := message{Header: wire.Header{Procedure: getLibVersion, Serial: 4711}, payload: []byte("xx")}
	client.say(t, m)
	got := daemon.next(t)
	if got.Procedure != getLibVersion || got.Serial != 4711 || string(got.payload) != "xx" {
		t.Fatalf("instead of a harmless call comes %+v", got.Header)
	}
}

// pipe returns a descriptor and what can be read from it.
func pipe(t *testing.T) (descriptor int, read func() byte) {
	t.Helper()
	var fds [2]int
	must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	return fds[1], func() byte {
		var b [1]byte
		if n, err := unix.Read(fds[0], b[:]); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		return b[0]
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(files)
}

var errOther = errors.New("the list cannot be read; make it readable")

func write(descriptor int, b byte) error {
	_, err := unix.Write(descriptor, []byte{b})
	return err
}
