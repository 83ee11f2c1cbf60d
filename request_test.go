package stopguard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A verdict is what a request comes to: a fault, a veto and its line, or neither.
type verdict struct {
	Fault, Veto string
}

// request asks at noon, by the host's own files.
func request(t *testing.T, root string, r stopguard.Request) verdict {
	t.Helper()
	return requestAt(t, root, noon, r)
}

func requestAt(t *testing.T, root string, at time.Time, r stopguard.Request) verdict {
	t.Helper()
	if r.Domain == nil {
		r.Domain = domain(t, read(t, capture))
	}
	return decided(t, stopguard.Config{Root: root, Now: func() time.Time { return at }}, r)
}

func decided(t *testing.T, c stopguard.Config, r stopguard.Request) verdict {
	t.Helper()
	err := stopguard.Decide(c)(context.Background(), r)
	var veto *hookproto.Veto
	switch {
	case err == nil:
		return verdict{}
	case errors.As(err, &veto):
		return verdict{Veto: veto.Error()}
	}
	return verdict{Fault: strings.ReplaceAll(err.Error(), c.Root, "ROOT")}
}

const markVeto = "protected until 2099-06-30T00:00Z: billing primary (rule protection_mark)"

func domain(t *testing.T, xml []byte) *domainxml.Domain {
	t.Helper()
	d, err := domainxml.Parse(xml)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// withMark is the capture with other attributes in its mark.
func withMark(t *testing.T, attributes string) []byte {
	t.Helper()
	xml := string(read(t, capture))
	const name = "<p:protection "
	if !strings.Contains(xml, name) {
		t.Fatal("the capture has no mark")
	}
	return []byte(strings.Replace(xml, name, name+attributes+" ", 1))
}

func TestARequestIsDecidedByWhatTheRulesAnswerFor(t *testing.T) {
	var none verdict
	veto := verdict{Veto: markVeto}
	tests := []struct {
		name, why string
		host      []string
		mark      string
		want      map[string]verdict // what is not there is let go
	}{
		{"a mark", "it is for a stop and a delete", nil, "",
			map[string]verdict{"stop": veto, "delete": veto}},
		{"a mark that names more", "which takes nothing away", nil, `operations="reset modify"`,
			map[string]verdict{"stop": veto, "delete": veto, "reset": veto, "modify": veto}},
		{"a mark that names a stop alone", "it is exact then", nil, `operations="stop"`,
			map[string]verdict{"stop": veto}},
		{"a mark, with settings", "the site says what a plain mark is for", []string{"etc/stopguard/policy/data.yaml", "site:\n  protection_mark:\n    operations: [stop, pause]\n"}, "",
			map[string]verdict{"stop": veto, "pause": veto}},
		{"a mark that is monitored for a delete", "the rest is enforced", []string{"etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*/delete\"]\n"}, "",
			map[string]verdict{"stop": veto}},
		{"a mark with a slip", "it might have meant any of them", nil, `operations="stop rest"`, map[string]verdict{
			"stop": veto, "reset": {Veto: "protected until 2099-06-30T00:00Z (operations stop rest cannot be read; all are refused): billing primary (rule protection_mark)"},
			"delete": veto,
			"pause":  {Veto: "protected until 2099-06-30T00:00Z (operations stop rest cannot be read; all are refused): billing primary (rule protection_mark)"},
			"move":   {Veto: "protected until 2099-06-30T00:00Z (operations stop rest cannot be read; all are refused): billing primary (rule protection_mark)"},
			"modify": {Veto: "protected until 2099-06-30T00:00Z (operations stop rest cannot be read; all are refused): billing primary (rule protection_mark)"},
		}},
		{"a mark that is only monitored", "nothing is enforced", []string{"etc/stopguard/policy/data.yaml", "site:\n  monitor: [protection_mark]\n"}, `operations="reset"`,
			map[string]verdict{}},
		{"the list, with settings", "root says what it is for", []string{listPath, pgPrimary + "\n", "etc/stopguard/policy/data.yaml", "site:\n  protected_list:\n    operations: [stop, move]\n"}, `operations="stop"`, map[string]verdict{
			"stop": {Veto: "listed in /etc/libvirt/protected-domains; take it off the list to stop it (rule protected_list) and 1 more"},
			"move": {Veto: "listed in /etc/libvirt/protected-domains; take it off the list to move it (rule protected_list)"},
		}},
		{"a broken policy", "a fault refuses whatever is asked", []string{rulePath, "package"}, "", map[string]verdict{
			"stop": {Fault: broken}, "delete": {Fault: broken}, "pause": {Fault: broken}, "reset": {Fault: broken}, "move": {Fault: broken}, "modify": {Fault: broken},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t, tt.host...)
			pidFile(t, root, guest(t, pgUUID).Process.Pid)
			for _, operation := range policy.Operations() {
				want, ok := tt.want[operation]
				if !ok {
					want = none
				}
				got := request(t, root, stopguard.Request{Operation: operation, Domain: domain(t, withMark(t, tt.mark))})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (%s):\n%s", operation, tt.why, diff)
				}
			}
		})
	}
}

const broken = "policy: /etc/stopguard/policy/site.rego:1: unexpected eof token behind \"package\"; correct the rule"

func TestARequestAboutADomainThatDoesNotRunIsLetGo(t *testing.T) {
	let, refused := verdict{}, verdict{Veto: markVeto}
	tests := []struct {
		name, why string
		prepare   func(t *testing.T, root string)
		want      verdict // of a stop and a reset
	}{
		{"it runs", "there is something to protect",
			func(t *testing.T, root string) { pidFile(t, root, guest(t, pgUUID).Process.Pid) }, refused},
		{"it is shut off", "libvirt itself has nothing to stop",
			func(t *testing.T, root string) { mkdir(t, root, "run/libvirt/qemu") }, let},
		{"its guest is off", "QEMU lingers, and only destroy helps", withStatus("shutdown", "unknown"), let},
		{"its guest has panicked", "a reset is what helps", withStatus("crashed", "panicked"), let},
		{"it cannot be told", "it counts as alive", func(*testing.T, string) {}, refused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t)
			testhost.Daemon(t, root)
			tt.prepare(t, root)
			xml := withMark(t, `operations="reset modify"`)
			for _, operation := range []string{"stop", "reset"} {
				if diff := cmp.Diff(tt.want, request(t, root, stopguard.Request{Operation: operation, Domain: domain(t, xml)})); diff != "" {
					t.Errorf("%s (%s):\n%s", operation, tt.why, diff)
				}
			}
			for why, r := range map[string]stopguard.Request{
				"to rename it takes its protection away": {Operation: "modify", Domain: domain(t, xml)},
				"to undefine it deletes it":              {Operation: "delete", Domain: domain(t, xml)},
				"nobody can refuse that stop later":      {Operation: "stop", Deferred: true, Domain: domain(t, xml)},
			} {
				if diff := cmp.Diff(refused, request(t, root, r)); diff != "" {
					t.Errorf("%s:\n%s", why, diff)
				}
			}
		})
	}
}

// What these look like is seen where a guest is destroyed in the middle of its start: see
// internal/e2e/gate.
func TestADomainThatIsBeingStartedCountsAsAlive(t *testing.T) {
	for _, tt := range []struct {
		why     string
		prepare func(t *testing.T, root string)
	}{
		{"its process is not there yet", func(t *testing.T, root string) { mkdir(t, root, "run/libvirt/qemu") }},
		{"its process is libvirtd's, and runs QEMU next", func(t *testing.T, root string) {
			pidFile(t, root, guest(t, "23dc214a-0c81-4bee-b3e5-5af36a2eee9d").Process.Pid)
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			root := testhost.Root(t)
			testhost.Daemon(t, root)
			tt.prepare(t, root)
			has := func(t *testing.T) { pidFile(t, root, guest(t, pgUUID).Process.Pid) }
			for _, now := range []struct {
				why      string
				starting func(*testing.T) (bool, error)
				want     verdict
			}{
				{"libvirt is about to start it", func(*testing.T) (bool, error) { return true, nil }, verdict{Veto: markVeto}},
				{"it is gone", func(*testing.T) (bool, error) { return false, nil }, verdict{}},
				{"nobody can tell", func(*testing.T) (bool, error) { return false, errors.New("no answer") }, verdict{Fault: "no answer"}},
				{"it has started by the time that libvirt answers", func(t *testing.T) (bool, error) { has(t); return false, nil }, verdict{Veto: markVeto}},
				{"it runs: there is nothing to ask", func(t *testing.T) (bool, error) { t.Error("asked"); return false, nil }, verdict{Veto: markVeto}},
			} {
				r := stopguard.Request{Operation: "stop", Domain: domain(t, withMark(t, "")), Starting: func(context.Context) (bool, error) { return now.starting(t) }}
				if diff := cmp.Diff(now.want, request(t, root, r)); diff != "" {
					t.Errorf("%s:\n%s", now.why, diff)
				}
			}
		})
	}
}

func TestADeadDomainIsLetGoWhateverThePolicy(t *testing.T) {
	root := testhost.Root(t, rulePath, "package")
	testhost.Daemon(t, root)
	mkdir(t, root, "run/libvirt/qemu")
	if got := request(t, root, stopguard.Request{Operation: "stop"}); got != (verdict{}) {
		t.Errorf("%+v", got)
	}
	e := last(t, root, 1)
	if e.Result.Outcome != record.Moot || e.Result.Domain.UUID != pgUUID || e.Result.Request == nil || e.Result.Request.Operation != "stop" {
		t.Errorf("%+v", e.Result)
	}
	// Promise 3: what cannot be decided refuses.
	if got := request(t, root, stopguard.Request{Operation: "modify"}); got != (verdict{Fault: broken}) {
		t.Errorf("%+v", got)
	}
}

func TestARequestThatMakesNoSenseIsAFault(t *testing.T) {
	some := domain(t, read(t, capture))
	tests := []struct {
		name, why string
		request   stopguard.Request
		want      string
	}{
		{"no operation", "no rule would answer for it", stopguard.Request{Domain: some}, `the operation "" is unknown; ask about one of stop, delete, pause, reset, move, modify`},
		{"libvirt's word for it", "likewise", stopguard.Request{Operation: "destroy", Domain: some}, `the operation "destroy" is unknown; ask about one of stop, delete, pause, reset, move, modify`},
		{"a domain that cannot be had", "whoever asks cannot tell, and must not be let", stopguard.Request{Operation: "stop", Name: pgUUID, Err: errors.New("libvirtd does not answer")}, "libvirtd does not answer"},
		{"a domain without a UUID", "what it was let go for is kept by that", stopguard.Request{Operation: "stop", Domain: &domainxml.Domain{Name: "web-01"}}, "has no name or no UUID; ask with what domainxml.Parse gives"},
		{"no domain", "which is it?", stopguard.Request{Operation: "stop"}, "the request names no domain; ask with what domainxml.Parse gives"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t)
			testhost.Daemon(t, root)
			mkdir(t, root, "run/libvirt/qemu") // what is nowhere would be let go
			if got := decided(t, stopguard.Config{Root: root}, tt.request); got.Veto != "" || !strings.Contains(got.Fault, tt.want) {
				t.Errorf("%+v, not %q", got, tt.want)
			}
			e := last(t, root, 1)
			if e.Result.Outcome != record.Fault || e.Result.Request == nil || !strings.Contains(e.Result.Detail, tt.want) || e.Result.Domain.Name != tt.request.Name {
				t.Errorf("%+v", e.Result)
			}
		})
	}
}

func TestARequestsRecordSaysWhoAskedAndHow(t *testing.T) {
	root := testhost.Root(t)
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	request(t, root, stopguard.Request{
		Operation: "stop", Procedure: "domain_destroy_flags", Flags: []string{"graceful"}, Command: "set_password vnc hunter2", Destination: "nowhere",
		Caller: &policy.Caller{UID: 1000, LoginUID: 1001, User: "alice", GID: 106, Groups: []string{"libvirt"}, PID: 4711, ReadOnly: true, Via: "virtproxyd", ViaPID: 812, Unit: "gitlab-runner.service", Executable: "/usr/bin/virsh"},
	})
	e := last(t, root, 1)
	if diff := cmp.Diff(&record.Request{Operation: "stop", Procedure: "domain_destroy_flags", UID: 1000, User: "alice", PID: 4711, Via: "virtproxyd", ViaPID: 812}, e.Result.Request); diff != "" {
		t.Error(diff)
	}
	input, ok := e.Input.(map[string]any)
	if !ok {
		t.Fatalf("%T", e.Input)
	}
	want := map[string]any{
		"operation": "stop",
		"request":   map[string]any{"procedure": "domain_destroy_flags", "flags": []any{"graceful"}, "destination": "nowhere"},
		"caller":    map[string]any{"uid": 1000.0, "login_uid": 1001.0, "user": "alice", "gid": 106.0, "groups": []any{"libvirt"}, "pid": 4711.0, "read_only": true, "via": "virtproxyd", "unit": "gitlab-runner.service", "executable": "/usr/bin/virsh"},
	}
	for field, value := range want {
		if diff := cmp.Diff(value, input[field]); diff != "" {
			t.Errorf("%s:\n%s", field, diff)
		}
	}
	if strings.Contains(string(read(t, filepath.Join(root, record.File))), "hunter2") {
		t.Error("the command is recorded")
	}
}

func TestAHooksRecordNamesNoRequest(t *testing.T) {
	root := testhost.Root(t)
	askStop(t, root, pgPrimary, capture)
	if e := last(t, root, 1); e.Result.Request != nil {
		t.Errorf("%+v", e.Result.Request)
	}
}

// A rule of a site may go by who asks, and by how.
func TestASiteMayLetOnlySomeStopADomain(t *testing.T) {
	root := testhost.Root(t, rulePath, siteHead+"veto contains \"ask the database team\" if {\n\tinput.operation == \"stop\"\n\tnot \"dba\" in input.caller.groups\n}")
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	xml := bytes.Replace(read(t, capture), []byte("2099-06-30"), []byte("2020-06-30"), 1) // the mark has lapsed
	ask := func(caller *policy.Caller) verdict {
		return request(t, root, stopguard.Request{Operation: "stop", Caller: caller, Domain: domain(t, xml)})
	}
	refused := verdict{Veto: "ask the database team (rule site)"}
	if got := ask(&policy.Caller{UID: 1000, User: "alice", Groups: []string{"libvirt"}}); got != refused {
		t.Errorf("alice: %+v", got)
	}
	if got := ask(&policy.Caller{UID: 1001, User: "dora", Groups: []string{"libvirt", "dba"}}); got != (verdict{}) {
		t.Errorf("dora: %+v", got)
	}
	if got := ask(nil); got != refused {
		t.Errorf("nobody knows who: %+v", got)
	}
}

func grantFor(t *testing.T, root, operation string) {
	t.Helper()
	want := ticket.Ticket{Domain: pgUUID, Operation: operation, Reason: "disk swap", Requester: "alice", NotAfter: time.Now().Add(time.Hour)}
	if _, err := (ticket.Store{Root: root}).Grant(want, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestOneTicketIsGoodForTheGatesQuestionAndTheHooks(t *testing.T) {
	root := testhost.Root(t)
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	grantFor(t, root, policy.OperationStop)
	for _, why := range []string{"the gate", "the gate again, after a shutdown that the guest ignored"} {
		if got := requestAt(t, root, time.Now(), stopguard.Request{Operation: "stop"}); got != (verdict{}) {
			t.Fatalf("%s: %+v", why, got)
		}
	}
	if got := askNow(t, root, pgPrimary, capture); got != (answer{}) {
		t.Fatalf("the hook: %+v", got)
	}
	list, _ := ticket.Store{Root: root}.List(time.Now())
	if len(list) != 1 || len(list[0].Claims) != 1 {
		t.Errorf("%+v", list)
	}
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	if got := requestAt(t, root, time.Now(), stopguard.Request{Operation: "stop"}); got.Veto != markVeto {
		t.Errorf("the next run: %+v", got)
	}
}

func TestATicketToStopPermitsNothingElse(t *testing.T) {
	root := testhost.Root(t)
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	xml := withMark(t, `operations="stop pause reset move modify"`)
	grantFor(t, root, policy.OperationStop)
	for _, operation := range []string{"pause", "reset", "move", "modify"} {
		if got := requestAt(t, root, time.Now(), stopguard.Request{Operation: operation, Domain: domain(t, xml)}); got.Veto != markVeto {
			t.Errorf("%s by a ticket to stop: %+v", operation, got)
		}
		grantFor(t, root, operation)
		if got := requestAt(t, root, time.Now(), stopguard.Request{Operation: operation, Domain: domain(t, xml)}); got != (verdict{}) {
			t.Errorf("%s by a ticket of its own: %+v", operation, got)
		}
	}
}

// What is not running cannot be told from its next run, so each change of it needs a ticket.
func TestATicketToModifyIsForOneChangeOfADomainThatIsOff(t *testing.T) {
	root := testhost.Root(t)
	testhost.Daemon(t, root)
	mkdir(t, root, "run/libvirt/qemu")
	xml := withMark(t, `operations="modify"`)
	grantFor(t, root, policy.OperationModify)
	ask := func() verdict {
		return requestAt(t, root, time.Now(), stopguard.Request{Operation: "modify", Procedure: "domain_undefine", Domain: domain(t, xml)})
	}
	if got := ask(); got != (verdict{}) {
		t.Errorf("%+v", got)
	}
	if got := ask(); got.Veto != markVeto {
		t.Errorf("%+v", got)
	}
}

// A transient domain is gone when it is destroyed, and so is what there was to delete.
func TestADeleteThatEndsARunIsMootWithoutOne(t *testing.T) {
	for _, tt := range []struct {
		why     string
		prepare func(t *testing.T, root string)
		want    verdict
	}{
		{"it runs", func(t *testing.T, root string) { pidFile(t, root, guest(t, pgUUID).Process.Pid) }, verdict{Veto: markVeto}},
		{"its guest is off, and only destroy helps", withStatus("shutdown", "unknown"), verdict{}},
	} {
		root := testhost.Root(t)
		testhost.Daemon(t, root)
		tt.prepare(t, root)
		if got := request(t, root, stopguard.Request{Operation: "delete", EndsRun: true, Domain: domain(t, withMark(t, ""))}); got != tt.want {
			t.Errorf("%s: %+v", tt.why, got)
		}
	}
}

// A program that was built for an older version asks by the former name, about both.
func TestARequestMayHaveTheFormerNameOfItsOperation(t *testing.T) {
	root := testhost.Root(t)
	testhost.Daemon(t, root)
	mkdir(t, root, "run/libvirt/qemu") // the domain does not run
	ask := func() verdict {
		return requestAt(t, root, time.Now(), stopguard.Request{Operation: "tamper", Domain: domain(t, withMark(t, `operations="tamper"`))})
	}
	if got := ask(); got.Veto != markVeto {
		t.Errorf("%+v", got)
	}
	grantFor(t, root, policy.OperationModify)
	if got := ask(); got.Veto != markVeto {
		t.Errorf("with a ticket for one of the two: %+v", got)
	}
	grantFor(t, root, policy.OperationModify)
	grantFor(t, root, policy.OperationDelete)
	if got := ask(); got != (verdict{}) {
		t.Errorf("with tickets: %+v", got)
	}
	grantFor(t, root, "tamper")
	if got := ask(); got != (verdict{}) {
		t.Errorf("with a ticket for both: %+v", got)
	}
	if got := ask(); got.Veto != markVeto {
		t.Errorf("which is used up: %+v", got)
	}
	for _, e := range events(t, root) {
		if e.Result.Request.Operation != policy.OperationModify && e.Result.Request.Operation != policy.OperationDelete {
			t.Errorf("%+v is recorded", e.Result.Request)
		}
	}
}

func TestAnEndThatARequestWasLetGoForIsNoEscape(t *testing.T) {
	tests := []struct {
		name, why string
		request   stopguard.Request
		after     time.Duration
		escape    bool
	}{
		{"a stop", "", stopguard.Request{Operation: "stop"}, 0, false},
		{"a shutdown that takes long", "its guest says when", stopguard.Request{Operation: "stop", Procedure: "domain_shutdown"}, 50 * time.Minute, false},
		{"a shutdown that was ignored", "what ends it much later is another matter", stopguard.Request{Operation: "stop", Procedure: "domain_shutdown"}, 61 * time.Minute, true},
		{"a move", "a libvirt before 10.5 does not say that it was one", stopguard.Request{Operation: "move"}, 30 * time.Minute, false},
		{"a reset", "it ends nothing, so what ends it is another matter", stopguard.Request{Operation: "reset"}, 0, true},
		{"a pause", "likewise", stopguard.Request{Operation: "pause"}, 0, true},
		{"a change", "likewise", stopguard.Request{Operation: "modify"}, 0, true},
		{"a start that ends with its connection", "that may be at any time", stopguard.Request{Operation: "stop", Deferred: true}, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const settings = "etc/stopguard/policy/data.yaml"
			root := testhost.Root(t, settings, "site:\n  monitor: [\"*\"]\n")
			pidFile(t, root, guest(t, pgUUID).Process.Pid)
			if got := requestAt(t, root, noon.Add(-tt.after), tt.request); got != (verdict{}) {
				t.Fatalf("%+v", got)
			}
			if err := os.Remove(filepath.Join(root, settings)); err != nil {
				t.Fatal(err)
			}
			release(t, root, "-")
			if got := len(events(t, root)) == 2; got != tt.escape {
				t.Errorf("an escape: %t, %s", got, tt.why)
			}
			if tt.escape && last(t, root, 2).Result.Outcome != record.Escape {
				t.Errorf("%+v", last(t, root, 2).Result)
			}
		})
	}
}

func TestARequestThatIsRefusedExcusesNoEscape(t *testing.T) {
	root := testhost.Root(t)
	pidFile(t, root, guest(t, pgUUID).Process.Pid)
	if got := request(t, root, stopguard.Request{Operation: "stop"}); got.Veto != markVeto {
		t.Fatalf("%+v", got)
	}
	release(t, root, "destroyed")
	if e := last(t, root, 2); e.Result.Outcome != record.Escape {
		t.Errorf("%+v", e.Result)
	}
}

func TestAnEscapeTellsWhatWasLastAskedAboutTheDomain(t *testing.T) {
	alice := &policy.Caller{UID: 1000, User: "alice", PID: 1}
	shutdown := stopguard.Request{Operation: "stop", Procedure: "DOMAIN_SHUTDOWN", Caller: alice}
	other := stopguard.Request{Operation: "modify", Caller: alice, Domain: domain(t, bytes.ReplaceAll(read(t, capture), []byte(pgUUID), []byte("16e14a01-2b11-40de-a128-75e3f4a5fe12")))}
	for _, tt := range []struct {
		why, want string
		settings  string
		asked     []stopguard.Request
	}{
		{"nothing was", "its guest or its process crashed", "", nil},
		{"a veto, and then somebody kills it", "its guest or its process crashed; last asked at 2026-11-22T10:00:00Z: stop by alice (DOMAIN_SHUTDOWN), veto", "", []stopguard.Request{shutdown}},
		{"a shutdown that was let go two hours ago", "its guest or its process crashed; last asked at 2026-11-22T10:00:00Z: stop by alice (DOMAIN_SHUTDOWN), allow",
			"site:\n  monitor: [\"*\"]\n", []stopguard.Request{shutdown}},
		{"another domain was asked about since", "its guest or its process crashed; last asked at 2026-11-22T10:00:00Z: stop by alice (DOMAIN_SHUTDOWN), veto", "", []stopguard.Request{shutdown, other}},
	} {
		root := testhost.Root(t)
		const settings = "etc/stopguard/policy/data.yaml"
		if tt.settings != "" {
			root = testhost.Root(t, settings, tt.settings)
		}
		pidFile(t, root, guest(t, pgUUID).Process.Pid)
		for _, r := range tt.asked {
			requestAt(t, root, noon.Add(-2*time.Hour), r)
		}
		if tt.settings != "" {
			if err := os.Remove(filepath.Join(root, settings)); err != nil {
				t.Fatal(err)
			}
		}
		release(t, root, "crashed")
		e := last(t, root, len(tt.asked)+1)
		if e.Result.Outcome != record.Escape || e.Result.Detail != tt.want {
			t.Errorf("%s: %s, %q, want %q", tt.why, e.Result.Outcome, e.Result.Detail, tt.want)
		}
	}
}

// Two of a group, of which one must go on: while the first is under way it still runs, and the
// second must see that it goes.
func TestWhatIsAboutToGoDoesNotCountAsRunning(t *testing.T) {
	const group = "etc/stopguard/policy/data.yaml"
	domains := map[string]string{"web-01": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "web-02": "26e14a01-2b11-40de-a128-75e3f4a5fe12"}
	for first, goes := range map[string]bool{"stop": true, "move": true, "pause": false, "reset": false} {
		root := testhost.Root(t, group, "site:\n  min_running:\n    operations: [stop, move, pause, reset]\n    groups:\n      - name: web\n        members: [\"web-*\"]\n        min: 1\n")
		xml := map[string][]byte{}
		for name, uuid := range domains {
			xml[name] = []byte(strings.NewReplacer("NAME", name, "UUID", uuid).Replace(`<domain type="kvm" id="7"><name>NAME</name><uuid>UUID</uuid></domain>`))
			runningDomain(t, root, name, string(xml[name]), guest(t, uuid).Process.Pid)
		}
		if got := request(t, root, stopguard.Request{Operation: first, Domain: domain(t, xml["web-01"])}); got != (verdict{}) {
			t.Errorf("%s, while the other runs: %+v", first, got)
		}
		got := request(t, root, stopguard.Request{Operation: "stop", Domain: domain(t, xml["web-02"])})
		if want := "group web needs 1 running on this host, and stopping this one leaves 0; start another first (rule min_running)"; goes != (got.Veto == want) || got.Fault != "" {
			t.Errorf("a stop after a %s: %+v", first, got)
		}
	}
}

func TestARequestIsDecidedNoLongerThanItsContext(t *testing.T) {
	root := testhost.Root(t, rulePath, siteHead+endless)
	for _, why := range []string{"a rule that loops", "a context that is done"} {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		if why != "a rule that loops" {
			cancel()
		}
		err := stopguard.Decide(stopguard.Config{Root: root})(ctx, stopguard.Request{Operation: "stop", Domain: domain(t, read(t, capture))})
		cancel()
		var veto *hookproto.Veto
		if err == nil || errors.As(err, &veto) || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestPromise8_a_request_to_stop_is_answered_as_the_hook_is(t *testing.T) {
	t.Parallel()
	root := sampleHost(t)
	for _, file := range pathFiles(t) {
		described := domain(t, read(t, file))
		hook := askStop(t, root, described.Name, file)
		got := request(t, root, stopguard.Request{Operation: "stop", Domain: described})
		if (hook.Exit == hookproto.ExitAllow) != (got == verdict{}) || (hook.Exit == hookproto.ExitVeto) != (got.Veto != "") {
			t.Errorf("%s: the hook says %+v, a request %+v", file, hook, got)
		}
		if !strings.Contains(hook.Line, got.Veto) && got.Veto == strings.ToValidUTF8(got.Veto, "") && len(got.Veto) < 500 {
			t.Errorf("%s: the hook says %q, a request %q", file, hook.Line, got.Veto)
		}
	}
	for _, e := range events(t, root) {
		if text, err := json.Marshal(e.Result.Reasons); err != nil || e.Result.Outcome == record.Fault {
			t.Errorf("%v: %s", err, text)
		}
	}
}

// TestAProgramThatStaysDecidesAsOneThatReadsAnew: the same code, whether the engine is kept or not.
func TestAProgramThatStaysDecidesAsOneThatReadsAnew(t *testing.T) {
	for why, host := range map[string][]string{
		"a mark":          nil,
		"a list":          {listPath, pgPrimary + "\n", "etc/stopguard/policy/data.yaml", "site:\n  protected_list:\n    operations: [stop, move]\n"},
		"a broken policy": {rulePath, "package"},
	} {
		root := testhost.Root(t, host...)
		pidFile(t, root, guest(t, pgUUID).Process.Pid)
		kept := &hostpolicy.EngineCache{Root: root}
		for _, operation := range policy.Operations() {
			r := stopguard.Request{Operation: operation, Domain: domain(t, withMark(t, `operations="reset"`))}
			want := request(t, root, r)
			for range 2 {
				got := decided(t, stopguard.Config{Root: root, Now: func() time.Time { return noon }, Engine: kept.Engine}, r)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s, %s:\n%s", why, operation, diff)
				}
			}
		}
	}
}
