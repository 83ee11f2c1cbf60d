package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheZeroDecisionRefuses(t *testing.T) {
	var d Decision
	if d.Outcome != Fault || d.Outcome.String() != "fault" {
		t.Errorf("the zero outcome is %v", d.Outcome)
	}
}

func TestAnInputWithoutADomainIsAFault(t *testing.T) {
	e := newEngine(t, Config{})
	d, err := e.Decide(context.Background(), Input{Operation: OperationStop})
	testhost.WantError(t, err, "no domain")
	if diff := cmp.Diff(Decision{}, d); diff != "" {
		t.Error(diff)
	}
}

func TestAnOperationThatNoRuleKnowsIsAFault(t *testing.T) {
	e := newEngine(t, Config{List: []byte("*\n")})
	for _, operation := range []string{"", "destroy", "Stop", "stop "} {
		in := ask(parseDomain(t, plainDomain))
		in.Operation = operation
		d, err := e.Decide(context.Background(), in)
		testhost.WantError(t, err, "is unknown", "stop, delete, pause, reset, move, modify")
		if d.Outcome != Fault {
			t.Errorf("%q: %v", operation, d.Outcome)
		}
	}
}

func TestEveryReasonIsGivenSortedAndOnce(t *testing.T) {
	e := newEngine(t, Config{
		Sites: site("b.rego", `package stopguard.rules.b

veto contains "two"

veto contains "one"

veto contains {"message": "one"}

veto contains {"message": "three", "until": "2027-06-30"}
`),
		List: []byte("web-*\n"),
	})
	d := decide(t, e, ask(parseDomain(t, plainDomain)))
	want := []Reason{
		{Rule: "b", Message: "one"},
		{Rule: "b", Message: "three", Until: time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)},
		{Rule: "b", Message: "two"},
		{Rule: "protected_list", Message: "listed in /etc/libvirt/protected-domains as web-*; take it off the list to stop it"},
	}
	if diff := cmp.Diff(want, d.Reasons); diff != "" {
		t.Error(diff)
	}
	if d.Outcome != Veto || len(d.Revision) != 64 {
		t.Errorf("%v, revision %q", d.Outcome, d.Revision)
	}
}

func TestARuleMayImportALibraryOfTheSite(t *testing.T) {
	e := newEngine(t, Config{Sites: site(
		"lib.rego", "package company.teams\n\nteam(name) := split(name, \"-\")[0]\n\nunused := 1",
		"freeze.rego", head+"import data.company.teams\n\nveto contains sprintf(\"team %s\", [teams.team(input.domain.name)]) if data.site.freeze.on",
		"data.yaml", "site:\n  freeze:\n    on: true\n    from: 2026-12-20\n",
		"README.md", "# why", ".git/config", "x", ".hidden", "x",
	)})
	d := decide(t, e, ask(parseDomain(t, plainDomain)))
	if diff := cmp.Diff([]Reason{{Rule: "freeze", Message: "team web"}}, d.Reasons); diff != "" {
		t.Error(diff)
	}
}

// Any end that a rule sets can be formatted, or is ignored.
func TestAnEndBeyondAllCalendars(t *testing.T) {
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	tests := []struct {
		until, why string
		want       Reason
	}{
		{"9999-12-31", "its day ends in the year 10000", Reason{Rule: "freeze", Message: "x", Until: last}},
		{"9999-12-31T23:59:59-23:59", "in UTC it is in the year 10000", Reason{Rule: "freeze", Message: "x", Until: last}},
		{"9999-12-30", "", Reason{Rule: "freeze", Message: "x", Until: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)}},
		{"0000-01-01T00:00:00+10:00", "in UTC it is before the year 0", Reason{Rule: "freeze", Message: wrongShape}},
	}
	for _, tt := range tests {
		t.Run(tt.until, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("freeze.rego", head+`veto contains {"message": "x", "until": "`+tt.until+`"}`)})
			d := decide(t, e, ask(parseDomain(t, plainDomain)))
			if diff := cmp.Diff([]Reason{tt.want}, d.Reasons); diff != "" {
				t.Error(diff)
			}
			if _, err := json.Marshal(d); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatARuleNotesIsOnRecordAndRefusesNothing(t *testing.T) {
	xml := strings.Replace(plainDomain, "<memory", `<metadata>
    <protection xmlns="urn:stopguard:protection:1" domain="d19e7151-4c02-4aa7-a443-59213be70aba"/>
  </metadata><memory`, 1)
	d := decide(t, newEngine(t, Config{}), ask(parseDomain(t, xml)))
	want := Decision{Outcome: Allow, Notes: []Reason{{
		Rule:    "protection_mark",
		Message: "its mark was made for the domain d19e7151-4c02-4aa7-a443-59213be70aba, which this one is a clone of, and is inert",
	}}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}

func TestARuleMayReadTheWholeDocument(t *testing.T) {
	rule := head + `veto contains sprintf("%s of %s", [os.attributes.machine, input.xml.attributes.type]) if {
	some part in input.xml.children
	part.name == "os"
	some os in part.children
	os.text == "hvm"
}`
	d := decide(t, newEngine(t, Config{Sites: site("freeze.rego", rule)}), ask(parseDomain(t, plainDomain)))
	if diff := cmp.Diff([]Reason{{Rule: "freeze", Message: "q35 of kvm"}}, d.Reasons); diff != "" {
		t.Error(diff)
	}
}

func TestADateInYAMLStaysTheTextThatWasWritten(t *testing.T) {
	e := newEngine(t, Config{Sites: site(
		"freeze.rego", head+`veto contains data.site.freeze.from`,
		"data.yaml", "site:\n  freeze:\n    from: 2026-12-20\n",
	)})
	d := decide(t, e, ask(parseDomain(t, plainDomain)))
	if diff := cmp.Diff([]Reason{{Rule: "freeze", Message: "2026-12-20"}}, d.Reasons); diff != "" {
		t.Error(diff)
	}
}

// Each of these would run for minutes. What cannot be cancelled goes on, so the test keeps them as
// short as it can.
func TestDecideReturnsInTimeWhateverARuleDoes(t *testing.T) {
	tests := []struct {
		name, why, rule string
	}{
		{"a loop", "it is cancelled between two expressions",
			`veto contains "x" if {
	some a in numbers.range(1, 100000)
	some b in numbers.range(1, 100000)
	a * b == 0
}`},
		{"a long built-in", "it cannot be cancelled",
			`veto contains "x" if regex.match("[0-9][^u-z]{900}x", concat("", [s | some n in numbers.range(1, 20); s := sprintf("%04000d", [n])]))`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("freeze.rego", head+tt.rule)})
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			type answer struct {
				d   Decision
				err error
			}
			answered := make(chan answer, 1)
			go func() {
				d, err := e.Decide(ctx, ask(parseDomain(t, plainDomain)))
				answered <- answer{d, err}
			}()
			select {
			case a := <-answered:
				testhost.WantError(t, a.err, "took too long", "; ")
				if a.d.Outcome != Fault {
					t.Errorf("outcome %v", a.d.Outcome)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("no answer")
			}
		})
	}
}

func TestACancelledContextIsAFaultAndNoVeto(t *testing.T) {
	e := newEngine(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d, err := e.Decide(ctx, ask(parseDomain(t, plainDomain)))
	if err == nil || d.Outcome != Fault || !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "too long") {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := New(ctx, Config{}); err == nil {
		t.Error("New went on")
	}
}

func TestAnEngineServesManyAtOnce(t *testing.T) {
	e := newEngine(t, Config{List: []byte("web-0\nweb-2\nweb-4\nweb-6\n"), Sites: site("freeze.rego", head+`veto contains "odd" if input.domain.name in {"web-1", "web-3"}`)})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			xml := strings.Replace(plainDomain, "web-01", fmt.Sprintf("web-%d", n), 1)
			for range 50 {
				d, err := e.Decide(context.Background(), ask(parseDomain(t, xml)))
				want := Allow
				if n%2 == 0 || n < 4 {
					want = Veto
				}
				if err != nil || d.Outcome != want {
					t.Errorf("web-%d: %+v, %v", n, d, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestTheRevisionNamesTheSitesFiles(t *testing.T) {
	rule := head + `veto contains "x" if input.operation == "move"`
	revision := func(files ...string) string {
		e := newEngine(t, Config{Sites: site(files...)})
		return decide(t, e, ask(parseDomain(t, plainDomain))).Revision
	}
	one := revision("freeze.rego", rule)
	if again := revision("freeze.rego", rule); again != one {
		t.Error("the same files have two revisions")
	}
	if other := revision("freeze.rego", rule+"\n"); other == one {
		t.Error("other content has the same revision")
	}
	if other := revision("frost.rego", rule); other == one {
		t.Error("another name has the same revision")
	}
	if none := revision(); none != "" {
		t.Errorf("no files have revision %q", none)
	}
}
