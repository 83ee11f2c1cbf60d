//go:build e2e

package fleet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/hookproto"
)

const pgData = "site:\n  min_running:\n    groups:\n      - {name: pg, scope: fleet, min: 1, members: [\"pg-*\"]}\n"

// veto waits until a stop is refused with a reason that holds text.
func veto(t testing.TB, h *host, g *guest, text string) {
	t.Helper()
	eventually(t, "a veto with "+text, func() error {
		err := g.askStop(h)
		var v *hookproto.Veto
		if !errors.As(err, &v) || !strings.Contains(v.Error(), text) {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
}

func TestAgentsOfAFleetRefuseToStopTheLastMember(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.newHost("kvm-1", pgData), c.newHost("kvm-2", pgData)
	pg1, pg2 := newGuest("pg-1", uuidOf(1)), newGuest("pg-2", uuidOf(2))
	for _, err := range []error{pg1.start(one), pg2.start(two)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer pg1.end(one)
	eventually(t, "the stop is allowed", func() error { return pg1.askStop(one) })
	veto(t, two, pg2, "group pg needs 1 running in the fleet, and stopping this one leaves 0; start another first (rule min_running)")
	s, err := one.status()
	if err != nil || len(s.Groups) != 1 || len(s.Groups[0].Reservations) != 1 || s.Groups[0].Reservations[0].Host != "kvm-1" || len(s.Problems) != 0 {
		t.Errorf("%+v %v", s, err)
	}
	defer pg2.end(two)
	eventually(t, "the reservation's lease ends", func() error { return pg2.askStop(two) })
	veto(t, one, pg1, "leaves 0")

	t.Run("without etcd", func(t *testing.T) {
		for _, n := range c.nodes {
			n.kill()
		}
		veto(t, one, pg1, "how many run is not known: etcd at "+c.nodes[0].client)
		veto(t, two, pg2, "how many run is not known: etcd at "+c.nodes[0].client)
		web := newGuest("web-1", uuidOf(9))
		if err := web.start(one); err != nil {
			t.Fatal(err)
		}
		defer web.end(one)
		if err := web.askStop(one); err != nil {
			t.Errorf("a domain of no group: %v", err)
		}
		for _, n := range c.nodes {
			n.start()
		}
	})
	t.Run("another agent", func(t *testing.T) {
		one.kill()
		if err := pg1.askStop(one); err == nil {
			t.Error("a stop is allowed without an agent")
		}
		one.start()
		eventually(t, "the stop is allowed", func() error { return pg1.askStop(one) })
	})
}
