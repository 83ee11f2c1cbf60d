package fleet

import (
	"slices"
	"testing"

	"github.com/stopguard/stopguard/hookproto/remote"
)

func TestAKeyIsParsedAsItWasMade(t *testing.T) {
	for _, name := range []string{"kvm-07.example.com", "pg / billing", "%2F", "../x", "ж"} {
		if e := parse(knownKey(name), []byte("{}"), 1); e.known != name {
			t.Errorf("%q: %+v", name, e)
		}
		if e := parse(selfKey(name), []byte(`{"machine":"m"}`), 1); e.self == nil || e.host != name {
			t.Errorf("%q: %+v", name, e)
		}
		if e := parse(memberKey(name, "u"), []byte(`{"name":"n"}`), 7); e.member == nil || e.member.Host != name || e.member.UUID != "u" || e.member.revision != 7 {
			t.Errorf("%q: %+v", name, e)
		}
		if e := parse(reservedKey(name, "u", name), []byte(`{"id":"1"}`), 7); e.held == nil || e.held.group != name || e.held.uuid != "u" || e.held.host != name || e.held.revision != 7 {
			t.Errorf("%q: %+v", name, e)
		}
	}
}

// Values of a compromised host, or of one with a mistake, must refuse rather than allow.
func TestAValueThatCannotBeReadRefusesMore(t *testing.T) {
	for _, value := range []string{"", "null", "[]", `{"name":7}`, `{"groups":"pg"}`, "\x00"} {
		member := parse(memberKey("kvm-1", "u"), []byte(value), 1)
		held := parse(reservedKey("pg", "u", "kvm-1"), []byte(value), 1)
		other := parse(memberKey("kvm-2", "u"), []byte(`{"name":"n","groups":["pg"]}`), 1)
		g := groupsOf([]string{"pg"}, []entry{member, held, other}, 1)[0]
		if len(g.Members) != 1 || g.Members[0].Host != "kvm-2" || !g.Members[0].Reserved {
			t.Errorf("%q: %+v", value, g)
		}
	}
}

func TestAReservationIsOverWhenItsDomainHasEnded(t *testing.T) {
	held := func(operation string) reservation {
		return reservation{PID: 7, Start: 70, Operation: operation, uuid: "u"}
	}
	for _, tt := range []struct {
		why     string
		r       reservation
		domains []Domain
		over    bool
	}{
		{"it runs on", held("stop"), []Domain{{UUID: "u", PID: 7, Start: 70, State: "running"}}, false},
		{"its guest has shut down, and its process is there", held("stop"), []Domain{{UUID: "u", PID: 7, Start: 70, State: "shutdown"}}, false},
		{"it is gone", held("stop"), []Domain{{UUID: "v", PID: 7, Start: 70}}, true},
		{"it runs anew", held("stop"), []Domain{{UUID: "u", PID: 8, Start: 80, State: "running"}}, true},
		{"it runs anew with the same PID", held("stop"), []Domain{{UUID: "u", PID: 7, Start: 80, State: "running"}}, true},
		{"its process cannot be told", held("stop"), []Domain{{UUID: "u", State: "running"}}, false},
		{"its status cannot be read", held("stop"), []Domain{{PID: 7, Start: 70}}, false},
		{"neither its status nor its pid file can be read", held("stop"), []Domain{{}}, false},
		{"the status of another one cannot be read", held("stop"), []Domain{{PID: 8, Start: 80}}, true},
		{"the process was not known when it was reserved", reservation{Operation: "stop", uuid: "u"}, nil, false},
		{"it is paused", held("pause"), []Domain{{UUID: "u", PID: 7, Start: 70, State: "paused"}}, true},
		{"it is paused before its stop", held("stop"), []Domain{{UUID: "u", PID: 7, Start: 70, State: "paused"}}, false},
		{"it is not paused yet", held("pause"), []Domain{{UUID: "u", PID: 7, Start: 70, State: "running"}}, false},
	} {
		if isOver(tt.r, tt.domains) != tt.over {
			t.Error(tt.why)
		}
	}
}

func TestAReservationComparesEachMemberOnce(t *testing.T) {
	member := func(uuid string) remote.FleetMember {
		return remote.FleetMember{UUID: uuid, Host: "kvm-1", Revision: 3}
	}
	r := remote.Reservation{Groups: []remote.FleetGroup{
		{Name: "a", Revision: 9, Members: []remote.FleetMember{member("u"), member("v")}},
		{Name: "b", Revision: 9, Members: []remote.FleetMember{member("v")}},
	}}
	var keys []string
	for _, c := range comparisons(r) {
		keys = append(keys, string(c.KeyBytes()))
	}
	slices.Sort(keys)
	want := []string{memberKey("kvm-1", "u"), memberKey("kvm-1", "v"), groupRoot("a"), groupRoot("b")}
	if !slices.Equal(keys, want) {
		t.Errorf("%q", keys)
	}
	if r.Forced = true; comparisons(r) != nil {
		t.Error("one that a ticket forces is compared")
	}
}
