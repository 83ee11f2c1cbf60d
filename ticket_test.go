package stopguard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

func grant(t *testing.T, root string, want ticket.Ticket) {
	t.Helper()
	want.Operation, want.Reason, want.Requester = policy.OperationStop, "disk swap", "alice"
	if want.NotAfter.IsZero() {
		want.NotAfter = time.Now().Add(time.Hour)
	}
	if _, err := (ticket.Store{Root: root}).Grant(want, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// askNow is ask by the clock of the host, which tickets need.
func askNow(t *testing.T, root, name, file string) answer {
	t.Helper()
	got := hook(t, root, strings.NewReader(string(read(t, file))), stopArgs(name)...)
	return got
}

func TestATicketLiftsTheVetoesOfOneIncarnation(t *testing.T) {
	root := testhost.Root(t)
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	if got := askNow(t, root, pgPrimary, capture); got.Exit != hookproto.ExitVeto {
		t.Fatalf("without a ticket: %+v", got)
	}
	grant(t, root, ticket.Ticket{Domain: pgUUID})
	for _, why := range []string{"the first stop takes it", "a soft stop is followed by a hard one"} {
		if got := askNow(t, root, pgPrimary, capture); got != (answer{}) {
			t.Errorf("%s: %+v", why, got)
		}
	}
	// The domain is started again: another process.
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	if got := askNow(t, root, pgPrimary, capture); got.Exit != hookproto.ExitVeto {
		t.Errorf("the next incarnation: %+v", got)
	}
}

func TestAReleasedDomainsTicketIsUsed(t *testing.T) {
	root := testhost.Root(t)
	grant(t, root, ticket.Ticket{Domain: pgUUID})
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	if got := askNow(t, root, pgPrimary, capture); got != (answer{}) {
		t.Fatalf("%+v", got)
	}
	xml := strings.NewReader(string(read(t, "testdata/captures/pg-primary-01/release/stdin.xml")))
	if got := ask(t, root, xml, pgPrimary, "release", "end", "destroyed"); got != (answer{}) {
		t.Errorf("release: %+v", got)
	}
	list, reports := ticket.Store{Root: root}.List(time.Now())
	if len(list) != 1 || len(reports) != 0 || list[0].State != ticket.Used {
		t.Errorf("%+v, %v", list, reports)
	}
	if got := askNow(t, root, pgPrimary, capture); got.Exit != hookproto.ExitVeto {
		t.Errorf("after the release: %+v", got)
	}
}

func TestATicketNeverLiftsAFault(t *testing.T) {
	root := testhost.Root(t, rulePath, "package")
	grant(t, root, ticket.Ticket{Name: "*"})
	if got := askNow(t, root, pgPrimary, capture); got.Exit != hookproto.ExitFault {
		t.Errorf("%+v", got)
	}
}

func TestATicketThatNobodyNeedsIsLeftAlone(t *testing.T) {
	root := testhost.Root(t)
	grant(t, root, ticket.Ticket{Name: "*"})
	if got := askNow(t, root, "web-01", "testdata/captures/web-01/stop/stdin.xml"); got != (answer{}) {
		t.Errorf("%+v", got)
	}
	list, _ := ticket.Store{Root: root}.List(time.Now())
	if len(list) != 1 || len(list[0].Claims) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestATicketThatCannotBeReadLiftsNothingAndIsNoFault(t *testing.T) {
	root := testhost.Root(t)
	grant(t, root, ticket.Ticket{Domain: pgUUID})
	files, err := filepath.Glob(filepath.Join(root, "var/lib/stopguard/tickets/*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		if err := os.Truncate(file, 10); err != nil {
			t.Fatal(err)
		}
	}
	if got := askNow(t, root, pgPrimary, capture); got.Exit != hookproto.ExitVeto {
		t.Errorf("%+v", got)
	}
}

// Two stops at once, in a group of two of which one must go on running: whoever comes second must
// see the first.
func TestTwoStopsAtOnceSeeEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many hooks at once")
	}
	const settings = "etc/stopguard/policy/data.yaml"
	// A hook that is late on a busy machine refuses, which says nothing of what the other one saw.
	inTime := 0
	for deadline := time.Now().Add(2 * time.Minute); inTime < 5; {
		if time.Now().After(deadline) {
			t.Fatalf("only %d times both are in time", inTime)
		}
		root := testhost.Root(t, settings, "site:\n  min_running:\n    groups:\n      - name: web\n        members: [\"web-*\"]\n        min: 1\n")
		domains := map[string]string{"web-01": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "web-02": "26e14a01-2b11-40de-a128-75e3f4a5fe12"}
		xml := map[string]string{}
		for name, uuid := range domains {
			xml[name] = strings.NewReplacer("NAME", name, "UUID", uuid).Replace(`<domain type="kvm" id="7"><name>NAME</name><uuid>UUID</uuid></domain>`)
			pid := guest(t, uuid).Process.Pid
			runningDomain(t, root, name, xml[name], pid)
		}
		answers := make(chan answer, 2)
		var both sync.WaitGroup
		for name := range domains {
			both.Go(func() {
				answers <- hook(t, root, strings.NewReader(xml[name]), stopArgs(name)...)
			})
		}
		both.Wait()
		one, other := <-answers, <-answers
		if one.isLate() || other.isLate() {
			continue
		}
		if one.Exit+other.Exit != hookproto.ExitAllow+hookproto.ExitVeto {
			t.Fatalf("%+v and %+v", one, other)
		}
		inTime++
	}
}

func TestAStopThatFailedMayBeAskedForAgain(t *testing.T) {
	root := testhost.Root(t, "etc/stopguard/policy/data.yaml", "site:\n  min_running:\n    groups:\n      - name: web\n        members: [\"web-*\"]\n        min: 1\n")
	const frame = `<domain type="kvm" id="7"><name>NAME</name><uuid>UUID</uuid></domain>`
	xml := ""
	for name, uuid := range map[string]string{"web-01": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "web-02": "26e14a01-2b11-40de-a128-75e3f4a5fe12"} {
		text := strings.NewReplacer("NAME", name, "UUID", uuid).Replace(frame)
		runningDomain(t, root, name, text, guest(t, uuid).Process.Pid)
		if name == "web-01" {
			xml = text
		}
	}
	for _, why := range []string{"the other one goes on", "its own stop, which failed, is not another's"} {
		if got := hook(t, root, strings.NewReader(xml), stopArgs("web-01")...); got != (answer{}) {
			t.Errorf("%s: %+v", why, got)
		}
	}
}

// That a stop was allowed before, and failed, changes nothing once its ticket is gone.
func TestAStopThatATicketAllowedIsJudgedAnewWithoutIt(t *testing.T) {
	root := testhost.Root(t, "etc/stopguard/policy/data.yaml", "site:\n  min_running:\n    groups:\n      - name: web\n        members: [\"web-*\"]\n        min: 1\n")
	const xml = `<domain type="kvm" id="7"><name>web-01</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>`
	runningDomain(t, root, "web-01", xml, guest(t, "16e14a01-2b11-40de-a128-75e3f4a5fe12").Process.Pid)
	stop := func() answer {
		got := hook(t, root, strings.NewReader(xml), stopArgs("web-01")...)
		return got
	}
	if got := stop(); got.Exit != hookproto.ExitVeto {
		t.Fatalf("the last of its group: %+v", got)
	}
	store := ticket.Store{Root: root}
	granted, err := store.Grant(ticket.Ticket{Domain: "16e14a01-2b11-40de-a128-75e3f4a5fe12", Operation: policy.OperationStop, Reason: "r", Requester: "alice", NotAfter: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got := stop(); got != (answer{}) {
		t.Fatalf("with a ticket: %+v", got)
	}
	if err := store.Revoke(granted.ID); err != nil {
		t.Fatal(err)
	}
	if got := stop(); got.Exit != hookproto.ExitVeto {
		t.Errorf("without it: %+v", got)
	}
}

// The texts of other domains' owners must not cause a fault for this domain.
func TestAnotherOwnersMetadataHoldsNobodyUp(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks with megabytes of XML")
	}
	root := testhost.Root(t, "etc/stopguard/policy/data.yaml", "site:\n  min_running:\n    groups:\n      - name: web\n        members: [\"web-*\"]\n        min: 1\n")
	const frame = `<domain type="kvm" id="7"><name>NAME</name><uuid>UUID</uuid><metadata>META</metadata></domain>`
	var stdin string
	for i, name := range []string{"web-01", "web-02", "big-1", "big-2", "big-3", "big-4", "big-5", "big-6", "big-7", "big-8"} {
		uuid := fmt.Sprintf("%08d-2b11-40de-a128-75e3f4a5fe12", i)
		meta := ""
		if i > 1 {
			meta = "<a xmlns='urn:x'>" + strings.Repeat("<b/>", 3990) + "</a>"
		}
		xml := strings.NewReplacer("NAME", name, "UUID", uuid, "META", meta).Replace(frame)
		runningDomain(t, root, name, xml, guest(t, uuid).Process.Pid)
		if i == 0 {
			stdin = xml
		}
	}
	// On a busy machine the time for the decision, or for its record, may be over before. Metadata
	// that held the others up would do so each time.
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		got := hook(t, root, strings.NewReader(stdin), stopArgs("web-01")...)
		if got.isLate() {
			continue
		}
		if got != (answer{}) {
			t.Fatalf("%+v", got)
		}
		for _, e := range events(t, root) {
			if e.Result.Outcome == record.Allow {
				return
			}
		}
	}
	t.Error("none is allowed in time and on record")
}
