package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// The real libvirtd is too busy in internal/e2e/gate.
func TestWhatABusyLibvirtdHasWrittenIsDecidedOnForItsOwnUser(t *testing.T) {
	t.Parallel()
	const isLate = "no decision within 5s; "
	for _, tt := range []struct {
		why     string
		call    message
		foreign bool // the client is another user
		silent  bool // libvirtd does not tell the state
		written error
		answer  string // a part of it; "" if the call passes
	}{
		{"it is protected", about(destroy, protected), false, false, nil, vetoLine},
		{"it is not", about(destroy, ordinary), false, false, nil, ""},
		{"who is not let read those files learns nothing", about(destroy, protected), true, false, nil, isLate},
		{"a libvirtd that hangs would do it at any time", about(destroy, ordinary), false, true, nil, isLate},
		{"nothing is written", about(destroy, ordinary), false, false, errors.New("no domain runs"), isLate},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(g *Gate) {
				g.fileDelay = 20 * time.Millisecond
				if tt.answer == isLate {
					g.patience = late
				}
				if tt.foreign {
					g.self++
				}
				g.StatusXML = func(uuid string) ([]byte, error) { return []byte(xmlOf(uuid)), tt.written }
			})
			client, daemon := s.connect()
			if tt.silent {
				daemon.state.Store(nil)
			}
			client.say(t, tt.call)
			daemon.question(t)
			if tt.silent {
				daemon.askedState(t)
			}
			if tt.answer == "" {
				if got := daemon.next(t); got.Procedure != tt.call.Procedure {
					t.Errorf("instead of the call comes %+v", got.Header)
				}
				return
			}
			if err := client.refused(t, tt.call); !strings.Contains(err.Message, tt.answer) {
				t.Error(err.Message)
			}
			untouched(t, client, daemon)
		})
	}
}

// Whoever fences a host ends one guest after the other, on one connection, and libvirtd owes it all
// of their XML.
func TestABusyLibvirtdTellsTheStateOfOneDomainAfterTheOther(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) {
		g.fileDelay = 20 * time.Millisecond
		g.StatusXML = func(uuid string) ([]byte, error) { return []byte(xmlOf(uuid)), nil }
	})
	client, daemon := s.connect()
	for i := range uint32(maxQuestions + 2) {
		m := about(destroy, ordinary)
		m.Serial = 100 + i
		client.say(t, m)
		got := daemon.next(t)
		if got.Procedure == domainXML { // it is not answered, any number of times
			got = daemon.next(t)
		}
		if got.Procedure != destroy || got.Serial != m.Serial {
			t.Fatalf("call %d: instead of it comes %+v", i, got.Header)
		}
	}
}

func TestWhatIsWrittenIsOnlyReadIfLibvirtdIsBusy(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(g *Gate) {
		g.StatusXML = func(string) ([]byte, error) {
			t.Error("it is read")
			return nil, errors.New("it is not to be read")
		}
	})
	client, daemon := s.connect()
	m := about(destroy, protected)
	client.say(t, m)
	daemon.answerXML(t)
	client.vetoed(t, m)
}

// A guest's owner may write more than fits into a reply of libvirtd. That is not a fault: the gate
// reads libvirtd's files instead. If they cannot be read, only the UUID of the domain is known.
func TestXMLThatLibvirtdCannotSendIsNoFault(t *testing.T) {
	t.Parallel()
	unreadable := errors.New("it cannot be read")
	for _, tt := range []struct {
		why             string
		status, defined error
		want            string // the type of the domain that is asked about, "" for a head
	}{
		{"the domain runs", nil, unreadable, "qemu"},
		{"the domain is off", ErrNotRunning, nil, "kvm"},
		{"it may run, so that the definition is not what ends", unreadable, nil, ""},
		{"neither file can be read", ErrNotRunning, unreadable, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t, func(g *Gate) {
				g.StatusXML = func(uuid string) ([]byte, error) { return []byte(xmlOf(uuid)), tt.status }
				g.DefinedXML = func(uuid string) ([]byte, error) {
					return []byte("<domain type='kvm' id='7'><name>x</name><uuid>" + uuid + "</uuid></domain>"), tt.defined
				}
			})
			client, daemon := s.connect()
			client.say(t, about(destroy, ordinary))
			q := daemon.question(t)
			q.Kind, q.Status = wire.Reply, wire.Failed
			q.payload = (&wire.Error{Code: wire.CodeRPC, Domain: wire.FromRPC, Message: "Unable to encode message payload"}).AppendPayload(nil)
			if err := daemon.Send(q.frame(), nil); err != nil {
				t.Fatal(err)
			}
			if got := daemon.next(t); got.Procedure != destroy {
				t.Fatalf("instead of the call comes %+v", got.Header)
			}
			s.asking.Lock()
			defer s.asking.Unlock()
			if len(s.asked) != 1 || s.asked[0].Domain.UUID != ordinary || s.asked[0].Domain.Type != tt.want || s.asked[0].Domain.IsHead() != (tt.want == "") {
				t.Errorf("asked about %+v", s.asked)
			}
		})
	}
}

// The decision by the UUID alone is counted, and the destroy of a transient domain is a delete.
func TestADecisionWithoutXMLIsCountedAndIsADeleteOfATransientDomain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why         string
		isTransient bool
		operations  []string
		want        map[string]float64
	}{
		{"it is defined", false, []string{"stop"}, map[string]float64{"decisions_total{stop,allow}": 1}},
		{"it is gone then", true, []string{"stop", "delete"}, map[string]float64{"decisions_total{stop,allow}": 1, "decisions_total{delete,veto}": 1}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			var mu sync.Mutex
			var operations []string
			s := newStage(t, func(g *Gate) {
				g.Metrics = NewMetrics(registry)
				g.StatusXML = func(string) ([]byte, error) { return nil, errors.New("no status file") }
				g.Decide = func(_ context.Context, r stopguard.Request) error {
					mu.Lock()
					defer mu.Unlock()
					operations = append(operations, r.Operation)
					if r.Operation == string(call.Delete) {
						if !r.EndsRun || !r.Domain.IsHead() {
							t.Errorf("asked about %+v", r)
						}
						return &hookproto.Veto{Reason: "it is transient", Rule: "test"}
					}
					return nil
				}
			})
			client, daemon := s.connect()
			daemon.isTransient.Store(tt.isTransient)
			client.say(t, about(destroyOnly, ordinary))
			q := daemon.question(t)
			q.Kind, q.Status = wire.Reply, wire.Failed
			q.payload = (&wire.Error{Code: wire.CodeRPC, Domain: wire.FromRPC, Message: "Unable to encode message payload"}).AppendPayload(nil)
			must(t, daemon.Send(q.frame(), nil))
			if tt.isTransient {
				client.refused(t, about(destroyOnly, ordinary))
			} else if got := daemon.next(t); got.Procedure != destroyOnly {
				t.Fatalf("instead of the call comes %+v", got.Header)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(operations, tt.operations) {
				t.Errorf("the guard was asked about %q", operations)
			}
			got := counted(t, registry)
			for name := range got {
				if !strings.HasPrefix(name, "decisions_total") {
					delete(got, name)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
