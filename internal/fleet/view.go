package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/stopguard/stopguard/hookproto/remote"
)

// View reads groups in one round trip. It may miss a member that has just started.
func (f *Fleet) View(ctx context.Context, groups []string) ([]remote.FleetGroup, error) {
	began := time.Now()
	defer func() { observeSince(f.stats.views, began) }()
	view, err := f.view(ctx, groups)
	if err != nil {
		f.stats.failures.Inc()
		return nil, f.failure(err)
	}
	return view, nil
}

func (f *Fleet) view(ctx context.Context, groups []string) ([]remote.FleetGroup, error) {
	keys, isReady := f.cache.memberKeys(groups)
	if !isReady {
		return nil, errors.New("the fleet has not been read yet")
	}
	var ops []clientv3.Op
	for _, group := range groups {
		ops = append(ops, clientv3.OpGet(groupRoot(group), clientv3.WithPrefix()))
	}
	for _, key := range keys {
		ops = append(ops, clientv3.OpGet(key))
	}
	// Each part has its own revision. A reservation compares with the lowest, so that it fails too
	// often rather than too rarely.
	parts := slices.Collect(slices.Chunk(ops, maxOps))
	answers := make([]*clientv3.TxnResponse, len(parts))
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for i, part := range parts {
		all.Go(func() {
			answers[i], errs[i] = f.transaction(ctx, nil, part, nil)
		})
	}
	all.Wait()
	if err := cmp.Or(errs...); err != nil {
		return nil, err
	}
	var found []entry
	revision := answers[0].Header.Revision
	for _, answer := range answers {
		revision = min(revision, answer.Header.Revision)
		for _, part := range answer.Responses {
			for _, kv := range part.GetResponseRange().Kvs {
				found = append(found, parse(string(kv.Key), kv.Value, kv.ModRevision))
			}
		}
	}
	return groupsOf(groups, found, revision), nil
}

// A reservable is a domain in one of its groups. Several hosts may have a reservation for it.
type reservable struct{ group, uuid string }

// groupsOf returns the groups with their members and reservations.
func groupsOf(names []string, found []entry, revision int64) []remote.FleetGroup {
	reserved := map[reservable]bool{}
	var members []Member
	for _, e := range found {
		switch {
		case e.held != nil:
			reserved[reservable{e.held.group, e.held.uuid}] = true
		case e.member != nil:
			members = append(members, *e.member)
		}
	}
	slices.SortFunc(members, compareMembers)
	groups := make([]remote.FleetGroup, 0, len(names))
	for _, name := range names {
		g := remote.FleetGroup{Name: name, Revision: revision, Members: []remote.FleetMember{}}
		for _, m := range members {
			isKnown := slices.ContainsFunc(g.Members, func(other remote.FleetMember) bool { return other.UUID == m.UUID })
			if isKnown || !slices.Contains(m.Groups, name) { // a domain that moves is on two hosts for a moment
				continue
			}
			g.Members = append(g.Members, remote.FleetMember{
				Name: m.Name, UUID: m.UUID, Host: m.Host, Since: m.Since, Revision: m.revision, Reserved: reserved[reservable{name, m.UUID}],
			})
		}
		groups = append(groups, g)
	}
	return groups
}
