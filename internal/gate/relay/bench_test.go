package relay

import (
	"context"
	"testing"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// What the gate adds to a call is the difference between these; libvirtd is played, and answers at
// once.

func BenchmarkADirectCall(b *testing.B)     { benchmark(b, false, getLibVersion) }
func BenchmarkACallThatPasses(b *testing.B) { benchmark(b, true, getLibVersion) }
func BenchmarkACallThatIsHeld(b *testing.B) { benchmark(b, true, suspend) }

func benchmark(b *testing.B, through bool, procedure uint32) {
	s := newStage(b, func(g *Gate) { g.Decide = func(context.Context, stopguard.Request) error { return nil } })
	conn := s.dial()
	if !through {
		conn = s.dialTo("up")
	}
	client := newEnd(b, conn, wire.FromServer())
	client.say(b, opening)
	daemon := s.accept()
	go func() {
		for m := range daemon.messages {
			m.Kind = wire.Reply
			if m.Procedure == domainXML {
				m.payload = wire.AppendString(nil, xmlOf(ordinary))
			} else {
				m.payload = nil
			}
			_ = daemon.Send(m.frame(), nil)
		}
	}()
	m := about(procedure, ordinary)
	m.Program, m.Version = call.Remote, 1
	b.ResetTimer()
	for range b.N {
		client.say(b, m)
		client.next(b)
	}
}
