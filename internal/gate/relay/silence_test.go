package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The real libvirtd is stopped in internal/e2e/gate, where it cannot be chosen which of our
// questions it still answers.
func TestASilentLibvirtdKeepsNobodyWaitingForADecision(t *testing.T) {
	t.Parallel()
	const says = ": no decision within 5s; "
	for _, tt := range []struct {
		why  string
		call message
		hear func(t *testing.T, client, daemon *end) (unanswered []message)
	}{
		{"it does not give the XML", about(destroy, ordinary), func(t *testing.T, _, daemon *end) []message {
			return []message{daemon.question(t)}
		}},
		{"it does not tell the state", about(destroy, ordinary), func(t *testing.T, _, daemon *end) []message {
			daemon.answerXML(t)
			return []message{daemon.askedState(t)}
		}},
		{"it does not list the domains", message{Header: wire.Header{Procedure: nodeSuspend, Serial: 7}, payload: make([]byte, 16)}, func(t *testing.T, _, daemon *end) []message {
			return []message{daemon.next(t)}
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(g *Gate) {
				g.patience = late
				asksWhetherItStarts(g)
			})
			client, daemon := s.connect()
			daemon.state.Store(nil)
			client.say(t, tt.call)
			unanswered := tt.hear(t, client, daemon)
			if err := client.refused(t, tt.call); !strings.Contains(err.Message, says) {
				t.Error(err.Message)
			}
			for _, q := range unanswered { // it goes on
				q.Kind, q.payload = wire.Reply, wire.AppendUint32(wire.AppendUint32(nil, running), 1)
				if q.Procedure == domainXML {
					q.payload = wire.AppendString(nil, xmlOf(ordinary))
				}
				daemon.say(t, q)
			}
			untouched(t, client, daemon)
			if len(client.messages) > 0 {
				t.Errorf("the client gets an answer to a question of ours: %+v", <-client.messages)
			}
		})
	}
}

func TestALibvirtdThatDoesNotReadKeepsNobodyWaitingForADecision(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) {
		g.patience = time.Second
		asksWhetherItStarts(g)
	})
	client := newEnd(t, s.dial(), wire.FromServer())
	client.say(t, opening)
	must(t, s.daemon.SetDeadline(time.Now().Add(patience)))
	daemon, err := s.daemon.AcceptUnix()
	must(t, err)
	defer daemon.Close()
	m := about(destroy, ordinary)
	client.say(t, m)
	// It reads the question for XML, and nothing more.
	var q message
	splitter := wire.FromClient()
	for q.Procedure != domainXML || len(q.payload) < int(q.Length) {
		b := make([]byte, 1)
		_, err := daemon.Read(b)
		must(t, err)
		p, _, ok, err := splitter.Next(b)
		must(t, err)
		if ok && p.First {
			q = message{Header: p.Header}
		}
		if ok {
			q.payload = append(q.payload, p.Bytes...)
		}
	}
	go func() {
		upload := message{Header: wire.Header{Procedure: getLibVersion, Kind: wire.Stream}, payload: make([]byte, 16<<20)}
		_ = client.Send(upload.frame(), nil) // until the connection ends
	}()
	for deadline := time.Now().Add(patience); !s.writing(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is passed on")
		}
	}
	q.Kind = wire.Reply
	q.payload = wire.AppendString(nil, xmlOf(ordinary))
	_, err = daemon.Write(q.frame())
	must(t, err)
	if err := client.refused(t, m); !strings.Contains(err.Message, ": no decision within 5s; ") {
		t.Error(err.Message)
	}
}

// writing reports whether the gate is in the middle of a frame for libvirtd.
func (s *stage) writing() bool {
	s.serving.Lock()
	defer s.serving.Unlock()
	for c := range s.connections {
		if c.server.TryLock() {
			c.server.Unlock()
			return false
		}
	}
	return true
}
