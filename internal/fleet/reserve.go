package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/stopguard/stopguard/hookproto/remote"
)

// Reserve makes a reservation if the groups are as they were read: each member that must run on is
// unchanged, and no reservation was added. It reports false if they have changed. After an error
// the reservation may exist; it then ends with its lease.
func (f *Fleet) Reserve(ctx context.Context, r remote.Reservation) (bool, error) {
	began := time.Now()
	defer func() { observeSince(f.stats.reservations, began) }()
	isMade, err := f.reserve(ctx, r)
	switch {
	case err != nil:
		f.stats.failures.Inc()
		return false, f.failure(err)
	case !isMade:
		f.stats.conflicts.Inc()
	}
	return isMade, nil
}

func (f *Fleet) reserve(ctx context.Context, r remote.Reservation) (bool, error) {
	unchanged := comparisons(r)
	if len(unchanged) > maxOps || len(r.Groups) > maxOps {
		return false, fmt.Errorf("%d members and groups would have to be compared in one transaction, and %d can be; make min smaller, or the domain a member of fewer groups", len(unchanged), maxOps)
	}
	lease, err := f.leases.fresh(ctx)
	if err != nil {
		return false, err
	}
	isMade, err := f.transact(ctx, r, unchanged, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) { // for example after the host was suspended
		f.leases.drop(lease)
		if lease, err = f.leases.fresh(ctx); err == nil {
			isMade, err = f.transact(ctx, r, unchanged, lease)
		}
	}
	return isMade, err
}

// transact makes a reservation. A forced reservation replaces only the one that it has read,
// because etcd may execute it late, when the host has made a newer one.
func (f *Fleet) transact(ctx context.Context, r remote.Reservation, unchanged []clientv3.Cmp, lease clientv3.LeaseID) (bool, error) {
	value := encode(reservation{
		ID: r.ID, Name: r.Name, PID: r.PID, Start: r.Start,
		Operation: r.Operation, Requester: r.Requester, Ticket: r.Ticket, Since: time.Now().UTC().Format(time.RFC3339),
	})
	var puts, gets []clientv3.Op
	for _, g := range r.Groups {
		key := reservedKey(g.Name, r.UUID, f.config.Host)
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(lease)))
		gets = append(gets, clientv3.OpGet(key))
		if r.Forced {
			unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(key), "=", 0))
		}
	}
	for {
		answer, err := f.transaction(ctx, unchanged, puts, gets)
		if err != nil || answer.Succeeded {
			return err == nil, err
		}
		isMade := false
		for i, found := range answer.Responses {
			revision := int64(0)
			for _, kv := range found.GetResponseRange().Kvs {
				revision = kv.ModRevision
				isMade = string(kv.Value) == value // by an earlier attempt
			}
			if r.Forced {
				unchanged[i] = clientv3.Compare(clientv3.ModRevision(string(puts[i].KeyBytes())), "=", revision)
			}
		}
		if isMade || !r.Forced {
			return isMade, nil
		}
	}
}

// comparisons returns the conditions of a reservation that is not forced.
func comparisons(r remote.Reservation) []clientv3.Cmp {
	if r.Forced {
		return nil
	}
	var unchanged []clientv3.Cmp
	compared := map[string]bool{}
	for _, g := range r.Groups {
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(groupRoot(g.Name)).WithPrefix(), "<", g.Revision+1))
		for _, m := range g.Members {
			if key := memberKey(m.Host, m.UUID); !compared[key] {
				compared[key] = true
				unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(key), "=", m.Revision))
			}
		}
	}
	return unchanged
}

// leases grants the leases of reservations. Reservations shortly after each other share a lease.
type leases struct {
	client *clientv3.Client
	life   time.Duration

	mu      sync.Mutex // held while a lease is granted
	id      clientv3.LeaseID
	granted time.Time
}

// fresh returns a lease with at least nine tenths of its life left.
func (l *leases) fresh(ctx context.Context) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != clientv3.NoLease && time.Since(l.granted) < l.life/10 {
		return l.id, nil
	}
	began := time.Now() // the lease's life begins between request and answer
	answer, err := attempts(ctx, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return l.client.Grant(ctx, int64(l.life.Seconds()))
	})
	if err != nil {
		return clientv3.NoLease, err
	}
	l.id, l.granted = answer.ID, began
	return l.id, nil
}

// drop forgets a lease that has ended.
func (l *leases) drop(id clientv3.LeaseID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		l.id = clientv3.NoLease
	}
}
