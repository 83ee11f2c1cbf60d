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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/stopguard/stopguard/hookproto"
)

// lifeVariable is how long the test of a fleet's life takes, such as 10m, with many groups and
// clients. Without it, a smaller fleet lives for a minute.
const lifeVariable = "STOPGUARD_E2E_FLEET_LIFE"

// movedAgent is the agent with a clock that jumps by an hour and back, as .ci/moved-clock builds
// it.
const movedAgent = "STOPGUARD_E2E_MOVED_AGENT"

const (
	lifeMembers = 4 // of each group
	lifeMin     = 2

	// A fleet lives on until this many stops were allowed, and as many refused, if the machine is
	// busy, and until each trouble was there twice.
	lifeEnough  = 150
	lifeLongest = 8 * time.Minute // beyond its time
)

// A life is how large a fleet is, and how long it lives.
type life struct {
	hosts, groups, clients int
	time                   time.Duration
}

func newLife(t *testing.T) life {
	text := os.Getenv(lifeVariable)
	if text == "" {
		return life{4, 40, 16, 45 * time.Second}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return life{8, 200, 64, d}
}

// A citizen is a guest of the fleet's life: a member of one group, on one host.
type citizen struct {
	*guest
	group, number int
	host          *host

	mu      sync.Mutex // held by the client that does something with it
	running bool
}

// TestNoAllowedStopTakesAGroupBelowItsMinimum lets clients stop and start members at random while
// etcd's members are killed, suspended and cut off, agents are killed and suspended, and the clocks
// of half of the hosts jump. What etcd was told, and what the clients were told, are checked
// afterwards.
func TestNoAllowedStopTakesAGroupBelowItsMinimum(t *testing.T) {
	life := newLife(t)
	var names []string
	for i := range life.hosts {
		names = append(names, fmt.Sprintf("kvm-%d", i+1))
	}
	c := newCluster(t, names...)
	var data strings.Builder
	data.WriteString("site:\n  min_running:\n    groups:\n")
	for g := range life.groups {
		fmt.Fprintf(&data, "      - {name: %s, scope: fleet, min: %d, members: [\"db-%d-*\"]}\n", groupName(g), lifeMin, g)
	}
	var hosts []*host
	for i, name := range names {
		hosts = append(hosts, c.newHostWith([]string{agentProgram, movedAgent}[i%2], name, data.String()))
	}
	h := newHistory(t, c)
	var citizens []*citizen
	for g := range life.groups {
		for n := range lifeMembers {
			guest := newGuest(fmt.Sprintf("db-%d-%d", g, n), uuidOf(g*lifeMembers+n))
			one := &citizen{guest: guest, group: g, number: n, host: hosts[(g+3*n)%life.hosts]}
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

	ctx, cancel := context.WithTimeout(context.Background(), life.time+lifeLongest)
	defer cancel()
	var all sync.WaitGroup
	for range life.clients {
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
	var etcds, agents troubles
	all.Go(func() { troubleEtcd(ctx, c, &etcds) })
	all.Go(func() { troubleAgents(ctx, hosts, &agents) })
	isEnough := func() bool { return h.isEnough() && etcds.are(etcdTroubles) && agents.are(agentTroubles) }
	for began := time.Now(); ctx.Err() == nil && (time.Since(began) < life.time || !isEnough()); {
		pause(ctx, 500, 501)
	}
	cancel()
	all.Wait()
	if !isEnough() {
		t.Error("too little has happened to prove anything")
	}
	t.Logf("etcd was %v, agents were %v", &etcds, &agents)
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

// Troubles count what was done to etcds or agents.
type troubles struct {
	mu    sync.Mutex
	times map[string]int
}

func (t *troubles) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.times == nil {
		t.times = map[string]int{}
	}
	t.times[what]++
}

// are reports whether each of these was done twice.
func (t *troubles) are(all []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(all, func(what string) bool { return t.times[what] < 2 })
}

func (t *troubles) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprint(t.times)
}

var (
	etcdTroubles  = []string{"killed", "suspended", "cut off", "cut off from each other"}
	agentTroubles = []string{"killed", "suspended"}
)

// troubleEtcd does something to members of etcd, mostly to one at a time, and ends it again.
func troubleEtcd(ctx context.Context, c *cluster, done *troubles) {
	for i := 0; ctx.Err() == nil; i++ {
		pause(ctx, 2000, 6000)
		victims := c.nodes[rand.IntN(3):][:1]
		if rand.IntN(4) == 0 { // no quorum
			victims = c.nodes[:2]
		}
		what := etcdTroubles[i%len(etcdTroubles)]
		if what == "cut off from each other" {
			victims = [][]*node{c.nodes, c.nodes[:2], c.nodes[1:]}[rand.IntN(3)]
		}
		for _, n := range victims {
			n.trouble(what, true)
		}
		pause(ctx, 500, 4000)
		for _, n := range victims {
			n.trouble(what, false)
		}
		done.add(what)
	}
}

// trouble begins or ends one of etcdTroubles.
func (n *node) trouble(what string, begins bool) {
	switch {
	case what == "cut off":
		n.cut(begins)
	case what == "cut off from each other":
		n.isolate(begins)
	case what == "suspended" && begins:
		n.signal(syscall.SIGSTOP)
	case what == "suspended":
		n.signal(syscall.SIGCONT)
	case begins:
		n.kill()
	default:
		n.start()
	}
}

// troubleAgents kills and suspends agents, some of them for longer than a lease.
func troubleAgents(ctx context.Context, hosts []*host, done *troubles) {
	for i := 0; ctx.Err() == nil; i++ {
		pause(ctx, 500, 3000)
		h, what := hosts[rand.IntN(len(hosts))], agentTroubles[i%len(agentTroubles)]
		if what == "killed" {
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
		done.add(what)
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
	allowed int
	refused int
	faults  int

	// From here on, what the watch saw.
	members      map[string]map[string]bool // hosts that publish a member, by UUID
	reservations map[string]bool            // by UUID
	shown        map[run]time.Duration      // when a run of a domain was first published
	gone         map[string][]time.Duration // when a domain was published by no host any more, by UUID
	reserved     int
	clockMoved   bool // a host's clock was seen to be wrong
	broken       []string
	log          map[string][]line // by group
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
		members: map[string]map[string]bool{}, reservations: map[string]bool{}, shown: map[run]time.Duration{}, gone: map[string][]time.Duration{}, log: map[string][]line{},
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
			uuid, _, _ = strings.Cut(uuid, "/") // each domain is on one host
			if isPut {
				h.reserved++
				h.judge(group, uuid, e.Kv.ModRevision)
			}
			h.note(group, "etcd, revision %d: %s %s %s", e.Kv.ModRevision, e.Type, key, e.Kv.Value)
			if delete(h.reservations, uuid); isPut { // each domain is in one group
				h.reservations[uuid] = true
			}
			continue
		}
		rest, _ := strings.CutPrefix(key, "/stopguard/hosts/")
		host, uuid, ok := strings.Cut(rest, "/members/")
		if !ok {
			continue
		}
		h.note(groupOf(uuid), "etcd, revision %d: %s %s %s", e.Kv.ModRevision, e.Type, key, e.Kv.Value)
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
			PID   int       `json:"pid"`
			Since time.Time `json:"since"`
		}
		if err := json.Unmarshal(e.Kv.Value, &member); err != nil {
			h.t.Error(err)
		}
		h.clockMoved = h.clockMoved || time.Until(member.Since) > 30*time.Minute
		if r := (run{uuid, member.PID}); h.shown[r] == 0 {
			h.shown[r] = h.now()
		}
	}
}

// groupOf returns the group of the member that uuidOf made.
func groupOf(uuid string) string {
	n, err := strconv.Atoi(uuid[strings.LastIndex(uuid, "-")+1:])
	if err != nil {
		return uuid
	}
	return groupName(n / lifeMembers)
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
		if other != uuid && len(h.members[other]) > 0 && !h.reservations[other] {
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
	if o.what == "stop" {
		h.allowed++
	}
}

func (h *history) isEnough() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.allowed >= lifeEnough && h.refused >= lifeEnough
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
	crashes := 0
	slices.SortFunc(h.ops, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	var longest time.Duration
	for i, o := range h.ops {
		returned := o.end
		switch o.what {
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
		h.allowed, h.refused, h.faults, crashes, longest.Round(time.Millisecond), h.reserved, h.revision)
	if !h.clockMoved {
		h.t.Error("no host's clock was wrong")
	}
	if h.reserved < h.allowed {
		h.t.Error("an allowed stop was not reserved")
	}
	for _, text := range h.broken {
		h.t.Error(text)
	}
	for g, ops := range groups {
		if result := porcupine.CheckOperationsTimeout(groupModel, ops, time.Minute); result != porcupine.Ok {
			h.t.Errorf("group %s: the history is %v", groupName(g), result)
			h.save(g)
		}
	}
}

// save writes a group's history to a file, which the failure names.
func (h *history) save(g int) {
	h.t.Helper()
	file, err := os.CreateTemp("", "fleet-history-*.txt")
	if err != nil {
		h.t.Error(err)
		return
	}
	defer file.Close()
	lines := slices.Clone(h.log[groupName(g)])
	for _, o := range h.ops {
		if o.citizen.group == g {
			lines = append(lines, line{o.call, fmt.Sprintf("%s of %s on %s, pid %d, until %v", o.what, o.citizen.name, o.citizen.host.name, o.pid, o.end)})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	for _, l := range lines {
		fmt.Fprintf(file, "%v %s\n", l.at, l.text)
	}
	h.t.Logf("what happened in %s is in %s", groupName(g), file.Name())
}

// A line is an event of a group.
type line struct {
	at   time.Duration
	text string
}

// note keeps an event of etcd for a report.
func (h *history) note(group, format string, args ...any) {
	h.log[group] = append(h.log[group], line{h.now(), fmt.Sprintf(format, args...)})
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
