package relay

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The ways in which a simpler gate was bypassed, or broke its clients, when it was tried with
// libvirt 9.0.0.

func TestADomainIsWhatItsUUIDSays(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	forged := about(suspend, protected)
	forged.payload = bytes.Replace(forged.payload, []byte("a-name"), []byte("web-01"), 1)
	client.say(t, forged)
	daemon.answerXML(t)
	client.vetoed(t, forged)
	untouched(t, client, daemon)
}

func TestACallWithDescriptorsIsACall(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	m := about(destroy, protected)
	m.Kind, m.payload = wire.CallWithFDs, append([]byte{0, 0, 0, 0}, m.payload...)
	client.say(t, m)
	daemon.answerXML(t)
	client.vetoed(t, m)
	untouched(t, client, daemon)
}

func TestGarbageBehindTheArgumentsChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	m := about(suspend, protected)
	m.payload = append(m.payload, "28 bytes of no consequence.."...)
	copy(m.payload[10:], "XY") // what fills the name up to a word
	client.say(t, m)
	daemon.answerXML(t)
	client.vetoed(t, m)

	hmp := about(1, protected)
	hmp.Program, hmp.Version = call.QEMU, 1
	hmp.payload = wire.AppendUint32(wire.AppendString(hmp.payload, "quit\x00info status"), 1)
	client.say(t, hmp)
	daemon.answerXML(t)
	client.vetoed(t, hmp)
	untouched(t, client, daemon)
}

func TestAnAnswerOfOursNeverFallsIntoAFrame(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	const frames, vetoes, size = 200, 200, 200 << 10
	body := bytes.Repeat([]byte("x"), size)
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() {
		for range frames {
			_ = daemon.Send(message{Header: wire.Header{Procedure: 209, Kind: wire.Stream, Status: wire.Continue}, payload: body}.frame(), nil)
		}
	})
	wait.Go(func() {
		m := about(setIdentity, protected) // refused without a question
		for range vetoes {
			_ = client.Send(m.frame(), nil)
		}
	})
	streams, refusals := 0, 0
	for streams < frames || refusals < vetoes {
		switch m := client.next(t); {
		case m.Kind == wire.Stream && bytes.Equal(m.payload, body):
			streams++
		case m.Kind == wire.Reply && m.Status == wire.Failed && m.Procedure == setIdentity:
			refusals++
		default:
			t.Fatalf("%d bytes of nothing: %+v", len(m.payload), m.Header)
		}
	}
}

func TestDescriptorsArriveEachOnAByteOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	one, readOne := pipe(t)
	two, readTwo := pipe(t)
	reply := message{Header: wire.Header{Procedure: openGraphicsFD, Kind: wire.ReplyWithFDs}, payload: []byte{0, 0, 0, 2}, descriptors: []int{one, two}}
	daemon.say(t, reply)
	got := client.next(t)
	for i, read := range []func() byte{readOne, readTwo} {
		if err := write(got.descriptors[i], byte('a'+i)); err != nil {
			t.Fatal(err)
		}
		if b := read(); b != byte('a'+i) {
			t.Errorf("descriptor %d is another: %q", i, b)
		}
	}
	transport.CloseAll(got.descriptors)

	three, readThree := pipe(t)
	client.say(t, message{Header: wire.Header{Procedure: associateFDs, Kind: wire.CallWithFDs}, payload: []byte{0, 0, 0, 1}, descriptors: []int{three}})
	got = daemon.next(t)
	must(t, write(got.descriptors[0], 'c'))
	if b := readThree(); b != 'c' {
		t.Errorf("the client's descriptor is another: %q", b)
	}
	transport.CloseAll(got.descriptors)
	untouched(t, client, daemon)
}

// libvirt reads a frame with read(), which drops any descriptor that comes with it.
func TestNoDescriptorComesWithAFrame(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	conn := s.dial()
	client, err := transport.New(conn)
	must(t, err)
	must(t, client.Send(opening.frame(), nil))
	daemon := s.accept()
	d, _ := pipe(t)
	reply := message{Header: wire.Header{Procedure: openGraphicsFD, Kind: wire.ReplyWithFDs}, payload: []byte{0, 0, 0, 1}, descriptors: []int{d}}
	daemon.say(t, reply)
	want := reply.frame()
	for _, part := range []struct{ bytes, descriptors int }{{len(want), 0}, {1, 1}} {
		data, control := make([]byte, part.bytes), make([]byte, 100)
		must(t, conn.SetReadDeadline(time.Now().Add(patience)))
		n, n2, _, _, err := conn.ReadMsgUnix(data, control)
		must(t, err)
		got := rights(t, control[:n2])
		if n != part.bytes || len(got) != part.descriptors {
			t.Errorf("%d bytes came with %d descriptors, want %d with %d", n, len(got), part.bytes, part.descriptors)
		}
		transport.CloseAll(got)
	}
}

// rights returns the descriptors in a control message.
func rights(t *testing.T, control []byte) []int {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(control)
	must(t, err)
	var all []int
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		must(t, err)
		all = append(all, some...)
	}
	return all
}

func TestAHeldCallHoldsNothingElseUp(t *testing.T) {
	t.Parallel()
	verdict := make(chan struct{})
	s := newStage(t, func(g *Gate) {
		g.patience = time.Hour
		g.Decide = func(context.Context, stopguard.Request) error { <-verdict; return nil }
	})
	client, daemon := s.connect()
	m := about(suspend, ordinary)
	client.say(t, m)
	daemon.answerXML(t)
	for range 3 {
		ping := message{Header: wire.Header{Program: keepaliveNumber, Version: 1, Procedure: 1, Kind: wire.Message}}
		daemon.say(t, ping)
		if got := client.next(t); got.Program != keepaliveNumber || got.Procedure != 1 {
			t.Fatalf("instead of a ping comes %+v", got.Header)
		}
		ping.Procedure = 2
		client.say(t, ping)
		if got := daemon.next(t); got.Program != keepaliveNumber || got.Procedure != 2 {
			t.Fatalf("instead of a pong comes %+v", got.Header)
		}
		untouched(t, client, daemon)
	}
	close(verdict)
	if got := daemon.next(t); got.Procedure != suspend || !bytes.Equal(got.payload, m.payload) {
		t.Fatalf("instead of the held call comes %+v", got.Header)
	}
}

func TestNobodyTakesOnAnIdentity(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) { g.RefuseUnknown = true })
	client, daemon := s.connect()
	for _, kind := range []wire.Kind{wire.Call, wire.CallWithFDs} {
		m := message{Header: wire.Header{Procedure: setIdentity, Kind: kind, Serial: 3}, payload: make([]byte, 100)}
		client.say(t, m)
		err := client.refused(t, m)
		if want := "stopguard: veto: CONNECT_SET_IDENTITY: no client may do this through the gate"; err.Message != want {
			t.Errorf("%q, want %q", err.Message, want)
		}
	}
	untouched(t, client, daemon)
}

func TestAClientThatHasGoneWantsNothingAnyMore(t *testing.T) {
	t.Parallel()
	asked, verdict := make(chan struct{}), make(chan struct{})
	s := newStage(t, func(g *Gate) {
		g.Decide = func(context.Context, stopguard.Request) error { close(asked); <-verdict; return nil }
	})
	client, daemon := s.connect()
	client.say(t, about(suspend, ordinary))
	daemon.answerXML(t)
	<-asked
	must(t, client.conn.Close())
	close(verdict)
	daemon.ended(t)
}
