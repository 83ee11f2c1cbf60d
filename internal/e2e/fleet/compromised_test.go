//go:build e2e

package fleet

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// docs/fleet.md says what a host can do with its certificate alone.
func TestACompromisedHostCanDoWhatThePageSays(t *testing.T) {
	c := newCluster(t, "kvm-1", "kvm-2")
	one := c.join("kvm-1", "a")
	one.has(domain(1), domain(2))
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1")
	evil, root, ctx := c.client("kvm-2"), c.client("root"), context.Background()
	allowed := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("it may %s", what)
		}
	}

	_, err := evil.Get(ctx, "/stopguard/", clientv3.WithPrefix())
	allowed("it reads all members and hosts", err)
	_, err = evil.Put(ctx, "/stopguard/hosts/kvm-2/members/"+uuidOf(9), fmt.Sprintf(`{"name":"pg-9","groups":[%q],"since":"","pid":1,"start":1}`, group))
	allowed("it claims a member", err)
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1", "pg-9@kvm-2") // which names it
	if made, err := stop(one, view(t, one), domain(1)); err != nil || !made {
		t.Fatal(made, err)
	}
	_, err = evil.Delete(ctx, "/stopguard/reservations/", clientv3.WithPrefix())
	allowed("it removes reservations", err)
	_, err = evil.Put(ctx, "/stopguard/reservations/pg%20%2F%20billing/"+uuidOf(2), "{}")
	allowed("it makes reservations", err)
	sees(t, one, "pg-1@kvm-1", "pg-2@kvm-1*", "pg-9@kvm-2")

	self, err := root.Get(ctx, "/stopguard/hosts/kvm-1/self")
	if err != nil || len(self.Kvs) != 1 {
		t.Fatal(err)
	}
	lease := clientv3.LeaseID(self.Kvs[0].Lease)
	_, _ = evil.KeepAliveOnce(ctx, lease) // which etcd 3.7 refuses, and those before do not

	_, err = evil.Put(ctx, "/stopguard/hosts/kvm-1/members/"+uuidOf(1), "{}")
	refused("change a member of another host", err)
	_, err = evil.Delete(ctx, "/stopguard/hosts/kvm-1/members/"+uuidOf(1))
	refused("remove a member of another host", err)
	_, err = evil.Delete(ctx, "/stopguard/hosts/", clientv3.WithPrefix())
	refused("remove all hosts", err)
	_, err = evil.Revoke(ctx, lease)
	refused("end another host's lease", err)
	_, err = evil.Txn(ctx).Then(clientv3.OpPut("/stopguard/hosts/kvm-1/change", "x")).Commit()
	refused("change another host's last change", err)
	_, err = evil.Get(ctx, "/", clientv3.WithPrefix())
	refused("read what is not the fleet's", err)
	_, err = evil.Put(ctx, "/stopguard/hosts/kvm-22/self", "{}")
	refused("write as a host whose name begins as its own", err)
	_, err = evil.Put(ctx, "/other", "x")
	refused("write what is not the fleet's", err)
	_, err = evil.UserAdd(ctx, "x", "x")
	refused("add a user", err)
	_, err = evil.UserGrantRole(ctx, "host-kvm-2", "root")
	refused("give itself a role", err)
	_, err = evil.AuthDisable(ctx)
	refused("switch authentication off", err)
	_, err = evil.MemberRemove(ctx, 1)
	refused("remove an etcd", err)
	reader, err := evil.Snapshot(ctx)
	if err == nil {
		_, err = reader.Read(make([]byte, 1))
	}
	refused("take a snapshot", err)

	t.Run("until its user is deleted", func(t *testing.T) {
		if _, err := root.UserDelete(ctx, "host-kvm-2"); err != nil {
			t.Fatal(err)
		}
		_, err := evil.Put(ctx, "/stopguard/hosts/kvm-2/members/"+uuidOf(8), "{}")
		refused("write with the connection that it has", err)
		_, err = c.client("kvm-2").Get(ctx, "/stopguard/", clientv3.WithPrefix())
		refused("read with another connection", err)
	})
}
