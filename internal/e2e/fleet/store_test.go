//go:build e2e

package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/stopguard/stopguard/internal/fleet"
)

// data is the folder of an etcd's data.
func (n *node) data() string { return filepath.Join(filepath.Dir(n.log.Name()), n.name) }

// stopped does something while all of etcd is stopped.
func (c *cluster) stopped(do func()) {
	c.t.Helper()
	for _, n := range c.nodes {
		n.kill()
	}
	do()
	for _, n := range c.nodes {
		n.start()
	}
	c.waitForQuorum()
}

func (c *cluster) copyData(from, to string) {
	c.t.Helper()
	for _, n := range c.nodes {
		_ = os.RemoveAll(n.data() + to)
		if output, err := exec.Command("cp", "-a", n.data()+from, n.data()+to).CombinedOutput(); err != nil {
			c.t.Fatalf("%v: %s", err, output)
		}
	}
}

// An etcd that has lost its last changes has members that have ended, and revisions that agents
// have seen before.
func TestAnEtcdThatHasLostChangesIsReadAnew(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2", "kvm-3")
	long := func(c *fleet.Config) { c.LeaseSeconds, c.ReservationSeconds = 120, 300 } // so that no lease ends meanwhile
	one, two := c.join("kvm-1", "a", long), c.join("kvm-2", "b", long)
	one.has(domain(1), domain(2))
	two.has(domain(3), domain(4))
	sees(t, two, "pg-1@kvm-1", "pg-2@kvm-1", "pg-3@kvm-2", "pg-4@kvm-2")
	c.stopped(func() { c.copyData("", ".old") })
	one.has(domain(2))
	sees(t, two, "pg-2@kvm-1", "pg-3@kvm-2", "pg-4@kvm-2")
	t.Run("restored", func(t *testing.T) {
		c.stopped(func() { c.copyData(".old", "") })
		sees(t, c.join("kvm-3", "c"), "pg-2@kvm-1", "pg-3@kvm-2", "pg-4@kvm-2")
	})
	t.Run("set up anew", func(t *testing.T) {
		root := c.client("root")
		for range 200 { // so that the new one does not reach this revision
			if _, err := root.Put(context.Background(), "/stopguard/other", ""); err != nil {
				t.Fatal(err)
			}
		}
		c.stopped(func() {
			for _, n := range c.nodes {
				if err := os.RemoveAll(n.data()); err != nil {
					t.Fatal(err)
				}
			}
		})
		c.setup("roles", c.pki(), strings.Join(c.endpoints(), ","), "kvm-1", "kvm-2")
		one.has(domain(2), domain(5))
		sees(t, two, "pg-2@kvm-1", "pg-3@kvm-2", "pg-4@kvm-2", "pg-5@kvm-1")
		if made, err := stop(two, view(t, two), domain(3)); err != nil || !made {
			t.Fatal(made, err)
		}
		two.has(domain(4))
		sees(t, one, "pg-2@kvm-1", "pg-4@kvm-2", "pg-5@kvm-1")
		two.has(domain(3), domain(4)) // its reservation is over
		sees(t, one, "pg-2@kvm-1", "pg-3@kvm-2", "pg-4@kvm-2", "pg-5@kvm-1")
	})
}

func TestAnEtcdWithoutSpaceRefuses(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.join("kvm-1", "a"), c.join("kvm-2", "b")
	c.stopped(func() {
		for _, n := range c.nodes {
			n.args = append(n.args, "--quota-backend-bytes", "2000000")
		}
	})
	one.has(domain(1))
	two.has(domain(2), domain(3), domain(4))
	sees(t, two, "pg-1@kvm-1", "pg-2@kvm-2", "pg-3@kvm-2", "pg-4@kvm-2")
	root, ctx := c.client("root"), context.Background()
	var last *clientv3.PutResponse
	for i := 0; ; i++ {
		put, err := root.Put(ctx, "/other", strings.Repeat("x", 100_000))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
		if last = put; err != nil || i == 100 {
			t.Fatal(i, err)
		}
	}
	eventually(t, "it refuses to reserve", func() error {
		made, err := stop(two, view(t, two), domain(2))
		if err == nil || !strings.Contains(err.Error(), "database space exceeded") {
			return fmt.Errorf("%v %v", made, err)
		}
		return nil
	})
	one.has() // which cannot be published
	sees(t, two, "pg-2@kvm-2", "pg-3@kvm-2", "pg-4@kvm-2")
	h := c.prepareHost(agentProgram, "kvm-1", pgData)
	h.configure(c.settings("kvm-1"))
	h.says("fleet-etcd", "failure", c.nodes[0].client+" answers that it is not healthy", "if etcdctl alarm list shows NOSPACE")

	t.Run("until it has space", func(t *testing.T) {
		if _, err := root.Compact(ctx, last.Header.Revision); err != nil {
			t.Fatal(err)
		}
		for _, n := range c.nodes {
			if _, err := root.Defragment(ctx, n.client); err != nil {
				t.Fatal(err)
			}
		}
		alarms, err := root.AlarmList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, alarm := range alarms.Alarms {
			if _, err := root.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
				t.Fatal(err)
			}
		}
		one.has(domain(5))
		sees(t, two, "pg-2@kvm-2", "pg-3@kvm-2", "pg-4@kvm-2", "pg-5@kvm-1")
		eventually(t, "it is reserved", func() error {
			if made, err := stop(two, view(t, two), domain(2)); err != nil || !made {
				return fmt.Errorf("%v %v", made, err)
			}
			return nil
		})
	})
}

// An agent that ends again and again before it has looked at the host knows nothing of its domains.
func TestMembersOfAnAgentThatNeverLooksDoNotCount(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.join("kvm-1", "a"), c.join("kvm-2", "b")
	one.has(domain(1))
	two.has(domain(2))
	sees(t, two, "pg-1@kvm-1", "pg-2@kvm-2")
	_ = one.Close()
	for range 8 {
		hangs := c.join("kvm-1", "a", func(c *fleet.Config) {
			c.Observe = func(ctx context.Context) (fleet.Observation, error) {
				<-ctx.Done()
				return fleet.Observation{}, ctx.Err()
			}
		})
		time.Sleep(1500 * time.Millisecond) // less than a lease
		_ = hangs.Close()
	}
	if g := view(t, two); len(g.Members) != 1 {
		t.Errorf("%+v", g.Members)
	}
}
