package relay

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// Anybody on the host may connect, and most may read: what they make the gate keep is little.
func TestAClientThatLibvirtdHasNotLetInHoldsNextToNothing(t *testing.T) {
	t.Parallel()
	accepted := message{Header: wire.Header{Procedure: open, Kind: wire.Reply}}
	refused := accepted
	refused.Status, refused.payload = wire.Failed, (&wire.Error{Code: 45, Domain: wire.FromRPC, Message: "authentication failed"}).AppendPayload(nil)
	another := accepted
	another.Procedure = getLibVersion
	for _, tt := range []struct {
		why      string
		answer   message // of libvirtd's, before the calls
		readOnly bool
		handOver bool // to another gate, before the calls
		letIn    bool
	}{
		{"it is let in", accepted, false, false, true},
		{"it was let in before another gate took over", accepted, false, true, true},
		{"it may only read", accepted, true, false, false},
		{"it is not let in", refused, false, false, false},
		{"it was not let in before another gate took over", refused, false, true, false},
		{"libvirtd has answered something else", another, false, false, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, func(g *Gate) { g.patience, g.ReadOnly = time.Hour, tt.readOnly })
			s.unauthenticated = true
			client, daemon := s.connect()
			daemon.say(t, tt.answer)
			client.next(t)
			if tt.handOver {
				s.handOver()
			}
			large := about(suspend, protected)
			large.payload = append(large.payload, make([]byte, 2*maxHeldUnauthenticatedBytes)...)
			client.say(t, large)
			if tt.letIn {
				daemon.question(t)
			} else if err := client.refused(t, large); !strings.Contains(err.Message, "more than 4096 bytes of calls that wait") {
				t.Error(err.Message)
			} else {
				s.nothingHeld()
			}
			for range maxHeldUnauthenticated + 1 {
				client.say(t, about(suspend, protected))
			}
			if !tt.letIn {
				if err := client.refused(t, about(suspend, protected)); !strings.Contains(err.Message, ": 2 calls of this connection wait") {
					t.Error(err.Message)
				}
				daemon.question(t)
			}
			untouched(t, client, daemon)
			if len(client.messages) > 0 {
				t.Errorf("it is answered: %+v", <-client.messages)
			}
		})
	}
}

// nothingHeld waits until the gate has done with the calls that it has answered.
func (s *stage) nothingHeld() {
	s.serving.Lock()
	defer s.serving.Unlock()
	for c := range s.connections {
		for c.held.calls.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// Every user may connect while libvirtd does not accept. That must not take all threads of the
// gate: without one more it ends, and all connections with it.
func TestALibvirtdThatDoesNotAcceptTakesFewThreads(t *testing.T) {
	s := newStage(t, nil)
	raw, err := s.daemon.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) })) // one client fills its queue
	must(t, err)
	const clients = 5 * maxDials
	before := threads(t)
	for range clients {
		newEnd(t, s.dial(), wire.FromServer()).say(t, opening)
	}
	for end := time.Now().Add(patience); len(s.clients) < clients || len(s.dials) < maxDials; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("of %d clients %d are accepted, and %d are being connected", clients, len(s.clients), len(s.dials))
		}
	}
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if more := threads(t) - before; more > 2*maxDials {
			t.Fatalf("%d clients take %d threads", clients, more)
		}
	}
	must(t, s.daemon.Close()) // otherwise the gate would end no sooner than the kernel gives up
}

// threads returns how many threads this process has.
func threads(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(all)
}
