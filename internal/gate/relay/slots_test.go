package relay

import (
	"context"
	"sync"
	"testing"

	"github.com/stopguard/stopguard"
)

func TestAPlaceThatWasLeftIsNotTakenAgain(t *testing.T) {
	t.Parallel()
	p := gateSlot{all: make(chan struct{}, 1)}
	if !p.take(t.Context()) {
		t.Fatal("it cannot be taken")
	}
	p.leave()
	p.free() // as a decision does that queries libvirtd after its caller has gone
	if p.take(t.Context()) {
		t.Error("it is taken")
	}
	if n := len(p.all); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}

func TestClientsThatLeaveWhileTheyAreDecidedAboutTakeNoPlaceWithThem(t *testing.T) {
	t.Parallel()
	const clients = 20 // each would take its place along half of the time
	var ended sync.WaitGroup
	ended.Add(clients)
	s := newStage(t, func(g *Gate) {
		g.Decide = func(ctx context.Context, r stopguard.Request) error {
			defer ended.Done()
			<-ctx.Done()
			_, err := r.Starting(ctx)
			return err
		}
	})
	for range clients {
		client, daemon := s.connect()
		client.say(t, about(suspend, protected))
		daemon.answerXML(t)
		waitFor(t, func() bool { return len(s.evaluating) > 0 })
		_ = client.conn.Close()
		daemon.ended(t)
		waitFor(t, func() bool { return len(s.evaluating) == 0 })
	}
	ended.Wait()
	if n := len(s.evaluating); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}
