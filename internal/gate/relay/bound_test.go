package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

func TestRequestsForOneDomainShareItsXML(t *testing.T) {
	t.Parallel()
	c := &connection{}
	d := document{protected, liveXML}
	first, ours := c.flight(d)
	if !ours {
		t.Error("nobody makes the first one")
	}
	// What is under way may have been read before the others came: they need a second one, and no
	// third.
	second, ours := c.flight(d)
	if second == first {
		t.Error("what was under way before a request came is given to it")
	}
	for range 50 {
		f, oursToo := c.flight(d)
		if f != second {
			t.Error("a request does not share what has not begun")
		}
		ours = ours || oursToo
	}
	if ours {
		t.Error("a second one begins before the first has ended")
	}
	if other, ours := c.flight(document{ordinary, liveXML}); other == first || other == second || !ours {
		t.Error("two domains share their XML")
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

func TestASerialBelongsToTheClientOrToUs(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	client.say(t, about(suspend, protected))
	q := daemon.question(t)
	// A client that guessed our serial could have the XML of another domain taken for that of this
	// one.
	same := about(domainXML, ordinary, inactiveXML)
	same.Serial = q.Serial
	client.say(t, same)
	untouched(t, client, daemon)
	daemon.reply(t, q)
	client.vetoed(t, about(suspend, protected))
	got := daemon.question(t)
	if !bytes.Equal(got.payload, same.payload) || got.Serial != same.Serial {
		t.Fatalf("instead of the client's call comes %+v", got.Header)
	}
	daemon.reply(t, got)
	if m := client.next(t); m.Serial != same.Serial || !strings.Contains(string(m.payload), ordinary) {
		t.Errorf("the client gets %+v", m.Header)
	}
}

func TestWeNeverUseASerialOfTheClients(t *testing.T) {
	t.Parallel()
	q := &questions{}
	taken := id{domainXML, 5}
	q.note(wire.Header{Program: call.Remote, Procedure: domainXML, Serial: 5})
	if q.answered(wire.Header{Program: call.Remote, Procedure: domainXML, Serial: 5, Kind: wire.Reply}) != nil {
		t.Error("the client's answer is ours")
	}
	if q.clients[taken] != 0 || len(q.clients) != 0 {
		t.Errorf("answered calls are kept: %v", q.clients)
	}
	q.answered(wire.Header{Program: call.Remote, Procedure: domainXML, Serial: 6, Kind: wire.Reply})
	if len(q.clients) != 0 {
		t.Errorf("answers to nothing are kept: %v", q.clients)
	}
}

func TestNoMoreThanTwoQuestionsAreUnderWay(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	for _, uuid := range []string{protected, ordinary, absent} {
		client.say(t, about(suspend, uuid))
	}
	first, second := daemon.question(t), daemon.question(t)
	untouched(t, client, daemon) // and no third before it
	daemon.reply(t, first)
	third := daemon.next(t)
	if third.Procedure == suspend {
		third = daemon.next(t)
	}
	if third.Procedure != domainXML {
		t.Errorf("instead of a third question comes %+v", third.Header)
	}
	daemon.reply(t, second)
}

func TestTooManyHeldCallsAreRefusedAndBlockNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) { g.patience = time.Hour })
	client, daemon := s.connect()
	const more = 10
	for range maxHeld + more {
		client.say(t, about(suspend, protected))
	}
	for range more {
		if err := client.refused(t, about(suspend, protected)); !strings.Contains(err.Message, "256 calls of this connection wait") {
			t.Error(err.Message)
		}
	}
	daemon.question(t)
	untouched(t, client, daemon)
}

func TestAVerdictThatDoesNotEndIsNotFollowedByAnyNumberOfOthers(t *testing.T) {
	t.Parallel()
	var running atomic.Int64
	ends := make(chan struct{})
	defer close(ends)
	s := newStage(t, func(g *Gate) {
		g.patience = 100 * time.Millisecond
		g.Decide = func(context.Context, stopguard.Request) error { running.Add(1); <-ends; return nil }
	})
	client, daemon := s.connect()
	go func() {
		for m := range daemon.messages {
			if m.Procedure == domainXML {
				daemon.reply(t, m)
			}
		}
	}()
	for range 3 * maxEvaluated {
		client.say(t, about(suspend, ordinary))
		client.refused(t, about(suspend, ordinary))
	}
	if n := running.Load(); n > maxEvaluated {
		t.Errorf("%d verdicts run", n)
	}
}

func TestACallThatIsTooLargeIsRefusedAndNotKept(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	h := wire.Header{Length: maxCall + 4, Program: call.Remote, Version: 1, Procedure: setMetadata, Serial: 8}
	client.Lock()
	must(t, client.Write(h.Append(nil)))
	chunk := make([]byte, 1<<16)
	for left := int(h.Length) - wire.HeaderSize; left > 0; left -= len(chunk) {
		must(t, client.Write(chunk[:min(left, len(chunk))]))
	}
	client.Unlock()
	if err := client.refused(t, message{Header: h}); !strings.Contains(err.Message, "16 MiB") {
		t.Error(err.Message)
	}
	untouched(t, client, daemon)
	if n := s.held.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestALargeCallThatIsDecidedGivesItsMemoryBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	m := about(setMetadata, ordinary, 2, 0, 0, 1)
	m.payload = wire.AppendUint32(wire.AppendString(m.payload, call.Mark), 1)
	m.payload = append(m.payload, make([]byte, 4<<20)...)
	client.say(t, m)
	daemon.answerXML(t)
	if got := daemon.next(t); !bytes.Equal(got.payload, m.payload) {
		t.Errorf("another call comes: %+v", got.Header)
	}
	waitFor(t, func() bool { return s.held.Load() == 0 })
}

func TestLargeFramesThatNeedNoDecisionAreNotKept(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	body := bytes.Repeat([]byte("0123456789abcdef"), wire.MaxFrame/16-2)
	go func() {
		_ = client.Send(message{Header: wire.Header{Procedure: getLibVersion}, payload: body}.frame(), nil)
	}()
	if got := daemon.next(t); !bytes.Equal(got.payload, body) {
		t.Errorf("%d bytes arrive of %d", len(got.payload), len(body))
	}
}

func TestWhatIsNotLibvirtsProtocolEndsTheConnection(t *testing.T) {
	t.Parallel()
	length := binary.BigEndian.AppendUint32(nil, 27)
	for _, tt := range []struct {
		why string
		say func(t *testing.T, e *end)
	}{
		{"a length that is none", func(t *testing.T, e *end) { must(t, e.Write(length)) }},
		{"text", func(t *testing.T, e *end) { must(t, e.Write([]byte("GET / HTTP/1.1\r\n"))) }},
		{"a descriptor with ordinary bytes", func(t *testing.T, e *end) {
			d, _ := pipe(t)
			_, _, err := e.conn.WriteMsgUnix(message{Header: wire.Header{Procedure: getLibVersion}}.frame(), unix.UnixRights(d), nil)
			must(t, err)
			transport.CloseAll([]int{d})
		}},
		{"a descriptor that is announced and does not come", func(t *testing.T, e *end) {
			m := message{Header: wire.Header{Procedure: associateFDs, Kind: wire.CallWithFDs}, payload: []byte{0, 0, 0, 1}}
			must(t, e.Write(append(m.frame(), 0)))
		}},
		{"two on one byte", func(t *testing.T, e *end) {
			one, _ := pipe(t)
			two, _ := pipe(t)
			m := message{Header: wire.Header{Procedure: associateFDs, Kind: wire.CallWithFDs}, payload: []byte{0, 0, 0, 2}}
			must(t, e.Write(m.frame()))
			_, _, err := e.conn.WriteMsgUnix([]byte{0}, unix.UnixRights(one, two), nil)
			must(t, err)
			transport.CloseAll([]int{one, two})
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			tt.say(t, client)
			ended := func(e *end) {
				t.Helper()
				for {
					select {
					case _, ok := <-e.messages:
						if !ok {
							return
						}
					case <-time.After(patience):
						t.Fatal("the connection does not end")
					}
				}
			}
			ended(client)
			ended(daemon)
		})
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	before := openFiles(t)
	s := newStage(t, nil)
	for range 20 {
		client, daemon := s.connect()
		d, _ := pipe(t)
		m := about(7, protected)
		m.Program, m.Version, m.Kind = call.QEMU, 1, wire.CallWithFDs
		m.payload = append([]byte{0, 0, 0, 1}, wire.AppendUint32(wire.AppendString(m.payload, "quit"), 1)...)
		m.descriptors = []int{d}
		client.say(t, m)
		daemon.answerXML(t)
		client.vetoed(t, m)
		untouched(t, client, daemon)
		must(t, client.conn.Close())
		daemon.ended(t)
		must(t, daemon.conn.Close())
	}
	// What is open besides are the listeners, and 20 pipes' other ends that the test closes at its
	// end.
	waitFor(t, func() bool { return openFiles(t) <= before+2+20+6 })
}

func TestADaemonThatCannotBeReachedIsNamedWithItsUnit(t *testing.T) {
	t.Parallel()
	for file, daemon := range map[string]string{"libvirt-sock": "libvirtd", "libvirt-sock-ro": "libvirtd", "virtqemud-sock": "virtqemud", "virtqemud-sock-ro": "virtqemud"} {
		t.Run(file, func(t *testing.T) {
			s := newStage(t, func(g *Gate) {
				g.Upstream, g.patience = filepath.Join(filepath.Dir(g.Upstream), file), 50*time.Millisecond
			})
			conn, err := net.DialUnix("unix", nil, s.public.Addr().(*net.UnixAddr))
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			client := newEnd(t, conn, wire.FromServer())
			authList := message{Header: wire.Header{Procedure: 66}}
			client.say(t, authList)
			refusal := client.refused(t, authList)
			if !strings.HasPrefix(refusal.Message, daemon+" is not reachable: ") || !strings.HasSuffix(refusal.Message, "; look at systemctl status "+daemon) ||
				refusal.Code != wire.CodeSystem || refusal.Domain != wire.FromRPC {
				t.Errorf("%+v", refusal)
			}
			client.ended(t)
		})
	}
}

// A program that passes on what it reads may drop it if the connection ends at the same time.
func TestTheConnectionLastsUntilTheClientHasReadWhyAndHangsUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) { g.Upstream, g.patience = g.Upstream+"-absent", time.Hour })
	conn, err := net.DialUnix("unix", nil, s.public.Addr().(*net.UnixAddr))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = conn.Write(message{Header: wire.Header{Program: call.Remote, Version: 1, Procedure: 66}}.frame())
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	head := make([]byte, wire.HeaderSize)
	_, err = io.ReadFull(conn, head)
	must(t, err)
	_, err = io.CopyN(io.Discard, conn, int64(wire.ReadHeader(head).Length)-wire.HeaderSize)
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection has ended: %v", err)
	}
	must(t, conn.Close())
	waitFor(t, func() bool {
		s.serving.Lock()
		defer s.serving.Unlock()
		return len(s.connections) == 0
	})
}

func TestNothingIsOpenedForAClientThatSaysNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	silent := s.dial()
	_, _ = s.connect() // accepted later, so the silent one has been accepted
	must(t, s.daemon.SetDeadline(time.Now().Add(50*time.Millisecond)))
	if conn, err := s.daemon.AcceptUnix(); err == nil {
		_ = conn.Close()
		t.Error("libvirtd is connected to")
	}
	must(t, silent.Close())
}

func TestWhenLibvirtdEndsTheClientSeesTheEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	daemon.say(t, message{Header: wire.Header{Procedure: 1, Kind: wire.Reply}})
	must(t, daemon.conn.Close())
	if got := client.next(t); got.Procedure != 1 {
		t.Errorf("the last reply is lost: %+v", got.Header)
	}
	client.ended(t)
}

// isRaced is set if the race detector is built in.
var isRaced bool

// An idle client costs two goroutines and no buffer.
func TestAnIdleClientCostsLittleMemory(t *testing.T) {
	s := newStage(t, nil)
	const clients = 200
	most := uint64(16 << 10)
	if isRaced { // the race detector takes some for each lock and goroutine
		most *= 2
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC() // the pool of buffers is emptied by the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	for range clients {
		// Bare connections: what the test itself takes is not to count.
		conn := s.dial()
		_, err := conn.Write(opening.frame())
		must(t, err)
		daemon, err := s.daemon.AcceptUnix()
		must(t, err)
		t.Cleanup(func() { _ = daemon.Close() })
		_, err = io.ReadFull(daemon, make([]byte, wire.HeaderSize)) // so it has passed
		must(t, err)
	}
	if each := (used() - before) / clients; each > most {
		t.Errorf("%d bytes each, want no more than %d", each, most)
	} else {
		t.Logf("%d bytes each", each)
	}
}

func TestAVerdictThatDoesNotEndKeepsNobodyElseFromTheirs(t *testing.T) {
	t.Parallel()
	ends := make(chan struct{})
	defer close(ends)
	s := newStage(t, func(g *Gate) {
		g.patience = late
		g.Decide = func(_ context.Context, r stopguard.Request) error {
			if r.Domain.UUID == protected {
				<-ends
			}
			return nil
		}
	})
	// connect returns the ends of a connection whose libvirtd answers each question for XML, if one
	// comes in time. The calls that come to it come on passed.
	connect := func() (client *end, passed chan message) {
		client, daemon := s.connect()
		passed = make(chan message, 1)
		go func() {
			for m := range daemon.messages {
				if m.Procedure == domainXML {
					daemon.reply(t, m)
				} else {
					passed <- m
				}
			}
		}()
		return client, passed
	}
	var stuck []*end
	for range cap(s.evaluating) + 1 {
		client, _ := connect()
		client.say(t, about(suspend, protected))
		stuck = append(stuck, client)
	}
	for _, client := range stuck {
		client.refused(t, about(suspend, protected))
	}
	client, passed := connect()
	// On a busy machine this one may be late, too. If the others held it up, it would be each time.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		client.say(t, about(suspend, ordinary))
		select {
		case got := <-passed:
			if got.Procedure != suspend {
				t.Errorf("instead of the call comes %+v", got.Header)
			}
			return
		case m := <-client.messages:
			t.Logf("it is answered: %+v", m.Header)
		case <-time.After(patience):
		}
	}
	t.Error("the call never passes")
}

// The elements of a domain's XML take many times what the text does.
func TestNoMoreDocumentsAreReadAtOnceThanVerdictsAreGiven(t *testing.T) {
	t.Parallel()
	evaluating, ends := make(chan struct{}, maxEvaluated), make(chan struct{})
	s := newStage(t, func(g *Gate) {
		g.patience = time.Hour
		g.Decide = func(_ context.Context, r stopguard.Request) error {
			evaluating <- struct{}{}
			<-ends
			return nil
		}
	})
	client, daemon := s.connect()
	for range maxEvaluated {
		client.say(t, about(destroy, protected))
		daemon.answerXML(t)
		<-evaluating
	}
	// To see that this one is off, its XML has to be read.
	third := about(destroy, ordinary)
	third.Serial = 8
	client.say(t, third)
	q := daemon.question(t)
	off := message{Header: q.Header, payload: wire.AppendString(nil, strings.Replace(xmlOf(ordinary), " id='7'", "", 1))}
	off.Kind = wire.Reply
	daemon.say(t, off)
	for range 100 {
		untouched(t, client, daemon)
		daemon.say(t, message{Header: wire.Header{Procedure: getLibVersion, Serial: 4711, Kind: wire.Reply}})
		if got := client.next(t); got.Procedure != getLibVersion {
			t.Fatalf("before a verdict has ended comes %+v", got.Header)
		}
	}
	close(ends)
	if err := client.refused(t, third); err.Message != errOff.Message {
		t.Errorf("the domain that is off: %v", err)
	}
}
