package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
)

// says returns a Go rule that gives reasons.
func says(reasons ...Reason) Rule {
	return func(context.Context, Input) ([]Reason, error) { return reasons, nil }
}

// only returns the decision's reasons of one rule.
func only(reasons []Reason, rule string) (of []Reason) {
	for _, r := range reasons {
		if r.Rule == rule {
			of = append(of, r)
		}
	}
	return of
}

func TestAGoRuleVetoesAsARegoRuleDoes(t *testing.T) {
	day := time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)
	failed := func(why string) []Reason { return []Reason{{Rule: "ci", Message: "rule failed: " + why}} }
	wrong := []Reason{{Rule: "ci", Message: wrongShape}}
	for _, tt := range []struct {
		name, why string
		rule      Rule
		want      []Reason
	}{
		{"nothing against it", "", says(), nil},
		{"a reason", "the rule's name is filled in", says(Reason{Message: "no"}), []Reason{{Rule: "ci", Message: "no"}}},
		{"its own name", "", says(Reason{Rule: "ci", Message: "no", Until: day}), []Reason{{Rule: "ci", Message: "no", Until: day}}},
		{"another's name", "monitor mode goes by the name", says(Reason{Rule: "protected_list", Message: "no"}), wrong},
		{"no message", "an allow by a slip", says(Reason{}), wrong},
		{"a blank message", "", says(Reason{Message: " \n"}), wrong},
		{"before all calendars", "a record could not hold it", says(Reason{Message: "no", Until: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}), wrong},
		{"beyond all calendars", "as of a Rego rule", says(Reason{Message: "no", Until: lastTime.AddDate(1, 0, 0)}), []Reason{{Rule: "ci", Message: "no", Until: lastTime}}},
		{"in another zone", "until is in UTC everywhere", says(Reason{Message: "no", Until: day.In(time.FixedZone("", 3600))}), []Reason{{Rule: "ci", Message: "no", Until: day}}},
		{"twice", "", says(Reason{Message: "no"}, Reason{Message: "no"}), []Reason{{Rule: "ci", Message: "no"}}},
		{"bytes that are no text", "a line and JSON are text", says(Reason{Message: "a\xff"}), []Reason{{Rule: "ci", Message: "a\uFFFD"}}},
		{"an error", "", func(context.Context, Input) ([]Reason, error) { return nil, errors.New("a\nb") }, failed("a b")},
		{"an error without a text", "", func(context.Context, Input) ([]Reason, error) { return nil, errors.New("") }, failed("")},
		{"a panic", "", func(context.Context, Input) ([]Reason, error) { panic("a\nb") }, failed("it panicked: a b")},
		{"an error that panics", "it is asked for its text", func(context.Context, Input) ([]Reason, error) { return nil, (*nilError)(nil) }, failed("it panicked: no text")},
		{"the end of its goroutine", "there is nothing to recover", func(context.Context, Input) ([]Reason, error) { runtime.Goexit(); return nil, nil }, failed("it ended without an answer")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, Config{Rules: map[string]Rule{"ci": tt.rule}})
			d := decide(t, e, ask(parseDomain(t, plainDomain)))
			if diff := cmp.Diff(tt.want, d.Reasons); diff != "" || (d.Outcome == Veto) != (tt.want != nil) {
				t.Errorf("%s: %s (-want +got):\n%s", tt.why, d.Outcome, diff)
			}
			if diff := cmp.Diff([]string{"ci"}, d.GoRules); diff != "" {
				t.Error(diff)
			}
		})
	}
}

type nilError struct{}

func (*nilError) Error() string { panic("no text") }

func TestGoRulesAndRegoRulesAreAllAsked(t *testing.T) {
	c := Config{
		Sites: site("freeze.rego", "package stopguard.rules.freeze\n\nveto contains \"frozen\"\n", "data.json", `{"site": {"monitor": ["quiet"]}}`),
		List:  []byte("web-01\n"),
		Rules: map[string]Rule{"quiet": says(Reason{Message: "on trial"}), "ci": says(Reason{Message: "a job runs"})},
	}
	d := decide(t, newEngine(t, c), ask(parseDomain(t, plainDomain)))
	var rules []string
	for _, r := range d.Reasons {
		rules = append(rules, r.Rule)
	}
	if diff := cmp.Diff([]string{"ci", "freeze", "protected_list"}, rules); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Reason{{Rule: "quiet", Message: "on trial"}}, d.Monitored); diff != "" {
		t.Error(diff)
	}
}

func TestNothingOfAGoRuleIsEnforcedWhereNothingIs(t *testing.T) {
	for _, tt := range []struct {
		why      string
		settings string
		in       func(*Input)
		want     string
	}{
		{"a cluster's domain", `{"site": {"cluster_managed": ["web-*"]}}`, func(*Input) {}, ClusterManaged},
		{"a host that shuts down", `{"site": {}}`, func(in *Input) { in.ShuttingDown = true }, ShuttingDown},
		{"monitor mode", `{"site": {"monitor": ["*"]}}`, func(*Input) {}, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("data.json", tt.settings), Rules: map[string]Rule{"ci": func(context.Context, Input) ([]Reason, error) { panic("always") }}})
			in := ask(parseDomain(t, plainDomain))
			tt.in(&in)
			d := decide(t, e, in)
			if d.Outcome != Allow || d.Unenforced != tt.want || len(only(d.Monitored, "ci")) != 1 {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestAGoRuleThatIsLateVetoesInItsName(t *testing.T) {
	for _, tt := range []struct {
		why  string
		rule func(stop <-chan struct{}) Rule
	}{
		{"it heeds nothing", func(stop <-chan struct{}) Rule {
			return func(context.Context, Input) ([]Reason, error) { <-stop; return nil, nil }
		}},
		{"it gives up when its context does", func(<-chan struct{}) Rule {
			return func(ctx context.Context, _ Input) ([]Reason, error) { <-ctx.Done(); return nil, ctx.Err() }
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			stop := make(chan struct{})
			defer close(stop)
			e := newEngine(t, Config{List: []byte("web-01\n"), Rules: map[string]Rule{"slow": tt.rule(stop), "quick": says(Reason{Message: "no"})}})
			for range 10 { // a busy machine may take the margin away once
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				d, err := e.Decide(ctx, ask(parseDomain(t, plainDomain)))
				if ctx.Err() != nil {
					continue
				}
				if err != nil || len(only(d.Reasons, "slow")) != 1 || len(only(d.Reasons, "quick")) != 1 || len(only(d.Reasons, "protected_list")) != 1 {
					t.Errorf("%+v, %v", d, err)
				}
				return
			}
			t.Error("the answer always comes after its time")
		})
	}
}

func TestACallerThatLeavesHasNoDecisionOfAGoRule(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	e := newEngine(t, Config{Rules: map[string]Rule{"ci": func(ctx context.Context, _ Input) ([]Reason, error) { cancel(); <-ctx.Done(); return nil, nil }}})
	d, err := e.Decide(ctx, ask(parseDomain(t, plainDomain)))
	testhost.WantError(t, err, "has gone before it was decided")
	if d.Outcome != Fault {
		t.Errorf("%+v", d)
	}
}

func TestAGoRuleHasANameOfItsOwn(t *testing.T) {
	rego := site("freeze.rego", "package stopguard.rules.freeze\n\nveto contains \"frozen\"\n")
	for _, tt := range []struct{ name, why, want string }{
		{"freeze", "of a site's rule", "the name of another rule"},
		{"protection_mark", "of a rule that is on", "the name of another rule"},
		{"calendar", "of a rule of the library that is off, and may be on tomorrow", "the name of another rule"},
		{"monitor", "data.site.monitor means something else", "the name of the setting"},
		{"", "", "no usable name"},
		{"CI", "", "no usable name"},
		{"ci-jobs", "a package could not be called so", "no usable name"},
		{"ci\n", "", "no usable name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules := map[string]Rule{tt.name: says()}
			_, err := New(context.Background(), Config{Sites: rego, Rules: rules})
			testhost.WantError(t, err, tt.want, "; ")
			_, err = newEngine(t, Config{Sites: rego}).WithRules(rules)
			testhost.WantError(t, err, tt.want, "; ")
		})
	}
	e := newEngine(t, Config{Rules: map[string]Rule{"ci": says()}})
	_, err := e.WithRules(map[string]Rule{"ci": says()})
	testhost.WantError(t, err, "the name of another rule")
	_, err = e.WithRules(map[string]Rule{"nothing": nil})
	testhost.WantError(t, err, "is nil")
}

func TestAddingGoRulesLeavesTheEngineAsItIs(t *testing.T) {
	e := newEngine(t, Config{Rules: map[string]Rule{"b": says()}})
	one, err := e.WithRules(map[string]Rule{"c": says(), "a": says()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.WithRules(map[string]Rule{"d": says()}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.GoRules(), one.GoRules()); got != "[b] [a b c]" {
		t.Error(got)
	}
}

// A program without the Go rules, such as the stock tool, decides by the same settings.
func TestSettingsMayNameGoRulesThatAProgramDoesNotHave(t *testing.T) {
	settings := site("data.json", `{"site": {"go_rules": ["slot", "ci"], "monitor": ["ci"]}}`)
	e := newEngine(t, Config{Sites: settings})
	if diff := cmp.Diff([]string{"ci", "slot"}, e.MissingGoRules()); diff != "" {
		t.Error(diff)
	}
	e, err := e.WithRules(map[string]Rule{"ci": says(Reason{Message: "no"})})
	if err != nil {
		t.Fatal(err)
	}
	if d := decide(t, e, ask(parseDomain(t, plainDomain))); d.Outcome != Allow || len(d.Monitored) != 1 {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff([]string{"slot"}, e.MissingGoRules()); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct{ settings, want string }{
		{`{"site": {"monitor": ["ci"]}}`, "is no loaded rule"},
		{`{"site": {"go_rules": ["calendar"]}}`, "a rule in Rego"},
		{`{"site": {"go_rules": ["*"]}}`, "no rule can be called"},
		{`{"site": {"go_rules": "ci"}}`, "not a list"},
	} {
		_, err := New(context.Background(), Config{Sites: site("data.json", tt.settings)})
		testhost.WantError(t, err, tt.want)
	}
}

func TestAGoRuleReadsTheRunningDomainsOnDemand(t *testing.T) {
	domains := []HostDomain{{Name: "web-02"}}
	reads := 0
	var got [][]HostDomain
	var errs []error
	rule := func(ctx context.Context, in Input) ([]Reason, error) {
		d, err := in.Host.Running(ctx)
		got, errs = append(got, d), append(errs, err)
		return nil, nil
	}
	e := newEngine(t, Config{Rules: map[string]Rule{"a": func(ctx context.Context, in Input) ([]Reason, error) {
		_, _ = rule(ctx, in)
		return rule(ctx, in)
	}}})
	if e.Reads(PathHostDomains) || !e.Reads(PathHostName) {
		t.Error("a Go rule reads the running domains by itself, and all else may be read")
	}
	in := ask(parseDomain(t, plainDomain))
	in.Host.Domains = nil
	in.Host.Running = func(context.Context) ([]HostDomain, error) { reads++; return domains, nil }
	decide(t, e, in)
	if reads != 1 || !slices.EqualFunc(got, [][]HostDomain{domains, domains}, func(a, b []HostDomain) bool { return cmp.Equal(a, b) }) {
		t.Errorf("%d reads, %v", reads, got)
	}
	in.Host.Domains = domains
	decide(t, e, in)
	if reads != 1 || !cmp.Equal(got[3], domains) {
		t.Errorf("%d reads, %v", reads, got)
	}
	in.Host = Host{Name: "kvm-01"}
	decide(t, e, in)
	if err := errs[len(errs)-1]; err == nil || !strings.Contains(err.Error(), "set one of them") {
		t.Error(err)
	}
}

// A document has no XML and no Go values, so a Go rule cannot be asked about it, which is not an
// allow.
func TestADocumentIsNotDecidedWithoutTheGoRules(t *testing.T) {
	e := newEngine(t, Config{Rules: map[string]Rule{"ci": says()}})
	document := parseDocument(t, written(t, e, fullInput(t)))
	d, err := e.DecideDocument(context.Background(), document)
	var missing *MissingInputError
	if !errors.As(err, &missing) || d.Outcome != Fault {
		t.Fatalf("%+v, %v", d, err)
	}
	want := []MissingInput{{"ci", []string{"input"}}}
	if diff := cmp.Diff(want, missing.Missing); diff != "" {
		t.Error(diff)
	}
	r, err := e.Replay(context.Background(), document)
	if diff := cmp.Diff(want, r.Missing); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestAGoRuleIsExplained(t *testing.T) {
	e := newEngine(t, Config{Rules: map[string]Rule{"ci": says(Reason{Message: "a job runs"}), "slot": says()}})
	x := explain(t, e, plainDomain)
	if r := ruleNamed(t, x, "ci"); len(r.Reasons) != 1 || !r.Reasons[0].Enforced || r.File != "" {
		t.Errorf("%+v", r)
	}
	if r := ruleNamed(t, x, "slot"); len(r.Reasons) != 0 {
		t.Errorf("%+v", r)
	}
}
