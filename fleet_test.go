package stopguard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

const (
	fleetData  = "site:\n  min_running:\n    groups:\n      - {name: pg, scope: fleet, min: 1, members: [\"pg-*\"]}\n"
	memberUUID = "16e14a01-2b11-40de-a128-75e3f4a5fe12"
	otherUUID  = "26e14a01-2b11-40de-a128-75e3f4a5fe12"
	fleetVeto0 = "group pg needs 1 running in the fleet, and stopping this one leaves 0; start another first (rule min_running)"
)

// A fakeFleet is what an agent says about the group pg.
type fakeFleet struct {
	members   []remote.FleetMember
	err       error
	conflicts int // how often a reservation finds a changed group
	onReserve func()

	views        int
	reservations []remote.Reservation
}

func (f *fakeFleet) ask(_ context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
	if r.Reserve == nil {
		f.views++
	} else {
		f.reservations = append(f.reservations, *r.Reserve)
		if f.onReserve != nil {
			f.onReserve()
		}
		if f.conflicts == 0 && f.err == nil {
			return remote.FleetAnswer{Reserved: true}, nil
		}
		f.conflicts--
	}
	return remote.FleetAnswer{Groups: []remote.FleetGroup{{Name: "pg", Revision: 9, Members: f.members}}}, f.err
}

func running(names ...string) []remote.FleetMember {
	members := []remote.FleetMember{{Name: "pg-1", UUID: memberUUID, Host: "kvm-1", Revision: 1}}
	for i, name := range names {
		members = append(members, remote.FleetMember{Name: name, UUID: fmt.Sprintf("%d", i), Host: "kvm-2", Revision: int64(10 - i)})
	}
	return members
}

// A fleetHost runs pg-1 and web-1.
type fleetHost struct {
	t    *testing.T
	root string
	pg   *domainxml.Domain
	web  *domainxml.Domain
}

func newFleetHost(t *testing.T, data string) *fleetHost {
	t.Helper()
	h := &fleetHost{t: t, root: testhost.Root(t, "etc/stopguard/policy/data.yaml", data)}
	h.pg, h.web = h.runs("pg-1", memberUUID), h.runs("web-1", otherUUID)
	return h
}

func (h *fleetHost) runs(name, uuid string) *domainxml.Domain {
	xml := strings.NewReplacer("NAME", name, "UUID", uuid).Replace(`<domain type="kvm" id="7"><name>NAME</name><uuid>UUID</uuid></domain>`)
	runningDomain(h.t, h.root, name, xml, guest(h.t, uuid).Process.Pid)
	return domain(h.t, []byte(xml))
}

func (h *fleetHost) decide(f *fakeFleet, d *domainxml.Domain, operation string) (verdict, record.Event) {
	h.t.Helper()
	var event record.Event
	c := stopguard.Config{Root: h.root, Now: func() time.Time { return noon }, Fleet: f.ask, Record: func(_ context.Context, e record.Event) error {
		event = e
		return nil
	}}
	caller := &policy.Caller{UID: 1000, User: "alice"}
	return decided(h.t, c, stopguard.Request{Operation: operation, Domain: d, Caller: caller}), event
}

func TestAMemberOfTheFleetMayStopWhileEnoughRunAndThatIsReserved(t *testing.T) {
	h := newFleetHost(t, fleetData)
	f := &fakeFleet{members: running("pg-2", "pg-3")}
	if got, _ := h.decide(f, h.pg, "stop"); got != (verdict{}) {
		t.Fatalf("%+v", got)
	}
	if f.views != 1 || len(f.reservations) != 1 {
		t.Fatalf("%+v", f)
	}
	r := f.reservations[0]
	if r.UUID != memberUUID || r.PID == 0 || r.Start == 0 || r.Operation != "stop" || r.Requester != "alice" || r.ID == "" || r.Forced {
		t.Errorf("%+v", r)
	}
	// As many as the group needs, and of these the one that has been there longest.
	if got := fmt.Sprint(r.Groups); got != "[{pg 9 [{pg-3 1 kvm-2  9 false}]}]" {
		t.Error(got)
	}
}

// A compromised host writes what it likes into its members.
func TestStrangeNamesOfAnotherHostAreNoFault(t *testing.T) {
	h := newFleetHost(t, strings.ReplaceAll(fleetData, "min: 1", "min: 2"))
	for _, name := range []string{"", "\xff\xfe", "\x00\x1b[31m\n", "pg-9 on kvm-9), start", strings.Repeat("x", 1<<20)} {
		f := &fakeFleet{members: []remote.FleetMember{{Name: name, UUID: name, Host: name, Since: name, Revision: 1}}}
		got, _ := h.decide(f, h.pg, "stop")
		if !strings.HasPrefix(got.Veto, "group pg needs 2 running in the fleet, and stopping this one leaves 1 (") || len(got.Veto) > 1<<10 || strings.ContainsAny(got.Veto, "\n\x1b") || !utf8.ValidString(got.Veto) {
			t.Errorf("%.50q: %.300q", name, got)
		}
		f.members = append(f.members, running("pg-2")...)
		if got, _ := h.decide(f, h.pg, "stop"); got != (verdict{}) {
			t.Errorf("%.50q: %+.300v", name, got)
		}
	}
}

func TestTheLastOneOfTheFleetIsRefused(t *testing.T) {
	h := newFleetHost(t, fleetData)
	f := &fakeFleet{members: running()}
	got, event := h.decide(f, h.pg, "stop")
	if got.Veto != fleetVeto0 || len(f.reservations) != 0 {
		t.Errorf("%+v, %+v", got, f)
	}
	input := event.Input.(map[string]any)["fleet"]
	if text := fmt.Sprint(input); !strings.Contains(text, "map[error: members:[map[host:kvm-1 name:pg-1 reserved:false") {
		t.Errorf("the record does not have what was decided by: %v", text)
	}
}

func TestAFleetThatIsNotKnownRefusesItsMembersOnly(t *testing.T) {
	h := newFleetHost(t, fleetData)
	for _, tt := range []struct {
		why, says string
		fleet     *fakeFleet
	}{
		{"no agent", "the agent does not answer (dial: no such file)", &fakeFleet{err: remote.NoAnswer{Err: errors.New("dial: no such file")}}},
		{"no etcd", "etcd at https://10.0.0.1:2379: no answer in time", &fakeFleet{err: errors.New("etcd at https://10.0.0.1:2379: no answer in time")}},
	} {
		want := "group pg needs 1 running in the fleet, and how many run is not known: " + tt.says + "; see stopguard fleet, or let it go with a ticket (rule min_running)"
		if got, _ := h.decide(tt.fleet, h.pg, "stop"); got != (verdict{Veto: want}) {
			t.Errorf("%s: %+v", tt.why, got)
		}
		tt.fleet.views = 0
		if got, _ := h.decide(tt.fleet, h.web, "stop"); got != (verdict{}) || tt.fleet.views != 0 {
			t.Errorf("%s: a domain of no group: %+v, after %d questions", tt.why, got, tt.fleet.views)
		}
		if got, _ := h.decide(tt.fleet, h.pg, "pause"); got != (verdict{}) || tt.fleet.views != 0 {
			t.Errorf("%s: an operation that the settings do not name: %+v", tt.why, got)
		}
	}
}

func TestWithoutAnAgentAMemberOfTheFleetIsRefused(t *testing.T) {
	h := newFleetHost(t, fleetData)
	got := request(t, h.root, stopguard.Request{Operation: "stop", Domain: h.pg})
	if !strings.Contains(got.Veto, "how many run is not known: the agent does not answer (no such file or directory); see stopguard fleet") {
		t.Errorf("%+v", got)
	}
}

func TestAGroupThatHasChangedIsDecidedAnew(t *testing.T) {
	h := newFleetHost(t, fleetData)
	t.Run("and one is left", func(t *testing.T) {
		f := &fakeFleet{members: running("pg-2"), conflicts: 3}
		if got, _ := h.decide(f, h.pg, "stop"); got != (verdict{}) || len(f.reservations) != 4 || f.views != 1 {
			t.Errorf("%+v %+v", got, f)
		}
	})
	t.Run("and none is left", func(t *testing.T) {
		f := &fakeFleet{members: running("pg-2"), conflicts: 1}
		f.onReserve = func() { f.members = running() }
		if got, _ := h.decide(f, h.pg, "stop"); got.Veto != fleetVeto0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("and etcd fails", func(t *testing.T) {
		f := &fakeFleet{members: running("pg-2")}
		f.onReserve = func() { f.err = errors.New("etcd is gone") }
		if got, _ := h.decide(f, h.pg, "stop"); !strings.Contains(got.Veto, "not known: etcd is gone") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("for as long as there is time", func(t *testing.T) {
		f := &fakeFleet{members: running("pg-2"), conflicts: 1 << 30}
		var asked atomic.Int32
		c := stopguard.Config{Root: h.root, Fleet: func(ctx context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
			time.Sleep(10 * time.Millisecond) // as long as etcd takes, so that there are not a million questions
			if asked.Add(1); ctx.Err() != nil {
				return remote.FleetAnswer{}, ctx.Err()
			}
			return f.ask(ctx, r)
		}}
		if got := decided(t, c, stopguard.Request{Operation: "stop", Domain: h.pg}); !strings.Contains(got.Veto, "the group changed again and again") {
			t.Errorf("%+v after %d questions", got, asked.Load())
		}
	})
}

// A stop that was not reserved in the fleet is refused, and does not count as under way.
func TestARefusedReservationLeavesNothingBehind(t *testing.T) {
	h := newFleetHost(t, "site:\n  min_running:\n    groups:\n      - {name: pg, scope: fleet, min: 1, members: [\"pg-*\"]}\n      - {name: all, min: 1, members: [\"*\"]}\n")
	f := &fakeFleet{members: running("pg-2"), conflicts: 1}
	f.onReserve = func() { f.members = running() }
	if got, _ := h.decide(f, h.pg, "stop"); got.Veto != fleetVeto0 {
		t.Fatalf("%+v", got)
	}
	if got, _ := h.decide(f, h.web, "stop"); got != (verdict{}) {
		t.Errorf("the refused stop counts: %+v", got)
	}
	f = &fakeFleet{members: running("pg-2")}
	if got, _ := h.decide(f, h.pg, "stop"); !strings.Contains(got.Veto, "group all needs 1") || len(f.reservations) != 0 {
		t.Errorf("the allowed stop of web-1 does not count: %+v", got)
	}
}

func TestOtherDecisionsDoNotWaitForTheFleet(t *testing.T) {
	h := newFleetHost(t, fleetData)
	for _, when := range []string{"while it is read", "while it is reserved"} {
		c := stopguard.Config{Root: h.root, Fleet: func(ctx context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
			if (r.Reserve == nil) == (when == "while it is read") {
				if got := decided(t, stopguard.Config{Root: h.root}, stopguard.Request{Operation: "stop", Domain: h.web}); got != (verdict{}) {
					t.Errorf("%s: %+v", when, got)
				}
			}
			return (&fakeFleet{members: running("pg-2")}).ask(ctx, r)
		}}
		if got := decided(t, c, stopguard.Request{Operation: "stop", Domain: h.pg}); got != (verdict{}) {
			t.Errorf("%s: %+v", when, got)
		}
	}
}

func TestATicketLetsAMemberOfTheFleetGoAndIsReserved(t *testing.T) {
	for _, tt := range []struct {
		why   string
		fleet *fakeFleet
	}{
		{"the last one", &fakeFleet{members: running()}},
		{"a fleet that is not known", &fakeFleet{err: errors.New("etcd is gone")}},
	} {
		h := newFleetHost(t, fleetData)
		granted, err := ticket.Store{Root: h.root}.Grant(ticket.Ticket{Domain: memberUUID, Operation: "stop", Reason: "drill", Requester: "bob", NotAfter: noon.Add(time.Hour)}, noon)
		if err != nil {
			t.Fatal(err)
		}
		got, event := h.decide(tt.fleet, h.pg, "stop")
		if got != (verdict{}) || event.Result.Ticket == nil {
			t.Errorf("%s: %+v", tt.why, got)
		}
		if len(tt.fleet.reservations) != 1 {
			t.Fatalf("%s: %+v", tt.why, tt.fleet)
		}
		if r := tt.fleet.reservations[0]; !r.Forced || r.Ticket != granted.ID || r.Requester != "alice" {
			t.Errorf("%s: %+v", tt.why, r)
		}
		if reported := strings.Contains(fmt.Sprint(event.Result.Reports), "could not be reserved"); reported != (tt.fleet.err != nil) {
			t.Errorf("%s: %q", tt.why, event.Result.Reports)
		}
	}
}

func TestNothingIsReservedWhereTheFleetRefusesNothing(t *testing.T) {
	for _, tt := range []struct{ why, more string }{
		{"a rule that is monitored", "  monitor: [min_running]\n"},
		{"a site that only monitors", "  monitor: [\"*\"]\n"},
		{"a domain of a cluster manager", "  cluster_managed: [\"pg-1\"]\n"},
	} {
		h := newFleetHost(t, fleetData+tt.more)
		for _, members := range [][]remote.FleetMember{running(), running("pg-2")} {
			f := &fakeFleet{members: members}
			if got, _ := h.decide(f, h.pg, "stop"); got != (verdict{}) || len(f.reservations) != 0 {
				t.Errorf("%s: %+v, %+v", tt.why, got, f)
			}
		}
	}
	t.Run("a host that shuts down", func(t *testing.T) {
		h := newFleetHost(t, fleetData)
		testhost.Put(t, h.root, "run/stopguard/shutting-down", "")
		f := &fakeFleet{members: running("pg-2")}
		if got, _ := h.decide(f, h.pg, "stop"); got != (verdict{}) || len(f.reservations) != 0 {
			t.Errorf("%+v, %+v", got, f)
		}
	})
	t.Run("a domain that is gone", func(t *testing.T) {
		h := newFleetHost(t, fleetData)
		testhost.Daemon(t, h.root)
		gone := domain(t, []byte(`<domain type="kvm"><name>pg-9</name><uuid>36e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>`))
		f := &fakeFleet{members: running()}
		if got, _ := h.decide(f, gone, "stop"); got != (verdict{}) || f.views != 0 || len(f.reservations) != 0 {
			t.Errorf("%+v, %+v", got, f)
		}
	})
}

// Promise 8: what only looks sees the same, and reserves nothing.
func TestInputsHaveTheFleetAndReserveNothing(t *testing.T) {
	h := newFleetHost(t, fleetData)
	h.runs("pg-2", "46e14a01-2b11-40de-a128-75e3f4a5fe12")
	config, err := hostpolicy.Load(h.root)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeFleet{members: running()}
	c := stopguard.Config{Root: h.root, Now: func() time.Time { return noon }, Fleet: f.ask}
	outcomes := map[string]policy.Outcome{}
	for in, err := range c.Inputs(engine) {
		if err != nil {
			t.Fatal(err)
		}
		d, err := engine.Decide(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		outcomes[in.Domain.Name] = d.Outcome
	}
	if outcomes["pg-1"] != policy.Veto || outcomes["pg-2"] != policy.Allow || outcomes["web-1"] != policy.Allow {
		t.Errorf("%v", outcomes)
	}
	if f.views != 1 || len(f.reservations) != 0 {
		t.Errorf("the same groups were read %d times: %+v", f.views, f)
	}
	if _, err := c.Input(engine, h.pg, hookproto.Process{}); err != nil || f.views != 2 || len(f.reservations) != 0 {
		t.Errorf("%v %+v", err, f)
	}
}
