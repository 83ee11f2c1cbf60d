package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/fleet"
)

const (
	hostMembers  = 10 // of each host
	groupMembers = 5  // of each group
	groupMin     = 2
	agents       = 4 // hosts that run the agent's own code
	leaseTime    = 30
)

// A result holds the costs of a fleet of one size.
type result struct {
	hosts          int
	keys, bytes    int64
	joined         time.Duration // until an agent has read the fleet
	agent, etcd    int64         // memory in bytes
	renewals       float64       // a second
	clients, peers float64       // bytes a second, between hosts and etcds, and between etcds
	idle, busy     float64       // processors that all etcds together take
	quiet, loaded  []time.Duration
	failed         int
}

var resultLines = []struct {
	name  string
	value func(result) string
}{
	{"hosts", func(r result) string { return fmt.Sprint(r.hosts) }},
	{"members", func(r result) string { return fmt.Sprint(r.hosts * hostMembers) }},
	{"groups", func(r result) string { return fmt.Sprint(r.hosts * hostMembers / groupMembers) }},
	{"keys", func(r result) string { return fmt.Sprint(r.keys) }},
	{"etcd's data, MiB", func(r result) string { return mib(r.bytes) }},
	{"memory of one etcd, MiB", func(r result) string { return mib(r.etcd) }},
	{"memory of an agent for the fleet, MiB", func(r result) string { return mib(r.agent) }},
	{"an agent reads the fleet in, ms", func(r result) string { return ms(r.joined) }},
	{"leases renewed a second", func(r result) string { return fmt.Sprintf("%.0f", r.renewals) }},
	{"between hosts and etcd at rest, KiB/s", func(r result) string { return fmt.Sprintf("%.0f", r.clients/1024) }},
	{"between the etcds at rest, KiB/s", func(r result) string { return fmt.Sprintf("%.0f", r.peers/1024) }},
	{"processors of three etcds at rest", func(r result) string { return fmt.Sprintf("%.2f", r.idle) }},
	{"the same under load", func(r result) string { return fmt.Sprintf("%.2f", r.busy) }},
	{"read and reserve, p50 / p99 at rest, ms", func(r result) string { return ms(at(r.quiet, 50)) + " / " + ms(at(r.quiet, 99)) }},
	{"the same under load", func(r result) string { return ms(at(r.loaded, 50)) + " / " + ms(at(r.loaded, 99)) }},
	{"decisions that etcd did not answer in time", func(r result) string { return fmt.Sprint(r.failed) }},
}

func mib(n int64) string        { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

func at(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

// member n of the fleet is of host n%hosts and of group n/groupMembers.
func domain(n int) fleet.Domain {
	return fleet.Domain{
		Name: fmt.Sprintf("db-%d-%d", n/groupMembers, n%groupMembers), UUID: uuid(n), PID: 1000 + n, Start: 7, State: "running",
		Groups: []string{groupName(n / groupMembers)},
	}
}

func uuid(n int) string      { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
func groupName(n int) string { return fmt.Sprintf("db-%d", n) }
func hostName(n int) string  { return fmt.Sprintf("kvm-%04d", n) }

// A simulated host sends the requests of an agent, and ignores the content of the answers.
type simulated struct {
	client *clientv3.Client
	name   string
	lease  clientv3.LeaseID
	own    []int // its members
	events atomic.Int64
}

func (s *simulated) key(rest string) string { return "/stopguard/hosts/" + s.name + "/" + rest }

func (s *simulated) member(n int, template string) clientv3.Op {
	// The value that an agent has written, for another domain.
	value := strings.NewReplacer("db-0-0", domain(n).Name, `"db-0"`, `"`+groupName(n/groupMembers)+`"`, ":1000,", fmt.Sprintf(":%d,", 1000+n)).Replace(template)
	return clientv3.OpPut(s.key("members/"+uuid(n)), value, clientv3.WithLease(s.lease))
}

// join publishes the host. template is a member's value.
func (s *simulated) join(ctx context.Context, template, self string) error {
	granted, err := s.client.Grant(ctx, leaseTime)
	if err != nil {
		return err
	}
	s.lease = granted.ID
	ops := []clientv3.Op{
		clientv3.OpPut(s.key("known"), "{}"), clientv3.OpPut(s.key("self"), self, clientv3.WithLease(s.lease)),
		clientv3.OpPut(s.key("change"), fmt.Sprintf("%026d", rand.Int64()), clientv3.WithLease(s.lease)),
	}
	for _, n := range s.own {
		ops = append(ops, s.member(n, template))
	}
	_, err = s.client.Txn(ctx).Then(ops...).Commit()
	return err
}

// renew renews the lease until ctx ends.
func (s *simulated) renew(ctx context.Context) {
	const pace = leaseTime * time.Second / 3
	time.Sleep(time.Duration(rand.Int64N(int64(pace)))) // hosts do not renew at once
	for ctx.Err() == nil {
		_, _ = s.client.Get(ctx, s.key("change")) // as an agent does before
		_, _ = s.client.KeepAliveOnce(ctx, s.lease)
		select {
		case <-ctx.Done():
		case <-time.After(pace):
		}
	}
}

// watch hears of all changes after a revision, until ctx ends.
func (s *simulated) watch(ctx context.Context, revision int64) {
	for response := range s.client.Watch(ctx, "/stopguard/", clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithFragment()) {
		s.events.Add(int64(len(response.Events)))
	}
}

// change ends and starts one of the host's members.
func (s *simulated) change(ctx context.Context, template string) error {
	n := s.own[rand.IntN(len(s.own))]
	for _, op := range []clientv3.Op{clientv3.OpDelete(s.key("members/" + uuid(n))), s.member(n, template)} {
		id := clientv3.OpPut(s.key("change"), fmt.Sprintf("%026d", rand.Int64()), clientv3.WithLease(s.lease))
		if _, err := s.client.Txn(ctx).Then(id, op).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// measure makes a fleet and measures it.
func measure(ctx context.Context, hosts, rate, n int, length time.Duration) (result, error) {
	r := result{hosts: hosts}
	e, err := startEtcd()
	if err != nil {
		return r, err
	}
	defer e.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var settings []fleet.GroupSettings
	for g := range hosts * hostMembers / groupMembers {
		settings = append(settings, fleet.GroupSettings{Name: groupName(g), Min: groupMin, Hash: strings.Repeat("0", 64)})
	}
	own := func(host int) []int {
		var own []int
		for i := range hostMembers {
			own = append(own, host+i*hosts)
		}
		return own
	}
	open := func(host int) (*fleet.Fleet, error) {
		var domains []fleet.Domain
		for _, n := range own(host) {
			domains = append(domains, domain(n))
		}
		return fleet.Open(fleet.Config{
			Settings: e.settings(hostName(host)), Machine: hostName(host), Log: func(string, ...any) {},
			Observe: func(context.Context) (fleet.Observation, error) {
				return fleet.Observation{Groups: settings, Domains: domains}, nil
			},
		})
	}

	// The first agent's values are what all others write.
	first, err := open(0)
	if err != nil {
		return r, err
	}
	defer first.Close()
	client, err := e.client()
	if err != nil {
		return r, err
	}
	defer client.Close()
	template, err := wait(ctx, client, "/stopguard/hosts/"+hostName(0)+"/members/"+uuid(0))
	if err != nil {
		return r, err
	}
	self, err := wait(ctx, client, "/stopguard/hosts/"+hostName(0)+"/self")
	if err != nil {
		return r, err
	}
	others := make([]*simulated, hosts-agents)
	errs := make([]error, len(others))
	var all sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range others {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s := &simulated{name: hostName(agents + i), own: own(agents + i)}
			if s.client, errs[i] = e.client(); errs[i] == nil {
				errs[i] = s.join(ctx, template, self)
			}
			if errs[i] == nil {
				go s.renew(ctx)
			}
			others[i] = s
		})
	}
	all.Wait()
	defer func() {
		for _, s := range others {
			if s.client != nil {
				_ = s.client.Close()
			}
		}
	}()
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	count, err := client.Get(ctx, "/stopguard/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return r, err
	}
	for _, s := range others {
		go s.watch(ctx, count.Header.Revision)
	}

	// The other agents join a fleet that is there, and one of them is weighed.
	fleets := []*fleet.Fleet{first}
	for i := 1; i < agents; i++ {
		before := heap()
		began := time.Now()
		f, err := open(i)
		if err != nil {
			return r, err
		}
		defer f.Close()
		for f.Answer(ctx, remote.FleetRequest{Groups: []string{groupName(0)}, WithinMS: 5000}).Error != "" {
			time.Sleep(time.Millisecond)
		}
		r.joined, r.agent = time.Since(began), heap()-before
		fleets = append(fleets, f)
	}
	time.Sleep(leaseTime * time.Second / 3) // until all have begun to renew
	if count, err = client.Get(ctx, "/stopguard/", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil {
		return r, err
	}
	r.keys = count.Count
	status, err := client.Status(ctx, e.endpoints[0])
	if err != nil {
		return r, err
	}
	r.bytes = status.DbSizeInUse

	// At rest.
	renewals, peers, lo, err := counters(e)
	if err != nil {
		return r, err
	}
	began, spent := time.Now(), e.processor()
	time.Sleep(length)
	took := time.Since(began).Seconds()
	r.idle = (e.processor() - spent).Seconds() / took
	renewals2, peers2, lo2, err := counters(e)
	if err != nil {
		return r, err
	}
	r.renewals, r.peers = (renewals2-renewals)/took, (peers2-peers)/took
	r.clients = (lo2-lo)/took - r.peers
	for i := range n {
		took, err := decide(ctx, fleets[i%agents], own(i % agents)[i/agents%hostMembers])
		if err != nil {
			r.failed++
			continue
		}
		r.quiet = append(r.quiet, took)
	}

	// Under load: members come and go elsewhere, and each agent decides ten times a second.
	load, end := context.WithTimeout(ctx, length)
	defer end()
	began, spent = time.Now(), e.processor()
	all.Go(func() {
		for i := 0; load.Err() == nil; i++ {
			all.Go(func() { _ = others[i%len(others)].change(ctx, template) })
			time.Sleep(2 * time.Second / time.Duration(rate)) // an end and a start each
		}
	})
	var mu sync.Mutex
	for i, f := range fleets {
		for j := range hostMembers {
			all.Go(func() {
				for load.Err() == nil {
					took, err := decide(ctx, f, own(i)[j])
					mu.Lock()
					if err != nil {
						r.failed++
					} else {
						r.loaded = append(r.loaded, took)
					}
					mu.Unlock()
					time.Sleep(time.Second)
				}
			})
		}
	}
	all.Wait()
	r.busy = (e.processor() - spent).Seconds() / time.Since(began).Seconds()
	r.etcd = e.resident()
	return r, nil
}

// counters returns how often leases were renewed, and the bytes between etcds and in all.
func counters(e *etcd) (renewals, peers, all float64, err error) {
	lo, err := carried()
	if err == nil {
		renewals, err = e.counter("etcd_debugging_lease_renewed_total")
	}
	if err == nil {
		peers, err = e.counter("etcd_network_peer_sent_bytes_total")
	}
	return renewals, peers, float64(lo), err
}

var serial atomic.Int64

// decide sends an agent the requests of a decision about its member n: the members that run, and a
// reservation.
func decide(ctx context.Context, f *fleet.Fleet, n int) (time.Duration, error) {
	began := time.Now()
	d := domain(n)
	view := f.Answer(ctx, remote.FleetRequest{Groups: d.Groups, Deciding: true, WithinMS: 950})
	for {
		if view.Error != "" {
			return 0, errors.New(view.Error)
		}
		g := view.Groups[0]
		g.Members = slices.DeleteFunc(g.Members, func(m remote.FleetMember) bool { return m.Reserved || m.UUID == d.UUID })
		if len(g.Members) < groupMin {
			return time.Since(began), nil // refused
		}
		g.Members = g.Members[:groupMin]
		view = f.Answer(ctx, remote.FleetRequest{Groups: d.Groups, WithinMS: 950, Reserve: &remote.Reservation{
			ID: fmt.Sprint(serial.Add(1)), Name: d.Name, UUID: d.UUID, PID: d.PID, Start: d.Start, Operation: "stop", Groups: []remote.FleetGroup{g},
		}})
		if view.Reserved {
			return time.Since(began), nil
		}
	}
}

// wait waits for a key's value.
func wait(ctx context.Context, client *clientv3.Client, key string) (string, error) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		answer, err := client.Get(ctx, key)
		if err != nil {
			return "", err
		}
		if len(answer.Kvs) > 0 && (!strings.HasSuffix(key, "/self") || strings.Contains(string(answer.Kvs[0].Value), groupName(0))) {
			return string(answer.Kvs[0].Value), nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("%s is not there", key)
		}
	}
}

// heap returns the bytes that are in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
