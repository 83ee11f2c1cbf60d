//go:build e2e

package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/stopguard/stopguard/hookproto"
)

// lifeVariable is how long the test of a fleet's life takes, such as 10m; a minute and a half
// without it.
const lifeVariable = "STOPGUARD_E2E_FLEET_LIFE"

const (
	lifeHosts   = 8
	lifeGroups  = 200
	lifeMembers = 4 // of each group
	lifeMin     = 2
	lifeClients = 64
)

// A citizen is a guest of the fleet's life: a member of one group, on one host.
type citizen struct {
	*guest
	group, number int
	host          *host

	mu      sync.Mutex // held by the client that does something with it
	running bool
}

// TestNoAllowedStopTakesAGroupBelowItsMinimum lets clients stop and start members at random while
// etcd's members and agents are killed and stopped. What etcd was told, and what the clients were
// told, are checked afterwards.
func TestNoAllowedStopTakesAGroupBelowItsMinimum(t *testing.T) {
	life := 90 * time.Second
	if text := os.Getenv(lifeVariable); text != "" {
		var err error
		if life, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for i := range lifeHosts {
		names = append(names, fmt.Sprintf("kvm-%d", i+1))
	}
	c := newCluster(t, names...)
	var data strings.Builder
	data.WriteString("site:\n  min_running:\n    groups:\n")
	for g := range lifeGroups {
		fmt.Fprintf(&data, "      - {name: %s, scope: fleet, min: %d, members: [\"db-%d-*\"]}\n", groupName(g), lifeMin, g)
	}
	var hosts []*host
	for _, name := range names {
		hosts = append(hosts, c.newHost(name, data.String()))
	}
	h := newHistory(t, c)
	var citizens []*citizen
	for g := range lifeGroups {
		for n := range lifeMembers {
			guest := newGuest(fmt.Sprintf("db-%d-%d", g, n), uuidOf(g*lifeMembers+n))
			one := &citizen{guest: guest, group: g, number: n, host: hosts[(g+3*n)%lifeHosts]}
			citizens = append(citizens, one)
			h.start(one)
		}
	}
	t.Cleanup(func() {
		for _, one := range citizens {
			if one.running {
				one.end(one.host)
			}
		}
	})
	eventually(t, "all members are published", func() error {
		if n := h.published(); n != len(citizens) {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})

	ctx, cancel := context.WithTimeout(context.Background(), life)
	defer cancel()
	var all sync.WaitGroup
	for range lifeClients {
		all.Go(func() {
			for ctx.Err() == nil {
				if one := citizens[rand.IntN(len(citizens))]; one.mu.TryLock() {
					h.act(one)
					one.mu.Unlock()
				}
				pause(ctx, 50, 500)
			}
		})
	}
	all.Go(func() { troubleEtcd(ctx, t, c) })
	all.Go(func() { troubleAgents(ctx, hosts) })
	all.Wait()
	for _, n := range c.nodes {
		if n.cmd == nil {
			n.start(t)
		}
	}
	h.finish()
	h.check()
}

func groupName(g int) string { return fmt.Sprintf("db-%d", g) }

// pause waits for a random time, in milliseconds.
func pause(ctx context.Context, least, most int) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(least+rand.IntN(most-least)) * time.Millisecond):
	}
}

// troubleEtcd kills and stops members of etcd, mostly one at a time.
func troubleEtcd(ctx context.Context, t *testing.T, c *cluster) {
	for ctx.Err() == nil {
		pause(ctx, 2000, 6000)
		victims := c.nodes[rand.IntN(3):][:1]
		if rand.IntN(4) == 0 { // no quorum
			victims = c.nodes[:2]
		}
		if rand.IntN(2) == 0 {
			for _, n := range victims {
				n.kill()
			}
			pause(ctx, 500, 4000)
			for _, n := range victims {
				n.start(t)
			}
		} else {
			for _, n := range victims {
				n.signal(syscall.SIGSTOP)
			}
			pause(ctx, 500, 4000)
			for _, n := range victims {
				n.signal(syscall.SIGCONT)
			}
		}
	}
}

// troubleAgents kills and stops agents, some of them for longer than a lease.
func troubleAgents(ctx context.Context, hosts []*host) {
	for ctx.Err() == nil {
		pause(ctx, 500, 3000)
		h := hosts[rand.IntN(len(hosts))]
		if rand.IntN(2) == 0 {
			h.kill()
			pause(ctx, 0+1, 8000)
			h.start()
		} else {
			h.mu.Lock()
			_ = h.agent.Process.Signal(syscall.SIGSTOP)
			pause(ctx, 500, 8000)
			_ = h.agent.Process.Signal(syscall.SIGCONT)
			h.mu.Unlock()
		}
	}
}

// A history is what clients did, and what etcd was told, in etcd's own order.
type history struct {
	t      *testing.T
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	ops     []operation
	refused int
	faults  int

	// From here on, what the watch saw.
	members      map[string]map[string]bool // hosts that publish a member, by UUID
	reservations map[string]bool            // keys
	shown        map[run]time.Duration      // when a run of a domain was first published
	gone         map[string][]time.Duration // when a domain was published by no host any more, by UUID
	reserved     int
	broken       []string
	revision     int64
}

// A run is one run of a domain.
type run struct {
	uuid string
	pid  int
}

// An operation is something that happened to a member, between two times.
type operation struct {
	what      string // start, stop or crash
	citizen   *citizen
	pid       int
	call, end time.Duration // end is 0 if only the watch tells
}

func newHistory(t *testing.T, c *cluster) *history {
	ctx, cancel := context.WithCancel(context.Background())
	h := &history{
		t: t, began: time.Now(), cancel: cancel, done: make(chan struct{}),
		members: map[string]map[string]bool{}, reservations: map[string]bool{}, shown: map[run]time.Duration{}, gone: map[string][]time.Duration{},
	}
	client := c.client("root")
	changes := client.Watch(ctx, "/stopguard/", clientv3.WithPrefix(), clientv3.WithRev(1))
	go func() {
		defer close(h.done)
		for response := range changes {
			if err := response.Err(); err != nil {
				t.Errorf("the history is not whole: %v", err)
				return
			}
			h.see(response.Events)
		}
	}()
	t.Cleanup(cancel)
	return h
}

func (h *history) now() time.Duration { return time.Since(h.began) }

// see takes events of etcd, in their order.
func (h *history) see(events []*clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		key, isPut := string(e.Kv.Key), e.Type == clientv3.EventTypePut
		h.revision = max(h.revision, e.Kv.ModRevision)
		if rest, ok := strings.CutPrefix(key, "/stopguard/reservations/"); ok {
			group, uuid, _ := strings.Cut(rest, "/")
			if isPut {
				h.reserved++
				h.judge(group, uuid, e.Kv.ModRevision)
			}
			if delete(h.reservations, key); isPut {
				h.reservations[key] = true
			}
			continue
		}
		rest, _ := strings.CutPrefix(key, "/stopguard/hosts/")
		host, uuid, ok := strings.Cut(rest, "/members/")
		if !ok {
			continue
		}
		if !isPut {
			if delete(h.members[uuid], host); len(h.members[uuid]) == 0 {
				h.gone[uuid] = append(h.gone[uuid], h.now())
			}
			continue
		}
		if h.members[uuid] == nil {
			h.members[uuid] = map[string]bool{}
		}
		h.members[uuid][host] = true
		var member struct {
			PID int `json:"pid"`
		}
		if err := json.Unmarshal(e.Kv.Value, &member); err != nil {
			h.t.Error(err)
		}
		if r := (run{uuid, member.PID}); h.shown[r] == 0 {
			h.shown[r] = h.now()
		}
	}
}

// judge checks the promise at the moment of a reservation, by what etcd had then.
func (h *history) judge(group, uuid string, revision int64) {
	var g int
	if _, err := fmt.Sscanf(group, "db-%d", &g); err != nil {
		h.t.Error(err)
	}
	left := 0
	for n := range lifeMembers {
		other := uuidOf(g*lifeMembers + n)
		if other != uuid && len(h.members[other]) > 0 && !h.reservations["/stopguard/reservations/"+group+"/"+other] {
			left++
		}
	}
	if left < lifeMin {
		h.broken = append(h.broken, fmt.Sprintf("revision %d: an allowed stop in %s leaves %d", revision, group, left))
	}
}

func (h *history) published() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, hosts := range h.members {
		if len(hosts) > 0 {
			n++
		}
	}
	return n
}

func (h *history) add(o operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

func (h *history) start(one *citizen) {
	call := h.now()
	if err := one.guest.start(one.host); err != nil {
		h.t.Error(err)
		return
	}
	one.running = true
	h.add(operation{what: "start", citizen: one, pid: one.cmd.Process.Pid, call: call})
}

// act does something with a member.
func (h *history) act(one *citizen) {
	if !one.running {
		h.start(one)
		return
	}
	call, pid := h.now(), one.cmd.Process.Pid
	if rand.IntN(20) == 0 {
		one.end(one.host)
		one.running = false
		h.add(operation{what: "crash", citizen: one, pid: pid, call: call})
		return
	}
	err := one.askStop(one.host)
	var veto *hookproto.Veto
	switch {
	case err == nil:
		h.add(operation{what: "stop", citizen: one, pid: pid, call: call, end: h.now()})
		one.end(one.host)
		one.running = false
	case errors.As(err, &veto):
		h.mu.Lock()
		h.refused++
		h.mu.Unlock()
	default:
		h.mu.Lock()
		h.faults++
		h.mu.Unlock()
	}
}

// finish waits until the watch has seen all that there is.
func (h *history) finish() {
	last := -1
	eventually(h.t, "the history comes to rest", func() error {
		h.mu.Lock()
		seen := int(h.revision)
		h.mu.Unlock()
		if seen == last {
			return nil
		}
		last = seen
		time.Sleep(6 * time.Second) // longer than a lease
		return errors.New("it has not")
	})
	h.cancel()
	<-h.done
}

// A step is an operation for the checker: on a member of a group, by its number.
type step struct {
	what   string
	member int
}

// groupModel is a group of which some members must run. Its state is the set of running members.
var groupModel = porcupine.Model{
	Init: func() any { return uint(0) },
	Step: func(state, input, _ any) (bool, any) {
		running, s := state.(uint), input.(step)
		without := running &^ (1 << s.member)
		switch s.what {
		case "start":
			return true, running | 1<<s.member
		case "stop":
			return bits(without) >= lifeMin, without
		}
		return true, without
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
}

func bits(set uint) int {
	n := 0
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

// check checks what etcd was told, and that what the clients were told is linearizable.
func (h *history) check() {
	h.t.Helper()
	end := h.now() + time.Hour
	groups := map[int][]porcupine.Operation{}
	allowed, crashes := 0, 0
	slices.SortFunc(h.ops, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	var longest time.Duration
	for i, o := range h.ops {
		returned := o.end
		switch o.what {
		case "stop":
			allowed++
		case "start":
			// It counts from when it is published. One that has ended before never does.
			if returned = h.shown[run{o.citizen.uuid, o.pid}]; returned == 0 {
				returned = end
			}
		case "crash":
			crashes++
			returned = h.unpublished(o.citizen.uuid, o.pid, o.call, end)
			if returned < end {
				longest = max(longest, returned-o.call)
			}
		}
		groups[o.citizen.group] = append(groups[o.citizen.group], porcupine.Operation{
			ClientId: i, Input: step{o.what, o.citizen.number}, Call: int64(o.call), Return: int64(returned),
		})
	}
	h.t.Logf("%d stops allowed, %d refused, %d not decided, %d members ended by themselves (seen after %v at most), %d reservations, revision %d",
		allowed, h.refused, h.faults, crashes, longest.Round(time.Millisecond), h.reserved, h.revision)
	if allowed < 100 || h.refused < 100 || h.reserved < allowed {
		h.t.Error("too little has happened to prove anything")
	}
	for _, text := range h.broken {
		h.t.Error(text)
	}
	for g, ops := range groups {
		if result := porcupine.CheckOperationsTimeout(groupModel, ops, time.Minute); result != porcupine.Ok {
			h.t.Errorf("group %s: the history is %v", groupName(g), result)
		}
	}
}

// unpublished returns when the end of a run was first to be seen in etcd.
func (h *history) unpublished(uuid string, pid int, from, end time.Duration) time.Duration {
	first := end
	for _, at := range h.gone[uuid] {
		if at >= from {
			first = min(first, at)
		}
	}
	for r, at := range h.shown {
		if r.uuid == uuid && r.pid != pid && at >= from {
			first = min(first, at)
		}
	}
	return first
}
