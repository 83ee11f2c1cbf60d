package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/gate/transport"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// rested brings the gate to rest.
func (s *stage) rested() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if busy := s.Quiesce(ctx); busy != nil {
		s.t.Fatalf("these do not come to rest: %+v", busy)
	}
}

// handOver puts another gate in the place of the gate, with its connections. What one program tells
// the next goes by way of JSON. The descriptors are duplicates, as the old gate has to close its
// own: it does not end as a process does.
func (s *stage) handOver() {
	s.t.Helper()
	s.rested()
	carried := s.States()
	data, err := json.Marshal(carried)
	must(s.t, err)
	var taken []ConnState
	must(s.t, json.Unmarshal(data, &taken))
	duplicate := func(d int) int {
		if d == transport.NoDescriptor {
			return d
		}
		d, err := unix.FcntlInt(uintptr(d), unix.F_DUPFD_CLOEXEC, 0)
		must(s.t, err)
		return d
	}
	for i, k := range taken {
		taken[i].Client, taken[i].Server = duplicate(k.Client), duplicate(k.Server)
		taken[i].Begun = bytes.Clone(carried[i].Begun)
		for j, d := range k.Descriptors {
			taken[i].Descriptors[j] = duplicate(d)
		}
	}
	f, err := s.public.File()
	must(s.t, err)
	defer f.Close()
	l, err := net.FileListener(f)
	must(s.t, err)
	s.public.SetUnlinkOnClose(false)
	s.end()
	gate := New(s.Config)
	gate.patience, gate.root = s.patience, s.root
	s.Gate = gate
	s.serve(l.(*net.UnixListener), taken...)
}

func TestAConnectionGoesOnInAnotherGate(t *testing.T) {
	t.Parallel()
	big := message{Header: wire.Header{Procedure: 208, Kind: wire.Stream, Status: wire.Continue}, payload: bytes.Repeat([]byte("stream"), 50_000)}
	frame := big.frame()
	for _, tt := range []struct {
		why string
		// before is done before the hand-over, and what it gives after it.
		before func(t *testing.T, s *stage, client, daemon *end) (after func())
	}{
		{"nothing is under way", func(*testing.T, *stage, *end, *end) func() { return func() {} }},
		{"the client is within a frame", func(t *testing.T, s *stage, client, daemon *end) func() {
			must(t, client.Write(frame[:100_000]))
			return func() {
				must(t, client.Write(frame[100_000:]))
				if got := daemon.next(t); !bytes.Equal(got.payload, big.payload) {
					t.Errorf("another frame comes: %+v, %d bytes", got.Header, len(got.payload))
				}
			}
		}},
		{"libvirtd is within a frame", func(t *testing.T, s *stage, client, daemon *end) func() {
			must(t, daemon.Write(frame[:200_001]))
			return func() {
				must(t, daemon.Write(frame[200_001:]))
				if got := client.next(t); !bytes.Equal(got.payload, big.payload) {
					t.Errorf("another frame comes: %+v, %d bytes", got.Header, len(got.payload))
				}
			}
		}},
		{"both are within a header", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := about(suspend, protected).frame()
			must(t, client.Write(m[:21]))
			must(t, daemon.Write(frame[:27]))
			return func() {
				must(t, client.Write(m[21:]))
				must(t, daemon.Write(frame[27:]))
				if got := client.next(t); !bytes.Equal(got.payload, big.payload) {
					t.Errorf("another frame comes: %+v, %d bytes", got.Header, len(got.payload))
				}
				daemon.answerXML(t)
				client.vetoed(t, about(suspend, protected))
			}
		}},
		{"a descriptor is to come", func(t *testing.T, s *stage, client, daemon *end) func() {
			d, read := pipe(t)
			reply := message{Header: wire.Header{Procedure: openGraphicsFD, Kind: wire.ReplyWithFDs}, payload: []byte{0, 0, 0, 1}}
			must(t, daemon.Write(reply.frame()))
			return func() {
				must(t, daemon.Pass(d))
				got := client.next(t)
				must(t, write(got.descriptors[0], 'x'))
				if read() != 'x' {
					t.Error("another descriptor comes")
				}
				transport.CloseAll(got.descriptors)
			}
		}},
		{"the client is within a call that is to be decided", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := about(destroy, protected)
			client.begins(t, m.frame()[:40])
			return func() {
				must(t, client.Write(m.frame()[40:]))
				daemon.answerXML(t)
				client.vetoed(t, m)
			}
		}},
		{"the client is within a large one that is allowed", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := about(suspend, ordinary)
			m.payload = append(m.payload, bytes.Repeat([]byte("more, "), 500_000)...)
			client.begins(t, m.frame()[:2_000_003])
			return func() {
				must(t, client.Write(m.frame()[2_000_003:]))
				daemon.answerXML(t)
				if got := daemon.next(t); got.Procedure != suspend || !bytes.Equal(got.payload, m.payload) {
					t.Errorf("another call comes: %+v, %d bytes", got.Header, len(got.payload))
				}
			}
		}},
		{"one of the call's descriptors is to come", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := about(suspend, ordinary)
			m.Kind, m.payload = wire.CallWithFDs, append([]byte{0, 0, 0, 2}, m.payload...)
			first, readFirst := pipe(t)
			second, readSecond := pipe(t)
			client.begins(t, m.frame())
			must(t, client.Pass(first))
			return func() {
				must(t, client.Pass(second))
				daemon.answerXML(t)
				got := daemon.next(t)
				if got.Procedure != suspend || !bytes.Equal(got.payload, m.payload) || len(got.descriptors) != 2 {
					t.Fatalf("another call comes: %+v, %d bytes", got.Header, len(got.payload))
				}
				must(t, write(got.descriptors[0], '1'))
				must(t, write(got.descriptors[1], '2'))
				if readFirst() != '1' || readSecond() != '2' {
					t.Error("other descriptors come")
				}
				transport.CloseAll(got.descriptors)
			}
		}},
		{"the client is within a call that nobody may make", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := message{Header: wire.Header{Procedure: setIdentity, Serial: 5}, payload: make([]byte, 100)}
			client.begins(t, m.frame()[:50])
			return func() {
				must(t, client.Write(m.frame()[50:]))
				if err := client.refused(t, m); !strings.Contains(err.Message, "no client may do this through the gate") {
					t.Errorf("it is answered with %q", err.Message)
				}
			}
		}},
		{"the client is within a call that is too large", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := about(suspend, ordinary)
			m.payload = append(m.payload, make([]byte, maxCall)...)
			client.begins(t, m.frame()[:100_000])
			return func() {
				must(t, client.Write(m.frame()[100_000:]))
				if err := client.refused(t, m); !strings.Contains(err.Message, errNotKept.Error()) {
					t.Errorf("it is answered with %q", err.Message)
				}
			}
		}},
		{"the client has asked for XML itself", func(t *testing.T, s *stage, client, daemon *end) func() {
			m := about(domainXML, ordinary, inactiveXML)
			client.say(t, m)
			daemon.question(t)
			return func() {
				waitFor(t, func() bool { // the gate is beginning to serve
					s.serving.Lock()
					defer s.serving.Unlock()
					for c := range s.connections {
						c.questions.mu.Lock()
						defer c.questions.mu.Unlock()
						return c.questions.clients[id{domainXML, m.Serial}] == 1
					}
					return false
				})
				m.Kind, m.payload = wire.Reply, []byte("the answer..")
				daemon.say(t, m)
				if got := client.next(t); string(got.payload) != "the answer.." {
					t.Errorf("the client gets %+v", got.Header)
				}
			}
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, nil)
			client, daemon := s.connect()
			untouched(t, client, daemon)
			after := tt.before(t, s, client, daemon)
			s.handOver()
			s.handOver() // what was taken over can be handed over
			after()
			untouched(t, client, daemon)
			m := about(destroy, protected)
			client.say(t, m)
			daemon.answerXML(t)
			client.vetoed(t, m)
			must(t, client.conn.Close())
			daemon.ended(t)
		})
	}
}

// begins sends a part of a frame, and waits until the gate has it.
func (e *end) begins(t *testing.T, part []byte) {
	t.Helper()
	must(t, e.Write(part))
	waitFor(t, func() bool {
		left, err := unix.IoctlGetInt(e.Descriptor(), unix.SIOCOUTQ)
		return err == nil && left == 0
	})
}

func TestAClientThatSaysNothingMoreStillGetsItsAnswersFromAnotherGate(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client, daemon := s.connect()
	must(t, client.conn.CloseWrite())
	daemon.ended(t)
	s.handOver()
	daemon.say(t, message{Header: wire.Header{Procedure: open, Kind: wire.Reply}})
	if got := client.next(t); got.Procedure != open {
		t.Errorf("the client gets %+v", got.Header)
	}
	must(t, daemon.conn.Close())
	client.ended(t)
}

func TestAClientThatHasSaidNothingIsHandedOverToo(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	client := newEnd(t, s.dial(), wire.FromServer())
	waitFor(t, func() bool { s.serving.Lock(); defer s.serving.Unlock(); return len(s.connections) == 1 })
	s.rested()
	late := newEnd(t, s.dial(), wire.FromServer()) // it waits to be accepted
	late.say(t, opening)
	time.Sleep(50 * time.Millisecond) // in which it could be accepted; whom this gate accepts now would be lost
	if n := len(s.States()); n != 1 {
		t.Errorf("a gate at rest has %d connections", n)
	}
	s.handOver()
	untouched(t, late, s.accept())
	client.say(t, opening)
	untouched(t, client, s.accept())
}

func TestAHeldCallGetsItsDecisionBeforeTheRest(t *testing.T) {
	t.Parallel()
	asked, verdict := make(chan struct{}, 2), make(chan struct{})
	s := newStage(t, func(g *Gate) {
		g.patience = time.Hour
		g.Decide = func(context.Context, stopguard.Request) error { asked <- struct{}{}; <-verdict; return nil }
	})
	client, daemon := s.connect()
	m := about(suspend, ordinary)
	client.say(t, m)
	daemon.answerXML(t)
	<-asked
	s.busy("a call waits for its decision")
	untouched(t, client, daemon) // it goes on
	close(verdict)
	s.handOver()
	if got := daemon.next(t); got.Procedure != suspend || !bytes.Equal(got.payload, m.payload) {
		t.Errorf("instead of the call comes %+v", got.Header)
	}
	untouched(t, client, daemon) // and not a second time
}

// busy has the gate try to rest in vain, and go on. It tries repeatedly: what else there is may not
// have come to rest in time yet, and what is to be busy may not be yet.
func (s *stage) busy(why string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		busy := s.Quiesce(ctx)
		cancel()
		s.Resume()
		if len(busy) == 1 && strings.Contains(busy[0].Why, why) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("what is busy: %+v, want %q", busy, why)
		}
	}
}

func TestARestThatIsGivenUpLosesNothing(t *testing.T) {
	t.Parallel()
	asked, verdict := make(chan struct{}, 1), make(chan struct{})
	s := newStage(t, func(g *Gate) {
		g.patience = time.Hour
		g.Decide = func(context.Context, stopguard.Request) error { asked <- struct{}{}; <-verdict; return nil }
	})
	client, daemon := s.connect()
	other, otherDaemon := s.connect()
	held := about(suspend, ordinary)
	client.say(t, held)
	daemon.answerXML(t)
	<-asked
	// What passes has to come whole before what is held can follow it.
	passes := message{Header: wire.Header{Procedure: getLibVersion, Serial: 9}, payload: make([]byte, 100)}
	client.begins(t, passes.frame()[:60])
	s.busy("the client has sent one call and a part of the next")
	close(verdict)
	untouched(t, other, otherDaemon)
	must(t, client.Write(passes.frame()[60:]))
	for _, want := range []uint32{getLibVersion, suspend} {
		if got := daemon.next(t); got.Procedure != want {
			t.Errorf("%+v comes, want %d", got.Header, want)
		}
	}
	s.handOver()
	untouched(t, client, daemon)
	untouched(t, other, otherDaemon)
}

func TestHalfACallIsFollowedByTheGateThatIsSwitchedOffMeanwhile(t *testing.T) {
	t.Parallel()
	off := false
	s := newStage(t, func(g *Gate) { g.Off = func() bool { return off } })
	client, daemon := s.connect()
	m := about(destroy, protected)
	client.begins(t, m.frame()[:40])
	s.rested()
	off = true
	s.handOver()
	must(t, client.Write(m.frame()[40:]))
	if got := daemon.next(t); got.Procedure != destroy || !bytes.Equal(got.payload, m.payload) {
		t.Errorf("another call comes: %+v", got.Header)
	}
	untouched(t, client, daemon)
}

func TestAClientThatDoesNotReadIsNotAtRest(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	conn := s.dial() // without reading
	client, err := transport.New(conn)
	must(t, err)
	must(t, client.Send(opening.frame(), nil))
	daemon := s.accept()
	const frames = 40
	m := message{Header: wire.Header{Procedure: 208, Kind: wire.Stream}, payload: make([]byte, 100_000)}
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := range frames {
			m.Serial = uint32(i)
			if err == nil {
				err = daemon.Send(m.frame(), nil)
			}
		}
		sent <- err
	}()
	s.busy("the client does not read")
	reader := newEnd(t, conn, wire.FromServer())
	for i := range frames {
		if got := reader.next(t); got.Serial != uint32(i) || len(got.payload) != len(m.payload) {
			t.Fatalf("instead of frame %d comes %+v", i, got.Header)
		}
	}
	must(t, <-sent)
	s.handOver()
	untouched(t, reader, daemon)
}

func TestManyClientsNoticeNothingOfManyHandOvers(t *testing.T) {
	t.Parallel()
	const clients, handOvers = 16, 8
	s := newStage(t, nil)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	calls := make([]int, clients)
	problems := make(chan error, clients)
	for n := range clients {
		client, daemon := s.connect()
		go func() { // as libvirtd: every call is answered once
			for m := range daemon.messages {
				if m.Procedure == domainXML {
					daemon.reply(t, m)
					continue
				}
				m.Kind = wire.Reply
				_ = daemon.Send(m.frame(), nil)
			}
		}()
		wait.Go(func() {
			for serial := uint32(1); ; serial++ {
				select {
				case <-stop:
					return
				default:
				}
				m := about(suspend, []string{ordinary, protected}[serial%2])
				if serial%3 == 0 {
					m = message{Header: wire.Header{Procedure: getLibVersion}, payload: make([]byte, 4*(serial%50_000))}
				}
				m.Serial = serial
				if err := client.Send(m.frame(), nil); err != nil {
					problems <- err
					return
				}
				select {
				case got, ok := <-client.messages:
					vetoed := got.Status == wire.Failed
					if !ok || got.Serial != serial || got.Procedure != m.Procedure || vetoed != (m.Procedure == suspend && serial%2 == 1) {
						problems <- fmt.Errorf("call %d of client %d is answered by %+v, %v", serial, n, got.Header, ok)
						return
					}
				case <-time.After(patience):
					problems <- fmt.Errorf("call %d of client %d has no answer", serial, n)
					return
				}
				calls[n]++
			}
		})
	}
	for range handOvers {
		time.Sleep(20 * time.Millisecond) // that they have done something; how much does not matter
		s.handOver()
	}
	close(stop)
	wait.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
	t.Log(calls)
}

// A waited context counts the contexts that wait for its end.
type waited struct {
	context.Context
	waiting int
}

func (w *waited) Done() <-chan struct{} { return make(chan struct{}) }

// AfterFunc is what package context looks for in a context that is not its own.
func (w *waited) AfterFunc(func()) (stop func() bool) {
	w.waiting++
	return func() bool {
		w.waiting--
		return true
	}
}

func TestAStateThatCannotBeIsNotTakenOver(t *testing.T) {
	for _, tt := range []struct {
		why string
		k   func(k *ConnState)
	}{
		{"more than a header", func(k *ConnState) { k.FromClient.Head = make([]byte, 32) }},
		{"a frame that is too large", func(k *ConnState) { k.FromServer.Left = wire.MaxFrame + 1 }},
		{"fewer than no bytes", func(k *ConnState) { k.FromServer.Left = -1 }},
		{"a frame to nobody", func(k *ConnState) { _ = unix.Close(k.Server); k.Server, k.FromClient.Left = transport.NoDescriptor, 5 }},
		{"more descriptors than a call has", func(k *ConnState) {
			k.Descriptors = append(k.Descriptors, k.Client)
			k.Client, _ = unix.Open("/dev/null", unix.O_RDONLY, 0)
		}},
		{"no socket", func(k *ConnState) { _ = unix.Close(k.Client); k.Client, _ = unix.Open("/dev/null", unix.O_RDONLY, 0) }},
		{"libvirtd's is no socket", func(k *ConnState) { _ = unix.Close(k.Server); k.Server, _ = unix.Open("/dev/null", unix.O_RDONLY, 0) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			before := openFiles(t)
			pair := func() [2]int {
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				must(t, err)
				return fds
			}
			client, server := pair(), pair()
			k := ConnState{Client: client[0], Server: server[0], Calls: []CallState{{domainXML, 1, 1}}}
			tt.k(&k)
			ends := &waited{Context: context.Background()}
			if c, err := New(Config{}).take(ends, k); err == nil {
				c.close()
				t.Error("it is taken over")
			}
			if ends.waiting != 0 {
				t.Errorf("%d contexts still wait for the gate to end", ends.waiting)
			}
			transport.CloseAll([]int{client[1], server[1]})
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors are left", after-before)
			}
		})
	}
}
