//go:build e2e

package fleet

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleet"
)

// A node that hangs for a while has requests in its sockets, which it executes when it goes on.
// Their client has long sent them to another node.
func TestALateChangeDoesNotBringAMemberBack(t *testing.T) {
	c := newCluster(t, "kvm-1")
	one := c.join("kvm-1", "a")
	one.has(domain(1))
	sees(t, one, "pg-1@kvm-1")
	for round := range 6 {
		n := c.nodes[round%len(c.nodes)]
		n.signal(syscall.SIGSTOP)
		for range 6 {
			one.has(domain(1), domain(2))
			time.Sleep(150 * time.Millisecond)
			one.has(domain(1))
			time.Sleep(150 * time.Millisecond)
		}
		sees(t, one, "pg-1@kvm-1")
		n.signal(syscall.SIGCONT)
		time.Sleep(500 * time.Millisecond)
		sees(t, one, "pg-1@kvm-1") // one that came back would stay: the agent takes it for gone
	}
}

func TestALateReservationDoesNotReplaceANewerOne(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	way := newDetour(t, c.nodes[0].client)
	slow := c.join("kvm-1", "a", lastingReservations, func(c *fleet.Config) { c.Endpoints = []string{way.url} })
	two := c.join("kvm-2", "b")
	slow.has(domain(1))
	two.has(domain(2), domain(3))
	sees(t, slow, "pg-1@kvm-1", "pg-2@kvm-2", "pg-3@kvm-2")
	force := func() string { // as a stop that a ticket lets go
		d := domain(1)
		return slow.Answer(context.Background(), remote.FleetRequest{Groups: []string{group}, WithinMS: 900, Reserve: &remote.Reservation{
			ID: "forced", Name: d.Name, UUID: d.UUID, PID: d.PID, Start: d.Start, Operation: "stop", Ticket: "t", Forced: true,
			Groups: []remote.FleetGroup{{Name: group, Members: []remote.FleetMember{}}},
		}}).Error
	}
	if text := force(); text != "" {
		t.Fatal(text)
	}
	way.hold()
	if force() == "" {
		t.Fatal("etcd answers")
	}
	_ = slow.Close()

	// The domain is stopped, started, and to be stopped again.
	one, again := c.join("kvm-1", "a", lastingReservations), domain(1)
	again.Start++
	one.has(again)
	if made, err := stop(one, sees(t, one, "pg-1@kvm-1", "pg-2@kvm-2", "pg-3@kvm-2"), again); err != nil || !made {
		t.Fatal(made, err)
	}
	way.goOn()
	for range 20 { // its host would remove one for the run before
		sees(t, two, "pg-1@kvm-1*", "pg-2@kvm-2", "pg-3@kvm-2")
		time.Sleep(100 * time.Millisecond)
	}
}

// A detour is an endpoint that passes on what it reads. It can hold back what is sent to etcd, and
// passes it on then as late as the first of it is.
type detour struct {
	url string
	mu  sync.Mutex // held while it holds back
}

func newDetour(t testing.TB, endpoint string) *detour {
	t.Helper()
	d := &detour{}
	d.url = pass(t, "127.0.0.1", endpoint, d.carry, after(0))
	return d
}

func (d *detour) hold() { d.mu.Lock() }

func (d *detour) goOn() { d.mu.Unlock() }

func (d *detour) carry(to, from net.Conn) {
	defer to.Close()
	type part struct {
		content []byte
		at      time.Time
	}
	parts := make(chan part, 1000)
	go func() {
		defer close(parts)
		for {
			buffer := make([]byte, 64<<10)
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			parts <- part{buffer[:n], time.Now()}
		}
	}()
	var late time.Duration
	for p := range parts {
		d.mu.Lock()
		late = max(late, time.Since(p.at))
		d.mu.Unlock()
		time.Sleep(time.Until(p.at.Add(late)))
		if _, err := to.Write(p.content); err != nil {
			return
		}
	}
}
