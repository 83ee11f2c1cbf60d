package policy

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// whole compiles what is always on as a site's rules are compiled: at once, and with every check.
func whole(t testing.TB) *Engine {
	t.Helper()
	src, err := source.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, Config{List: []byte("listed-*\n")})
	e.onlyAlwaysOn = false
	if err := e.compile(src); err != nil {
		t.Fatal(err)
	}
	return e
}

// One of these must hold, in OPA's own words, wherever a rule has something to say. What mayApply
// looks at is the same.
var guards = map[string][]string{
	"hold":           {`internal.member_2(input.operation, input.domain.holds[X].operations)`},
	"protected_list": {`input.domain.listed[0]`},
	"protection_mark": {
		`input.domain.marks[X].in_force`,
		`X = input.domain.marks[X]`,
	},
}

var variable = regexp.MustCompile(`\b__local[0-9a-z_]*`)

// Partial evaluation, with nothing known of the input, gives all ways in which a rule comes to a
// reason or a note, each as a list of conditions.
func TestARuleThatIsNotAskedHasNothingToSay(t *testing.T) {
	e := programOf(t, newEngine(t, Config{})) // without the types of the input, which do not matter here
	if diff := cmp.Diff(library.AlwaysOn, slices.Sorted(maps.Keys(guards))); diff != "" {
		t.Fatal(diff)
	}
	for _, rule := range library.AlwaysOn {
		for _, set := range []string{"veto", "note"} {
			ways := waysTo(t, e, rule, set)
			if set == "veto" && len(ways) == 0 {
				t.Errorf("%s never vetoes", rule)
			}
			for _, way := range ways {
				if !slices.ContainsFunc(way, func(condition *ast.Expr) bool { return isGuard(rule, condition) }) {
					t.Errorf("%s.%s may speak of a domain that it is not asked about: %s", rule, set, way)
				}
			}
		}
	}
}

func isGuard(rule string, condition *ast.Expr) bool {
	if condition.Negated || len(condition.With) > 0 {
		return false
	}
	text := variable.ReplaceAllString(condition.String(), "X")
	return slices.ContainsFunc(guards[rule], func(guard string) bool {
		// An input that is read as an argument must be there; a comparison must be the whole
		// condition.
		return text == guard || !strings.ContainsAny(guard, "( ") && mentions(condition, guard)
	})
}

func mentions(condition *ast.Expr, path string) bool {
	found := false
	ast.WalkClosures(condition, func(any) bool { found = true; return true }) // what is read in a comprehension need not be there
	if found {
		return false
	}
	ast.WalkRefs(condition, func(ref ast.Ref) bool {
		found = found || ref.String() == path
		return false
	})
	return found
}

func waysTo(t *testing.T, e *program, rule, set string) []ast.Body {
	t.Helper()
	ref := ast.MustParseRef("data.stopguard.rules." + rule + "." + set)
	if len(e.compiler.GetRulesExact(ref)) == 0 {
		return nil
	}
	body, err := e.compiler.QueryCompiler().Compile(ast.MustParseBody(ref.String() + "[reason]"))
	if err != nil {
		t.Fatal(err)
	}
	txn, err := e.store.NewTransaction(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer e.store.Abort(context.Background(), txn)
	ways, _, err := topdown.NewQuery(body).WithCompiler(e.compiler).WithStore(e.store).WithTransaction(txn).
		WithUnknowns([]*ast.Term{ast.NewTerm(ast.InputRootRef)}).PartialRun(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return ways
}

func TestWhatIsAlwaysOnReadsNoMoreThanIsGathered(t *testing.T) {
	for _, path := range whole(t).reads.Paths {
		if len(path) == 0 || !alwaysOnReads.Has(path...) {
			t.Errorf("input.%s is read and would not be there", strings.Join(path, "."))
		}
	}
}

func TestRulesAreCompiledWhenTheyAreAsked(t *testing.T) {
	for _, tt := range []struct {
		why   string
		sites []Site
		waits bool
	}{
		{"there is no site", nil, true},
		{"its settings are about what is there", site("data.json", `{"site": {"monitor": ["*"], "cluster_managed": ["x"]}}`), true},
		{"it has a mask", site("mask.rego", "package system.log\n\nmask contains \"/input/domain/title\""), true},
		{"it has a rule", site("freeze.rego", head+`veto contains "x" if input.domain.name == "y"`), false},
		{"it configures a rule", site("data.json", `{"site": {"calendar": {"windows": []}}}`), false},
		{"it configures a rule that is always on", site("data.json", `{"site": {"protected_list": {}}}`), false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if e := newEngine(t, Config{Sites: tt.sites}); e.onlyAlwaysOn != tt.waits {
				t.Errorf("waits: %v, want %v", e.onlyAlwaysOn, tt.waits)
			}
		})
	}
}

// Asking only the rules that may have something to say gives the decision that asking all of them
// gives.
func FuzzMayApply(f *testing.F) {
	const mark = "urn:stopguard:protection:1"
	f.Add("web-01", mark, "protection", "billing", "2027-06-30", "", "", "running", "booted", "stop", false)
	f.Add("listed-1", "", "", "", "", "", "", "paused", "ioerror", "stop", false)
	f.Add("listed-1", mark, "protection", "", "2026-01-01", "", "", "", "", "stop", true)
	f.Add("web-01", " URN:StopGuard:protection", "protect", "", "", "", "", "", "", "stop", false)
	f.Add("web-01", "urn:stopguardian", "x", "", "", "", "", "", "", "stop", false)
	f.Add("web-01", "", "", "cut off", "", "", "", "", "", "stop", true)
	f.Add("web-01", "urn:other", "protection", "", "", "", "urn:\u017ftopguard", "", "", "stop", false)
	f.Add("web-01", "\u2003urn:stopguard\u00a0", "x\x00", "", "2262-04-12", "d19e7151-4c02-4aa7-a443-59213be70aba", mark, "paused", "migration", "pause", false)
	all := whole(f)
	lazy := newEngine(f, Config{List: []byte("listed-*\n")})
	f.Fuzz(func(t *testing.T, name, namespace, element, reason, until, of, second, state, why, operation string, unreadable bool) {
		d := parseDomain(t, plainDomain)
		d.Name = name
		d.Metadata = []domainxml.Element{
			{Name: element, Namespace: second, Children: []domainxml.Element{{Name: "protection", Namespace: mark}}},
			{Name: element, Namespace: namespace, Attributes: map[string]string{"reason": reason, "until": until, "domain": of}},
			{Name: element, Namespace: namespace},
		}
		if namespace == "" && second == "" {
			d.Metadata = nil
		}
		if unreadable {
			d.MetadataErr = errors.New(reason)
		}
		in := ask(d)
		in.Operation, in.State = operation, State{State: state, Reason: why}
		want, err := all.Decide(context.Background(), in)
		if err != nil {
			t.Skip(err) // cancelled for want of time, or not a state
		}
		if diff := cmp.Diff(want, decide(t, lazy, in)); diff != "" {
			t.Errorf("%+v: %s", in, diff)
		}
	})
}
