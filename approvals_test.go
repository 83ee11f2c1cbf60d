package stopguard_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// People, as the kernel knows them. None of them has a name on this machine.
const (
	anna, ben, cora, stranger = 61001, 61002, 61003, 61004
)

// A site asks for two approvals, by one of three people.
const twoApprovers = `{"site": {"tickets": {"approvers": 2, "who": ["user:61001", "user:61002", "user:61003"], "for": ["pg-*"], "break_glass": false}}}`

// A board is a host with what the agent has of approvals, at a real socket.
type board struct {
	t    *testing.T
	root string
}

func newBoard(t *testing.T, settings string) board {
	t.Helper()
	b := board{t, testhost.Root(t, "/etc/stopguard/policy/data.json", settings)}
	testhost.OpenToAll(t, b.root) // others reach the socket
	pidFile(t, b.root, guest(t, pgUUID).Process.Pid)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	agent := &approval.Board{Root: b.root, Approvals: func() (*policy.Approvals, error) { return load(t, b.root).Approvals(), nil }}
	go func() {
		defer close(ended)
		agent.Serve(ctx, func(err error) { t.Error(err) })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	for {
		if _, err := b.list(anna); err == nil || !errors.Is(err, approval.ErrNoAgent) {
			return b
		}
		time.Sleep(time.Millisecond)
	}
}

func (b board) client() approval.Client { return approval.Client{Root: b.root} }

func (b board) request(uid int, ask approval.Ask) (r approval.Request, granted *ticket.Ticket, err error) {
	b.t.Helper()
	if ask.Domain == "" && ask.Name == "" {
		ask.Domain = pgUUID
	}
	ask.Operation, ask.Reason = policy.OperationStop, "disk swap"
	if ask.For == 0 {
		ask.For = time.Hour
	}
	testhost.As(b.t, uid, func() { r, granted, err = b.client().Request(b.t.Context(), ask) })
	return r, granted, err
}

func (b board) approve(uid int, id string) (granted *ticket.Ticket, err error) {
	b.t.Helper()
	testhost.As(b.t, uid, func() { _, granted, err = b.client().Approve(b.t.Context(), id) })
	return granted, err
}

func (b board) reject(uid int, id string) (err error) {
	b.t.Helper()
	testhost.As(b.t, uid, func() { _, err = b.client().Reject(b.t.Context(), id) })
	return err
}

func (b board) list(uid int) (all []approval.Request, err error) {
	b.t.Helper()
	testhost.As(b.t, uid, func() { all, err = b.client().List(b.t.Context()) })
	return all, err
}

// refused fails the test if a stop is let go in any path: by the hook's program, by a gate, or by a
// program that decides itself.
func (b board) refused(why string) {
	b.t.Helper()
	if got := askNow(b.t, b.root, pgPrimary, capture); got.Exit != hookproto.ExitVeto {
		b.t.Errorf("%s: the hook lets it go: %+v", why, got)
	}
	if got := requestAt(b.t, b.root, time.Now(), stopguard.Request{Operation: policy.OperationStop}); got.Veto == "" {
		b.t.Errorf("%s: the gate lets it go: %+v", why, got)
	}
	needed := load(b.t, b.root).Approvals().For(pgPrimary, pgUUID, policy.OperationStop)
	_, ok, _ := ticket.Store{Root: b.root, Required: needed}.Take(policy.Incarnation{UUID: pgUUID, PID: 1, Start: 1}, pgPrimary, policy.OperationStop, time.Now())
	if ok {
		b.t.Errorf("%s: the library lets it go", why)
	}
}

// Every user may connect to the agent. One who takes all connections that a user may have must not
// keep out those who request and approve.
func TestAUserWhoTakesEveryConnectionDoesNotKeepOthersOut(t *testing.T) {
	b := newBoard(t, twoApprovers)
	var taken []net.Conn
	testhost.As(t, stranger, func() {
		for range 200 {
			c, err := net.Dial("unix", filepath.Join(b.root, "run/stopguard/tickets.sock"))
			if err != nil {
				t.Error(err)
				return
			}
			taken = append(taken, c)
		}
	})
	defer func() {
		for _, c := range taken {
			c.Close()
		}
	}()
	r, _, err := b.request(anna, approval.Ask{})
	if err == nil {
		_, err = b.approve(ben, r.ID)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestTwoOthersMustApprove(t *testing.T) {
	b := newBoard(t, twoApprovers)
	r, granted, err := b.request(anna, approval.Ask{})
	if err != nil || granted != nil || r.Needed != 2 {
		t.Fatal(r, granted, err)
	}
	b.refused("it is requested")
	if granted, err := b.approve(ben, r.ID); err != nil || granted != nil {
		t.Fatal(granted, err)
	}
	b.refused("one has approved")
	if all, err := b.list(cora); err != nil || len(all) != 1 || len(all[0].Approvers) != 1 || all[0].Approvers[0].UID != ben {
		t.Error(all, err)
	}
	given, err := b.approve(cora, r.ID)
	if err != nil || given == nil || given.ID != r.ID || time.Until(given.NotAfter) > time.Hour {
		t.Fatal(given, err)
	}
	if got := askNow(t, b.root, pgPrimary, capture); got != (answer{}) {
		t.Errorf("approved, and refused: %+v", got)
	}
	var recorded struct {
		Result struct{ Ticket struct{ Approvers []string } }
	}
	lines := strings.Split(strings.TrimSpace(string(read(t, filepath.Join(b.root, "var/log/stopguard/decisions.jsonl")))), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &recorded); err != nil || strings.Join(recorded.Result.Ticket.Approvers, " ") != "61002 61003" {
		t.Error(recorded, err)
	}
	if all, err := b.list(anna); err != nil || len(all) != 0 {
		t.Error("the request is still there", all, err)
	}
}

// One person alone does not lift the veto, whatever they try.
func TestOnePersonAloneLiftsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks one after another")
	}
	b := newBoard(t, twoApprovers)
	r, _, err := b.request(anna, approval.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		uid       int
		why, text string
	}{
		{anna, "who requested it does not count", "requested it, and does not count"},
		{stranger, "the site does not name them", "is not among those"},
		{0, "root is a person, whom the site does not name", "is not among those"},
	} {
		if granted, err := b.approve(tt.uid, r.ID); granted != nil || err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v %v", tt.why, granted, err)
		}
	}
	if _, err := b.approve(ben, r.ID); err != nil {
		t.Fatal(err)
	}
	if granted, err := b.approve(ben, r.ID); granted != nil || err == nil || !strings.Contains(err.Error(), "has approved it already") {
		t.Error("twice:", granted, err)
	}
	b.refused("one approval, twice")

	for _, id := range []string{"", "../../tickets/x", "0123456789abcdef", strings.Repeat("f", 4000)} {
		if granted, err := b.approve(ben, id); granted != nil || err == nil {
			t.Errorf("%.20q: %v %v", id, granted, err)
		}
	}
	if granted, _, err := b.request(stranger, approval.Ask{}); err == nil {
		t.Error("a stranger requests", granted)
	}
	if _, granted, err := b.request(anna, approval.Ask{BreakGlass: true}); err == nil || granted != nil {
		t.Error("break-glass, which the site does not allow:", granted, err)
	}
	b.refused("break-glass")

	// Granted as any ticket is, for the domain and for the whole host.
	grant(t, b.root, ticket.Ticket{Domain: pgUUID})
	grant(t, b.root, ticket.Ticket{Name: "*"})
	b.refused("granted without approvals")
	grant(t, b.root, ticket.Ticket{Domain: pgUUID, Approval: &ticket.Approval{BreakGlass: true}})
	b.refused("granted with an approval of one's own")
	mine := ticket.Ticket{
		ID: "0123456789abcdef", Domain: pgUUID, Operation: policy.OperationStop, Reason: "x", Requester: "x", NotAfter: time.Now().Add(time.Hour),
		Approval: &ticket.Approval{Requester: ticket.Person{UID: stranger}, Approvers: []ticket.Approver{{Person: ticket.Person{UID: anna}}, {Person: ticket.Person{UID: ben}}}, Seal: strings.Repeat("0", 64)},
	}
	if _, err := (ticket.Store{Root: b.root}).GrantApproved(mine, time.Now()); err == nil {
		t.Error("an approval without a seal is granted")
	}
}

// A ticket file that was written by hand counts only if the agent sealed it.
func TestATicketByHandLiftsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks one after another")
	}
	b := newBoard(t, twoApprovers)
	r, _, err := b.request(anna, approval.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.approve(ben, r.ID); err != nil {
		t.Fatal(err)
	}
	good, err := b.approve(cora, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(b.root, "var/lib/stopguard/tickets")
	if err := os.Remove(filepath.Join(folder, good.ID+".json")); err != nil {
		t.Fatal(err)
	}
	put := func(x ticket.Ticket) {
		data, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, x.ID+".json"), append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for why, change := range map[string]func(*ticket.Ticket){
		"another ID, to use it twice":  func(x *ticket.Ticket) { x.ID = "0123456789abcdef" },
		"another domain":               func(x *ticket.Ticket) { x.Domain, x.Name = "", "*" },
		"a longer time":                func(x *ticket.Ticket) { x.NotAfter = x.NotAfter.Add(time.Hour) },
		"no approval":                  func(x *ticket.Ticket) { x.Approval = nil },
		"break-glass":                  func(x *ticket.Ticket) { x.Approval.BreakGlass = true },
		"another requester":            func(x *ticket.Ticket) { x.Approval.Requester.UID = stranger },
		"another approver":             func(x *ticket.Ticket) { x.Approval.Approvers[0].UID = stranger },
		"no seal":                      func(x *ticket.Ticket) { x.Approval.Seal = "" },
		"another reason in the record": func(x *ticket.Ticket) { x.Reason = "x" },
	} {
		changed := *good
		a := *good.Approval
		a.Approvers = append([]ticket.Approver(nil), a.Approvers...)
		changed.Approval = &a
		change(&changed)
		put(changed)
		b.refused(why)
		if err := os.Remove(filepath.Join(folder, changed.ID+".json")); err != nil {
			t.Fatal(err)
		}
	}
	put(*good)
	if got := askNow(t, b.root, pgPrimary, capture); got != (answer{}) {
		t.Errorf("as it was sealed: %+v", got)
	}
}

func TestAnApprovalAndItsUseExpire(t *testing.T) {
	b := newBoard(t, strings.Replace(twoApprovers, `"approvers": 2`, `"approvers": 1, "approve_within": "1ms"`, 1))
	r, _, err := b.request(anna, approval.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	for time.Now().Before(r.Expires) {
		time.Sleep(time.Millisecond)
	}
	if granted, err := b.approve(ben, r.ID); granted != nil || err == nil || !strings.Contains(err.Error(), "too late to approve it") {
		t.Error(granted, err)
	}
	testhost.Put(t, b.root, "/etc/stopguard/policy/data.json", strings.Replace(twoApprovers, `"approvers": 2`, `"approvers": 1`, 1))
	if r, _, err = b.request(anna, approval.Ask{For: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	granted, err := b.approve(ben, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	for !time.Now().After(granted.NotAfter) {
		time.Sleep(time.Millisecond)
	}
	b.refused("its time is over")
	if r, _, err = b.request(anna, approval.Ask{}); err != nil {
		t.Fatal(err)
	}
	if err := b.reject(cora, r.ID); err != nil {
		t.Fatal(err)
	}
	if granted, err := b.approve(ben, r.ID); granted != nil || err == nil {
		t.Error("a rejected request is approved", granted, err)
	}
}

func TestATicketNeedsAsManyApprovalsAsTheSiteAsksNow(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks one after another")
	}
	one := strings.Replace(twoApprovers, `"approvers": 2`, `"approvers": 1`, 1)
	b := newBoard(t, one)
	r, _, err := b.request(anna, approval.Ask{Name: "*"})
	if err != nil {
		t.Fatal(err)
	}
	if granted, err := b.approve(ben, r.ID); err != nil || granted == nil {
		t.Fatal(granted, err)
	}
	testhost.Put(t, b.root, "/etc/stopguard/policy/data.json", twoApprovers)
	b.refused("the site asks for two since")
	testhost.Put(t, b.root, "/etc/stopguard/policy/data.json", one)
	if got := askNow(t, b.root, pgPrimary, capture); got != (answer{}) {
		t.Errorf("%+v", got)
	}
}

func TestAnApprovalCountsWhileTheSiteNamesWhoGaveIt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks one after another")
	}
	b := newBoard(t, twoApprovers)
	r, _, err := b.request(anna, approval.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	if granted, err := b.approve(ben, r.ID); err != nil || granted != nil {
		t.Fatal(granted, err)
	}
	without := strings.Replace(twoApprovers, `"user:61002", `, "", 1)
	testhost.Put(t, b.root, "/etc/stopguard/policy/data.json", without)
	if granted, err := b.approve(cora, r.ID); err != nil || granted != nil {
		t.Error("the approval of someone who was taken off the list counts", granted, err)
	}
	b.refused("ben may not approve any more")
}

func TestBreakGlassIsRecordedAsSuch(t *testing.T) {
	b := newBoard(t, strings.Replace(twoApprovers, `"break_glass": false`, `"break_glass": true`, 1))
	if _, granted, err := b.request(stranger, approval.Ask{BreakGlass: true}); err == nil || granted != nil {
		t.Error("a stranger breaks the glass", granted, err)
	}
	if _, granted, err := b.request(0, approval.Ask{BreakGlass: true}); err == nil || granted != nil {
		t.Error("root, whom the site does not name, breaks the glass", granted, err)
	}
	_, granted, err := b.request(anna, approval.Ask{BreakGlass: true})
	if err != nil || granted == nil {
		t.Fatal(granted, err)
	}
	if got := askNow(t, b.root, pgPrimary, capture); got != (answer{}) {
		t.Errorf("%+v", got)
	}
	if record := string(read(t, filepath.Join(b.root, "var/log/stopguard/decisions.jsonl"))); !strings.Contains(record, `"requester":"61001","reason":"disk swap","break_glass":true`) {
		t.Error(record)
	}
	testhost.Put(t, b.root, "/etc/stopguard/policy/data.json", twoApprovers)
	b.refused("the site does not allow it any more")
}
