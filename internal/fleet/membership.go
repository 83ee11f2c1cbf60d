package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxOps bounds the comparisons or changes of one transaction. etcd's own default is 128.
const maxOps = 120

// publish keeps the host's members in etcd until ctx ends.
func (f *Fleet) publish(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.session(ctx)
		if errors.Is(err, errLeaseEnded) || errors.Is(err, errOtherChange) {
			signal(f.cache.stale) // etcd may have been set up anew
		}
		if ctx.Err() == nil {
			f.health.note(partPublish, err)
			sleep(ctx, retryPace)
		}
	}
}

// errLeaseEnded is returned when a host has lost its lease, and its members with it.
var errLeaseEnded = errors.New("the host's lease ended; its members did not count meanwhile")

// session publishes the members under one lease, until that lease ends or etcd does not answer.
func (f *Fleet) session(ctx context.Context) error {
	s, err := f.join(ctx)
	if err != nil {
		return err
	}
	look, renew := time.NewTicker(lookPace), time.NewTicker(f.config.Lease()/3)
	defer look.Stop()
	defer renew.Stop()
	isRenewal := true
	for {
		if err := f.synchronize(ctx, s); err != nil {
			return err
		}
		// The lease is renewed only after the host was observed and its changes were published.
		// Otherwise members that have ended would count for as long as either fails.
		if isRenewal {
			if err := f.renew(ctx, s); err != nil {
				return err
			}
		}
		f.health.note(partPublish, nil)
		sleep(ctx, quietTime)
		isRenewal = false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		case <-f.config.Changed:
		case <-look.C:
		case <-renew.C:
			isRenewal = true
		}
	}
}

// renew renews the session's lease, if the host's last change in etcd is the session's. An etcd
// that was restored from a snapshot has an older change, and maybe members that have ended.
func (f *Fleet) renew(ctx context.Context, s *session) error {
	// The read needs a majority of etcd. Otherwise one etcd would compare with its own data, which
	// may be older.
	read := []clientv3.Op{clientv3.OpGet(changeKey(f.config.Host))}
	switch answer, err := f.transaction(ctx, f.isNext(s), read, read); {
	case err != nil:
		return err
	case !answer.Succeeded:
		return errOtherChange
	}
	_, err := attempts(ctx, func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
		return f.client.KeepAliveOnce(ctx, s.lease)
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return errLeaseEnded
	}
	return err
}

// A session has the keys that the host has in etcd under its lease.
type session struct {
	lease   clientv3.LeaseID
	self    string
	change  int64                // the revision of the host's last change; 0 before the first
	members map[string]published // by UUID
}

type published struct {
	Member
	value string // "" if it has another lease
}

// join continues with the lease that the host has, or gets a new one.
func (f *Fleet) join(ctx context.Context) (*session, error) {
	host := f.config.Host
	found, err := attempts(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return f.client.Get(ctx, hostRoot(host), clientv3.WithPrefix())
	})
	if err != nil {
		return nil, err
	}
	s := &session{members: map[string]published{}}
	isKnown := false
	for _, kv := range found.Kvs {
		switch e := parse(string(kv.Key), kv.Value, kv.ModRevision); {
		case string(kv.Key) == changeKey(host):
			s.change = kv.ModRevision
		case e.known != "":
			isKnown = true
		case e.self != nil && e.self.Machine != f.config.Machine:
			return nil, fmt.Errorf("another machine (%.64q) has joined the fleet as %s; give one of the two another host name", e.self.Machine, host)
		case e.self != nil:
			s.lease, s.self = clientv3.LeaseID(kv.Lease), string(kv.Value)
		}
	}
	if err := f.takeLease(ctx, s); err != nil {
		return nil, err
	}
	for _, kv := range found.Kvs {
		if e := parse(string(kv.Key), kv.Value, kv.ModRevision); e.member != nil {
			p := published{Member: *e.member}
			if clientv3.LeaseID(kv.Lease) == s.lease {
				p.value = string(kv.Value)
			}
			s.members[e.member.UUID] = p
		}
	}
	if !isKnown {
		_, err := attempts(ctx, func(ctx context.Context) (*clientv3.PutResponse, error) {
			return f.client.Put(ctx, knownKey(host), "{}")
		})
		if err != nil {
			return nil, err
		}
	}
	// After this change, a late change of an earlier session has no effect.
	return s, f.change(ctx, s, nil)
}

// takeLease continues with the session's lease if it still exists and has the configured length.
// Otherwise it gets a new lease and puts the host under it.
func (f *Fleet) takeLease(ctx context.Context, s *session) error {
	ttl := int64(f.config.Lease().Seconds())
	if s.lease != clientv3.NoLease {
		answer, err := attempts(ctx, func(ctx context.Context) (*clientv3.LeaseTimeToLiveResponse, error) {
			return f.client.TimeToLive(ctx, s.lease)
		})
		switch {
		case err != nil:
			return err
		case answer.TTL > 0 && answer.GrantedTTL == ttl:
			return nil
		}
	}
	old := s.lease
	granted, err := attempts(ctx, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) { return f.client.Grant(ctx, ttl) })
	if err != nil {
		return err
	}
	s.lease, s.self = granted.ID, encode(self{Machine: f.config.Machine})
	// Otherwise another machine could have joined under this name meanwhile.
	isSame := clientv3.Compare(clientv3.LeaseValue(selfKey(f.config.Host)), "=", old)
	if old == clientv3.NoLease {
		isSame = clientv3.Compare(clientv3.CreateRevision(selfKey(f.config.Host)), "=", 0)
	}
	put := clientv3.OpPut(selfKey(f.config.Host), s.self, clientv3.WithLease(s.lease))
	answer, err := f.transaction(ctx, []clientv3.Cmp{isSame}, []clientv3.Op{put}, []clientv3.Op{clientv3.OpGet(selfKey(f.config.Host))})
	if err != nil || answer.Succeeded {
		return err
	}
	for _, kv := range answer.Responses[0].GetResponseRange().Kvs {
		if clientv3.LeaseID(kv.Lease) == s.lease {
			return nil // an earlier attempt has succeeded
		}
	}
	return errors.New("the host's entry changed while it joined")
}

// synchronize publishes the differences between the host and its entries in etcd. Then it releases
// the reservations that are over.
func (f *Fleet) synchronize(ctx context.Context, s *session) error {
	own := f.cache.own() // before the observation; otherwise a domain that has started since could seem to be gone
	seen, failed := f.config.Observe(ctx)
	f.health.note(partObserve, failed)
	if failed != nil { // no member counts, and every reservation stays
		seen, own = Observation{}, nil
	} else {
		f.groups.Store(&seen.Groups)
	}
	changes := f.changes(s, seen, failed == nil)
	for part := range slices.Chunk(changes, maxOps) {
		if err := f.change(ctx, s, part); err != nil {
			return err
		}
	}
	for _, r := range own {
		if isOver(r, seen.Domains) {
			if err := f.release(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// A change puts or deletes one key. done updates the session after that.
type change struct {
	op   clientv3.Op
	done func()
}

// changes returns the differences between the published members and the observed ones.
func (f *Fleet) changes(s *session, seen Observation, withSelf bool) []change {
	var changes []change
	put := func(key, value string, done func()) {
		changes = append(changes, change{clientv3.OpPut(key, value, clientv3.WithLease(s.lease)), done})
	}
	if value := encode(self{f.config.Machine, groupsWithMembers(seen)}); withSelf && value != s.self {
		put(selfKey(f.config.Host), value, func() { s.self = value })
	}
	running := map[string]bool{}
	for _, d := range seen.Domains {
		if len(d.Groups) == 0 || d.State != "running" {
			continue
		}
		running[d.UUID] = true
		m := Member{Name: d.Name, Groups: d.Groups, PID: d.PID, Start: d.Start, Since: time.Now().UTC().Format(time.RFC3339)}
		last, ok := s.members[d.UUID]
		if ok && last.PID == m.PID && last.Start == m.Start {
			m.Since = last.Since
		}
		if value := encode(m); value != last.value {
			put(memberKey(f.config.Host, d.UUID), value, func() { s.members[d.UUID] = published{m, value} })
		}
	}
	for _, uuid := range slices.Sorted(maps.Keys(s.members)) {
		if !running[uuid] {
			changes = append(changes, change{clientv3.OpDelete(memberKey(f.config.Host, uuid)), func() { delete(s.members, uuid) }})
		}
	}
	return changes
}

// groupsWithMembers returns the groups that a domain of the host belongs to. The settings of other
// groups have no effect here. Otherwise each host would publish the groups of the whole fleet.
func groupsWithMembers(seen Observation) []GroupSettings {
	groups := []GroupSettings{}
	for _, g := range seen.Groups {
		if slices.ContainsFunc(seen.Domains, func(d Domain) bool { return slices.Contains(d.Groups, g.Name) }) {
			groups = append(groups, g)
		}
	}
	return groups
}

// errOtherChange is returned if the host's last change in etcd is not the session's. Either a
// change of an earlier session came late, or etcd was restored from a snapshot. Everything is then
// read again.
var errOtherChange = errors.New("etcd has another change of the host's members as the last one; they are compared again")

// isNext returns the conditions that the session's lease and last change are still the host's.
func (f *Fleet) isNext(s *session) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.LeaseValue(selfKey(f.config.Host)), "=", s.lease),
		clientv3.Compare(clientv3.ModRevision(changeKey(f.config.Host)), "=", s.change),
	}
}

// change applies changes if the host's entry still has the session's lease, and the host's last
// change is the session's. Otherwise an attempt that etcd executes late could publish a member that
// has ended since.
func (f *Fleet) change(ctx context.Context, s *session, changes []change) error {
	host, id := f.config.Host, rand.Text()
	ops := []clientv3.Op{clientv3.OpPut(changeKey(host), id, clientv3.WithLease(s.lease))}
	for _, c := range changes {
		ops = append(ops, c.op)
	}
	answer, err := f.transaction(ctx, f.isNext(s), ops, []clientv3.Op{clientv3.OpGet(changeKey(host)), clientv3.OpGet(selfKey(host))})
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return errLeaseEnded
	case err != nil:
		return err
	case answer.Succeeded:
		s.change = answer.Header.Revision
	default:
		last, self := answer.Responses[0].GetResponseRange().Kvs, answer.Responses[1].GetResponseRange().Kvs
		if len(self) == 0 || clientv3.LeaseID(self[0].Lease) != s.lease {
			return errLeaseEnded
		}
		if len(last) == 0 || string(last[0].Value) != id { // otherwise an earlier attempt has succeeded
			return errOtherChange
		}
		s.change = last[0].ModRevision
	}
	for _, c := range changes {
		c.done()
	}
	return nil
}

// transaction makes one transaction of etcd, which may be executed more than once.
func (f *Fleet) transaction(ctx context.Context, when []clientv3.Cmp, do, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	return attempts(ctx, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return f.client.Txn(ctx).If(when...).Then(do...).Else(otherwise...).Commit()
	})
}

// isOver reports whether the operation of a reservation has ended: the process has ended, or the
// domain was to be paused and is paused.
func isOver(r reservation, domains []Domain) bool {
	if r.PID == 0 {
		return false // its process is unknown; the lease will end
	}
	i := slices.IndexFunc(domains, func(d Domain) bool {
		return d.UUID == r.uuid || d.UUID == "" && (d.PID == r.PID || d.PID == 0) // its status cannot be read
	})
	if i < 0 {
		return true
	}
	d := domains[i]
	switch {
	case d.PID != 0 && (d.PID != r.PID || d.Start != r.Start):
		return true
	case r.Operation == "pause":
		return d.State == "paused"
	}
	return false
}

// release removes a reservation, unless it was replaced since.
func (f *Fleet) release(ctx context.Context, r reservation) error {
	key := reservedKey(r.group, r.uuid, r.host)
	isSame := clientv3.Compare(clientv3.ModRevision(key), "=", r.revision)
	_, err := f.transaction(ctx, []clientv3.Cmp{isSame}, []clientv3.Op{clientv3.OpDelete(key)}, nil)
	return err
}
