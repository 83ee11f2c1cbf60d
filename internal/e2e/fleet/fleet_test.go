//go:build e2e

package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleet"
	"github.com/stopguard/stopguard/internal/fleetconfig"
)

// A member is a host of the fleet in this process, whose domains the test sets.
type member struct {
	*fleet.Fleet
	host    string
	changed chan struct{}

	mu      sync.Mutex
	domains []fleet.Domain
}

const group = "pg / billing" // with what a key must not hold as it is

var groupSettings = []fleet.GroupSettings{{Name: group, Min: 2, Hash: "1"}}

func (c *cluster) join(host, machine string, with ...func(*fleet.Config)) *member {
	c.t.Helper()
	m := &member{host: host, changed: make(chan struct{}, 1)}
	config := fleet.Config{
		Settings: c.settings(host), Machine: machine, Changed: m.changed, Log: c.t.Logf,
		Observe: func(context.Context) (fleet.Observation, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return fleet.Observation{Groups: groupSettings, Domains: slices.Clone(m.domains)}, nil
		},
	}
	for _, set := range with {
		set(&config)
	}
	var err error
	if m.Fleet, err = fleet.Open(config); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (m *member) has(domains ...fleet.Domain) {
	m.mu.Lock()
	m.domains = domains
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func domain(n int) fleet.Domain {
	return fleet.Domain{Name: fmt.Sprintf("pg-%d", n), UUID: uuidOf(n), PID: 1000 + n, Start: 7, State: "running", Groups: []string{group}}
}

func uuidOf(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func view(t testing.TB, m *member) remote.FleetGroup {
	t.Helper()
	var g remote.FleetGroup
	eventually(t, "a view", func() error {
		answer := m.Answer(context.Background(), remote.FleetRequest{Groups: []string{group}, WithinMS: 900})
		if answer.Error != "" {
			return errors.New(answer.Error)
		}
		g = answer.Groups[0]
		return nil
	})
	return g
}

// sees waits until a host counts these members; one with an asterisk is reserved.
func sees(t testing.TB, m *member, want ...string) remote.FleetGroup {
	t.Helper()
	var g remote.FleetGroup
	eventually(t, m.host+" sees "+strings.Join(want, " "), func() error {
		g = view(t, m)
		var names []string
		for _, member := range g.Members {
			name := member.Name + "@" + member.Host
			if member.Reserved {
				name += "*"
			}
			names = append(names, name)
		}
		if !slices.Equal(names, want) {
			return fmt.Errorf("it sees %q", names)
		}
		return nil
	})
	return g
}

// stop asks a host to reserve the stop of a domain by what it has read, if two others run on.
func stop(m *member, g remote.FleetGroup, d fleet.Domain) (bool, error) {
	var rest []remote.FleetMember
	for _, other := range g.Members {
		if other.UUID != d.UUID && !other.Reserved {
			rest = append(rest, other)
		}
	}
	if len(rest) < 2 {
		return false, nil
	}
	g.Members = rest[:2]
	answer := m.Answer(context.Background(), remote.FleetRequest{Groups: []string{g.Name}, WithinMS: 900, Reserve: &remote.Reservation{
		ID: fmt.Sprint(serial.Add(1)), Name: d.Name, UUID: d.UUID, PID: d.PID, Start: d.Start, Operation: "stop", Groups: []remote.FleetGroup{g},
	}})
	if answer.Error != "" {
		return false, errors.New(answer.Error)
	}
	return answer.Reserved, nil
}

var serial atomic.Int64

func TestMembersOfAllHostsCount(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.join("kvm-1", "a"), c.join("kvm-2", "b")
	paused := domain(9)
	paused.State = "paused"
	one.has(domain(1), domain(2), paused)
	two.has(domain(3))
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")
	sees(t, two, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")

	t.Run("one that moves counts once", func(t *testing.T) {
		two.has(domain(3), domain(2))
		eventually(t, "both publish it", func() error {
			if n := len(two.Status().Groups[0].Members); n != 4 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")
		one.has(domain(1), paused)
		sees(t, one, "pg-1@kvm-1", "pg-2@kvm-2", "pg-3@kvm-2")
	})
	t.Run("those of a host whose agent is gone count until its lease ends", func(t *testing.T) {
		_ = two.Close()
		if g := view(t, one); len(g.Members) != 3 {
			t.Errorf("%v", g)
		}
		sees(t, one, "pg-1@kvm-1")
		eventually(t, "the status says so", func() error {
			if hosts := fmt.Sprint(one.Status().Hosts); hosts != "[{kvm-1 true} {kvm-2 false}]" {
				return errors.New(hosts)
			}
			return nil
		})
	})
	t.Run("those of an agent that starts again are as before", func(t *testing.T) {
		before := view(t, one).Members[0]
		_ = one.Close()
		one := c.join("kvm-1", "a")
		one.has(domain(1))
		time.Sleep(7 * time.Second) // longer than a lease
		if after := view(t, one).Members[0]; after != before {
			t.Errorf("%v, not %v", after, before)
		}
	})
	t.Run("another machine of the same name does not join", func(t *testing.T) {
		_ = c.join("kvm-1", "another")
		other := c.join("kvm-1", "third")
		eventually(t, "it says so", func() error {
			if text := fmt.Sprint(other.Status().Problems); !strings.Contains(text, "another machine") {
				return errors.New(text)
			}
			return nil
		})
	})
}

func TestAReservationComparesWhatWasRead(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.join("kvm-1", "a"), c.join("kvm-2", "b")
	one.has(domain(1), domain(2))
	two.has(domain(3))
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")
	before := sees(t, two, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")

	if made, err := stop(one, before, domain(1)); err != nil || !made {
		t.Fatal(made, err)
	}
	if made, err := stop(two, before, domain(3)); err != nil || made {
		t.Error("of two that read the same, the second got the last one, too", err)
	}
	after := sees(t, two, "pg-1@kvm-1*", "pg-2@kvm-1", "pg-3@kvm-2")
	t.Run("a reservation is made anew", func(t *testing.T) {
		if made, err := stop(one, after, domain(1)); err != nil || !made {
			t.Error(made, err)
		}
	})
	t.Run("it is over when the domain is gone", func(t *testing.T) {
		one.has(domain(2))
		sees(t, two, "pg-2@kvm-1", "pg-3@kvm-2")
		one.has(domain(1), domain(2))
		sees(t, two, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")
	})
	t.Run("it is over when the domain runs anew", func(t *testing.T) {
		if made, err := stop(one, view(t, one), domain(1)); err != nil || !made {
			t.Fatal(made, err)
		}
		again := domain(1)
		again.Start++
		one.has(again, domain(2))
		sees(t, two, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")
		one.has(domain(1), domain(2))
	})
	t.Run("it ends with its lease", func(t *testing.T) {
		if made, err := stop(one, view(t, one), domain(1)); err != nil || !made {
			t.Fatal(made, err)
		}
		sees(t, two, "pg-1@kvm-1*", "pg-2@kvm-1", "pg-3@kvm-2")
		sees(t, two, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2")
	})
	t.Run("a member that is gone since", func(t *testing.T) {
		read := view(t, one)
		two.has()
		sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1")
		if made, err := stop(one, read, domain(1)); err != nil || made {
			t.Error(made, err)
		}
	})
}

// While a domain moves, both hosts have it, and both may be asked to stop it.
func TestAHostDoesNotRemoveAnotherHostsReservation(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.join("kvm-1", "a", lastingReservations), c.join("kvm-2", "b", lastingReservations)
	one.has(domain(1))
	incoming := domain(1)
	incoming.PID, incoming.State = 2001, "paused"
	two.has(incoming, domain(2), domain(3))
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-2", "pg-3@kvm-2")
	if made, err := stop(one, sees(t, one, "pg-1@kvm-1", "pg-2@kvm-2", "pg-3@kvm-2"), domain(1)); err != nil || !made {
		t.Fatal(made, err)
	}
	if made, err := stop(two, sees(t, two, "pg-1@kvm-1*", "pg-2@kvm-2", "pg-3@kvm-2"), incoming); err != nil || !made {
		t.Fatal(made, err)
	}
	two.has(domain(2), domain(3)) // its process there has ended
	eventually(t, "the reservation of kvm-2 is over", func() error {
		for _, r := range two.Status().Groups[0].Reservations {
			if r.Host == "kvm-2" {
				return fmt.Errorf("%+v", r)
			}
		}
		return nil
	})
	sees(t, two, "pg-1@kvm-1*", "pg-2@kvm-2", "pg-3@kvm-2")
}

// lastingReservations makes reservations last longer than a test.
func lastingReservations(c *fleet.Config) { c.ReservationSeconds = 300 }

func TestManyAtOnceGetWhatThereIs(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	hosts := []*member{c.join("kvm-1", "a"), c.join("kvm-2", "b")}
	var names []string
	for i, h := range hosts {
		var domains []fleet.Domain
		for n := range 5 {
			domains = append(domains, domain(5*i+n))
			names = append(names, fmt.Sprintf("pg-%d@%s", 5*i+n, h.host))
		}
		h.has(domains...)
	}
	sees(t, hosts[0], names...)
	sees(t, hosts[1], names...)
	var made atomic.Int32
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			for range 100 {
				g := view(t, hosts[n/5])
				ok, err := stop(hosts[n/5], g, domain(n))
				if err != nil {
					t.Error(err)
				}
				if ok {
					made.Add(1)
					return
				}
			}
		})
	}
	all.Wait()
	if made.Load() != 8 {
		t.Errorf("%d of 10 were allowed, where 2 must run", made.Load())
	}
}

func TestEtcdThatDoesNotAnswerIsAnErrorInTime(t *testing.T) {
	c := newCluster(t, "kvm-1")
	one := c.join("kvm-1", "a")
	one.has(domain(1), domain(2), domain(3))
	read := sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-1")
	fails := func(want string) {
		t.Helper()
		began := time.Now()
		_, err := one.View(limited(t), []string{group})
		if err == nil || !strings.Contains(err.Error(), c.nodes[0].client) {
			t.Errorf("%v", err)
		}
		if _, err := stop(one, read, domain(1)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > 10*time.Second { // 2 s on a machine that is not busy
			t.Errorf("it took %v", took)
		}
	}
	t.Run("one of three is stopped", func(t *testing.T) {
		c.nodes[2].signal(syscall.SIGSTOP)
		view(t, one)
		c.nodes[2].signal(syscall.SIGCONT)
	})
	t.Run("no quorum", func(t *testing.T) {
		c.nodes[1].kill()
		c.nodes[2].kill()
		fails("no answer in time")
	})
	t.Run("none", func(t *testing.T) {
		c.nodes[0].kill()
		fails("no answer in time")
		eventually(t, "it says why", func() error {
			if text := fmt.Sprint(one.Status().Problems); !strings.Contains(text, "connection refused") {
				return errors.New(text)
			}
			return nil
		})
	})
	for _, n := range c.nodes {
		n.start()
	}
	c.waitForQuorum()
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-1")
}

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestAWrongCertificateAndAMissingPermissionAreNamed(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	for _, tt := range []struct {
		why   string
		spoil func(*fleetconfig.Settings)
		host  string
		says  string
	}{
		{"the certificate of another authority", func(s *fleetconfig.Settings) {
			other := cluster{t: t, dir: t.TempDir()}
			other.setup("ca", other.pki())
			other.setup("host", other.pki(), "kvm-1")
			s.Certificate, s.Key = other.file("kvm-1.crt"), other.file("kvm-1.key")
		}, "kvm-1", "remote error: tls: "},
		{"another authority for etcd's certificate", func(s *fleetconfig.Settings) {
			other := cluster{t: t, dir: t.TempDir()}
			other.setup("ca", other.pki())
			s.CA = other.file("ca.crt")
		}, "kvm-1", "unknown authority"},
		{"another host's certificate", func(s *fleetconfig.Settings) {
			s.Certificate, s.Key = c.file("kvm-2.crt"), c.file("kvm-2.key")
		}, "kvm-1", "permission denied"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := c.settings(tt.host)
			tt.spoil(&s)
			f, err := fleet.Open(fleet.Config{Settings: s, Machine: "a", Log: t.Logf, Observe: func(context.Context) (fleet.Observation, error) {
				return fleet.Observation{Groups: groupSettings}, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			eventually(t, "it says "+tt.says, func() error {
				if text := fmt.Sprint(f.Status().Problems); !strings.Contains(text, tt.says) {
					return errors.New(text)
				}
				return nil
			})
		})
	}
}
