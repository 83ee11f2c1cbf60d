package policy

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/document"
)

// marked is a domain with a mark that has the attributes.
func marked(t testing.TB, attributes string) Input {
	return ask(parseDomain(t, strings.Replace(plainDomain, "<memory ", `<metadata><p:protection xmlns:p="urn:stopguard:protection:1" reason="billing" `+attributes+`/></metadata><memory `, 1)))
}

func attribute(name, value string) string {
	var b strings.Builder
	b.WriteString(name + `="`)
	_ = xml.EscapeText(&b, []byte(value)) // a Builder does not fail
	b.WriteString(`"`)
	return b.String()
}

func decideAbout(t testing.TB, e *Engine, in Input, operation string) Decision {
	in.Operation = operation
	return decide(t, e, in)
}

func TestOperationsAreTheCallersOwn(t *testing.T) {
	Operations()[0] = "x"
	if Operations()[0] != OperationStop {
		t.Error("the list can be changed")
	}
}

func TestTheListProtectsAgainstWhatTheSiteNames(t *testing.T) {
	const settings = `{"site": {"protected_list": {"operations": ["stop", "reset", "modify"]}}}`
	listed := ask(parseDomain(t, plainDomain))
	for _, tt := range []struct {
		operation, why string
		without, with  string // reasons, without and with the settings
	}{
		{OperationStop, "in either case", "listed in /etc/libvirt/protected-domains; take it off the list to stop it", "listed in /etc/libvirt/protected-domains; take it off the list to stop it"},
		{OperationReset, "it is named", "", "listed in /etc/libvirt/protected-domains; take it off the list to reset it"},
		{OperationModify, "it is named", "", "listed in /etc/libvirt/protected-domains; take it off the list to change it"},
		{OperationDelete, "it is not, so it is against less than without", "listed in /etc/libvirt/protected-domains; take it off the list to delete it", ""},
		{OperationPause, "it is not", "", ""},
		{OperationMove, "it is not", "", ""},
	} {
		for _, c := range []struct {
			sites []Site
			want  string
		}{{nil, tt.without}, {site("data.json", settings), tt.with}} {
			d := decideAbout(t, newEngine(t, Config{List: []byte("web-01\n"), Sites: c.sites}), listed, tt.operation)
			got := ""
			if len(d.Reasons) > 0 {
				got = d.Reasons[0].Message
			}
			if got != c.want || (d.Outcome == Veto) != (c.want != "") {
				t.Errorf("%s, %d sites (%s): %q, not %q", tt.operation, len(c.sites), tt.why, got, c.want)
			}
		}
	}
}

func TestSettingsThatLeaveTheStopOutAreRefusedAtLoad(t *testing.T) {
	for _, settings := range []string{
		`{"site": {"protected_list": {"operations": ["reset"]}}}`,
		`{"site": {"calendar": {"freezes": [], "operations": []}}}`,
		`{"site": {"protection_mark": {"operations": ["delete"]}}}`,
		`{"site": {"block_job": {"operations": ["move"]}}}`,
	} {
		_, err := New(context.Background(), Config{Sites: site("data.json", settings)})
		testhost.WantError(t, err, "site/data.json", ".operations", "`stop` must be among them", "correct or remove it")
	}
	_, err := New(context.Background(), Config{Sites: site("data.json", `{"site": {"protected_list": {"operations": ["stop", "destroy"]}}}`)})
	testhost.WantError(t, err, "site/data.json", "protected_list.operations.1", "must be one of")
}

// A rule that does not say what it answers for answers for everything: whoever reads it can see
// that.
func TestASitesRuleThatNamesNoOperationFiresForAll(t *testing.T) {
	e := newEngine(t, Config{Sites: site("freeze.rego", head+`veto contains "freeze"`, "gpu.rego", "package stopguard.rules.gpu\n\nveto contains \"gpu\" if input.operation in {\"stop\", \"move\"}")})
	for _, operation := range Operations() {
		d := decideAbout(t, e, ask(parseDomain(t, plainDomain)), operation)
		want := 1
		if operation == OperationStop || operation == OperationMove {
			want = 2
		}
		if len(d.Reasons) != want {
			t.Errorf("%s: %+v", operation, d.Reasons)
		}
	}
}

func TestARuleMayAskWhoAndHow(t *testing.T) {
	e := newEngine(t, Config{Sites: site("who.rego", `package stopguard.rules.who

veto contains message if {
	input.operation == "stop"
	not "dba" in input.caller.groups
	message := sprintf("%s (%d, login %d, gid %d) is not of the group dba", [input.caller.user, input.caller.uid, input.caller.login_uid, input.caller.gid])
}

veto contains "by the monitor" if input.request.command != ""

veto contains message if {
	"graceful" in input.request.flags
	message := sprintf("%s to %s", [input.request.procedure, input.request.destination])
}

veto contains "may only read" if input.caller.read_only
`)})
	in := ask(parseDomain(t, plainDomain))
	in.Caller = &Caller{UID: 1000, LoginUID: UnknownID, User: "alice", GID: 106, Groups: []string{"alice", "libvirt"}}
	in.Request = Request{Procedure: "domain_destroy_flags", Flags: []string{"graceful"}, Destination: "nowhere"}
	d := decide(t, e, in)
	want := []Reason{
		{Rule: "who", Message: "alice (1000, login -1, gid 106) is not of the group dba"},
		{Rule: "who", Message: "domain_destroy_flags to nowhere"},
	}
	if diff := cmp.Diff(want, d.Reasons); diff != "" {
		t.Error(diff)
	}
	in.Caller.Groups, in.Request = append(in.Caller.Groups, "dba"), Request{Command: "quit"}
	if d := decide(t, e, in); len(d.Reasons) != 1 || d.Reasons[0].Message != "by the monitor" {
		t.Errorf("%+v", d.Reasons)
	}
}

func TestWhatIsNotKnownOfACallerIsThereAllTheSame(t *testing.T) {
	got := documentOf(t, ask(parseDomain(t, plainDomain)), document.Reads{Paths: [][]string{{"caller"}, {"request"}}}.Tree())
	want := map[string]any{
		"caller":  map[string]any{"uid": json.Number("-1"), "login_uid": json.Number("-1"), "user": "", "gid": json.Number("-1"), "groups": []any{}, "pid": json.Number("0"), "read_only": false, "via": "", "unit": "", "executable": ""},
		"request": map[string]any{"procedure": "", "flags": []any{}, "command": "", "destination": ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Whatever stands in a mark's operations, a stop is refused, in the same words as without it; and
// what is refused besides is what it names, a delete unless it names a stop, or everything if it
// cannot be read.
func FuzzMarkOperations(f *testing.F) {
	for _, seed := range []string{"", "stop", "reset", "stop reset move modify pause", "stop,reset", "tamper", "none", "-stop", "STOP", "stop\x00", " \t\nreset ", "stop\u00a0reset", strings.Repeat("stop ", 21)} {
		f.Add(seed)
	}
	e := newEngine(f, Config{})
	plain := decide(f, e, marked(f, ""))
	f.Fuzz(func(t *testing.T, operations string) {
		if len(operations) > 1<<16 {
			return
		}
		in := marked(t, attribute("operations", operations))
		if in.Domain.MetadataErr != nil {
			return // a character that XML has not; it vetoes in other words
		}
		if diff := cmp.Diff(plain, decide(t, e, in)); diff != "" {
			t.Errorf("%q changes what becomes of a stop:\n%s", operations, diff)
		}
		text := in.Domain.Metadata[0].Attributes["operations"] // as XML has it
		words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) })
		unread := slices.ContainsFunc(words, func(w string) bool { return !slices.Contains(append(Operations(), "tamper"), w) })
		if slices.Contains(words, "tamper") {
			words = append(words, OperationModify, OperationDelete)
		}
		for _, operation := range Operations()[1:] {
			want := Allow
			isPlain := operation == OperationDelete && !slices.Contains(words, OperationStop)
			if unread || isPlain || slices.Contains(words, operation) {
				want = Veto
			}
			if d := decideAbout(t, e, in, operation); d.Outcome != want {
				t.Errorf("%q, asked to %s: %v, not %v", text, operation, d.Outcome, want)
			}
		}
	})
}

func TestADocumentOfAnOperationThatNoRuleKnowsIsRefused(t *testing.T) {
	in := ask(parseDomain(t, plainDomain))
	for operation, known := range map[string]bool{OperationReset: true, "destroy": false} {
		in.Operation = operation
		value, err := inputValue(in, nil, document.Reads{All: true}.Tree())
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseDocument([]byte(value.String()), nil)
		if known && err != nil {
			t.Errorf("%s: %v", operation, err)
		}
		if !known {
			testhost.WantError(t, err, "input.operation", `the operation "destroy" is unknown`)
		}
	}
}
