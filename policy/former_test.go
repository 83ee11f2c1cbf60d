package policy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/domainxml"
)

// Sites wrote their rules when the operations modify and delete were one, called tamper.
func TestARuleThatKnowsTheFormerNameOfAnOperationGoesOnFiring(t *testing.T) {
	const head = "package stopguard.rules.freeze\n\n"
	const settings = `{"site": {"freeze": {"operations": ["stop", "tamper"], "verbs": {"tamper": "changed"}, "on": true}}}`
	for _, tt := range []struct {
		why, rule string
		vetoed    string // operations
		isNew     bool   // there is nothing to warn of
	}{
		{"a comparison", `veto contains "x" if input.operation == "tamper"`, "delete modify", false},
		{"the other way round", `veto contains "x" if "tamper" == input.operation`, "delete modify", false},
		{"unification", `veto contains "x" if input.operation = "tamper"`, "delete modify", false},
		{"a set", `veto contains "x" if input.operation in {"stop", "tamper"}`, "stop delete modify", false},
		{"a list", `veto contains "x" if input.operation in ["stop", "tamper"]`, "stop delete modify", false},
		{"a negation", `veto contains "x" if input.operation != "tamper"`, "stop pause reset move", false},
		{"not", `veto contains "x" if not input.operation == "tamper"`, "stop pause reset move", false},
		{"not in a set", `veto contains "x" if not input.operation in {"tamper", "pause"}`, "stop reset move", false},
		{"a variable for the constant", "veto contains \"x\" if {\n\tw := \"tamper\"\n\tinput.operation == w\n}", "delete modify", false},
		{"a variable for the field", "veto contains \"x\" if {\n\tasked := input.operation\n\tasked == \"tamper\"\n}", "delete modify", false},
		{"a member of a list", "veto contains \"x\" if {\n\tsome w in [\"tamper\", \"move\"]\n\tinput.operation == w\n}", "delete move modify", false},
		{"a helper set", "veto contains \"x\" if input.operation in words\n\nwords := {\"stop\", \"tamper\"}", "stop delete modify", false},
		{"a lookup in a helper set", "veto contains \"x\" if words[input.operation]\n\nwords := {\"stop\", \"tamper\"}", "stop delete modify", false},
		{"a key of an object", "veto contains verbs[input.operation]\n\nverbs := {\"tamper\": \"changed\"}", "delete modify", false},
		{"object.get", `veto contains "x" if object.get({"tamper": true}, input.operation, false)`, "delete modify", false},
		{"a function", "veto contains \"x\" if is(input.operation)\n\nis(o) if o == \"tamper\"", "delete modify", false},
		{"an argument in a head", "veto contains \"x\" if is(input.operation)\n\nis(\"tamper\") := true", "delete modify", false},
		{"else", "veto contains \"x\" if kind == 2\n\nkind := 1 if {\n\tinput.operation == \"stop\"\n} else := 2 if input.operation == \"tamper\"", "delete modify", false},
		{"a comprehension", `veto contains "x" if count([o | some o in ["tamper"]; o == input.operation]) > 0`, "delete modify", false},
		{"every", "veto contains \"x\" if every o in [\"stop\", \"tamper\"] {\n\to != input.operation\n}", "pause reset move", false},
		{"a regular expression", `veto contains "x" if regex.match("^(stop|tamper)$", input.operation)`, "stop delete modify", false},
		{"a part", `veto contains "x" if startswith(input.operation, "tam")`, "delete modify", false},
		{"a glob", `veto contains "x" if glob.match("tam*", [], input.operation)`, "delete modify", false},
		{"a setting", `veto contains "x" if input.operation in data.site.freeze.operations`, "stop delete modify", false},
		{"a key of a setting", `veto contains data.site.freeze.verbs[input.operation]`, "delete modify", false},
		{"a helper of the library", `veto contains "x" if data.stopguard.operation.among(["tamper"])`, "stop delete modify", false},
		{"a reason that has the operation", `veto contains sprintf("no %s", [input.operation]) if input.operation == "tamper"`, "delete modify", false},
		{"a mark's operations", "veto contains \"x\" if {\n\tinput.operation == \"tamper\"\n\tsome m in input.domain.marks\n\tinput.operation in m.operations\n}", "delete modify", false},
		{"a mark's operations, of another operation", "veto contains \"x\" if {\n\tinput.operation == \"pause\"\n\tsome m in input.domain.marks\n\t\"tamper\" in m.operations\n}", "pause", false},
		{"what is written in metadata", "veto contains \"x\" if {\n\tinput.operation == \"tamper\"\n\tsome e in input.domain.metadata\n\t\"tamper\" in split(e.attributes.operations, \" \")\n}", "delete modify", false},
		{"both names", `veto contains "x" if input.operation in {"modify", "tamper"}`, "delete modify", false},
		{"both names, each in a clause", "veto contains \"x\" if input.operation == \"tamper\"\n\nveto contains \"y\" if input.operation == \"modify\"", "delete modify", false},
		{"neither name, negated", "veto contains \"x\" if {\n\tinput.operation != \"tamper\"\n\tinput.operation != \"modify\"\n}", "stop delete pause reset move", false},
		{"the present name", `veto contains "x" if input.operation == "modify"`, "modify", true},
		{"the other present name", `veto contains "x" if input.operation == "delete"`, "delete", true},
		{"the present name, negated", `veto contains "do not tamper with it" if input.operation != "modify"`, "stop delete pause reset move", true},
		{"a rule that is not about operations", `veto contains "x" if input.domain.title == "tamper"`, "stop delete pause reset move modify", true},
		{"a rule about operations and a title", "veto contains \"x\" if {\n\tinput.operation != \"stop\"\n\tinput.domain.title == \"tamper\"\n}", "delete pause reset move modify", false},
	} {
		files := []string{"freeze.rego", head + tt.rule + "\n"}
		if strings.Contains(tt.rule, "data.site") {
			files = append(files, "data.json", settings)
		}
		e, err := New(context.Background(), Config{Sites: site(files...)})
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		warnings := slices.DeleteFunc(e.Warnings(), func(err error) bool { return errors.Is(err, ErrEveryOperation) })
		if warned := len(warnings) > 0; warned == tt.isNew {
			t.Errorf("%s: the warnings are %q", tt.why, warnings)
		}
		in := marked(t, `operations="stop tamper" domain="00000000-0000-4000-8000-000000000000"`) // inert
		in.Domain.Title = "tamper"
		var vetoed []string
		for _, operation := range Operations() {
			in.Operation = operation
			x, err := e.Explain(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range x.Decision.Reasons {
				if strings.HasPrefix(r.Message, "rule failed") {
					t.Errorf("%s: %s", tt.why, r.Message)
				}
			}
			if x.Decision.Outcome == Veto {
				vetoed = append(vetoed, operation)
				checkLines(t, tt.why, x)
			}
		}
		if got := strings.Join(vetoed, " "); got != tt.vetoed {
			t.Errorf("%s: %s is vetoed, not %s", tt.why, got, tt.vetoed)
		}
	}
}

// checkLines fails if an explanation does not name the clauses of a rule that begins in line 3.
func checkLines(t *testing.T, why string, x Explanation) {
	t.Helper()
	for _, rule := range x.Rules {
		for _, r := range rule.Reasons {
			if r.Line < 3 {
				t.Errorf("%s: the reason %q comes from line %d", why, r.Message, r.Line)
			}
		}
	}
}

// The library's helpers say the same to a rule that knows the former name.
func TestAReasonSaysTheVerbOfAFormerName(t *testing.T) {
	e := newEngine(t, Config{Sites: site("freeze.rego", `package stopguard.rules.freeze

import data.stopguard.operation

veto contains sprintf("do not %s it", [operation.verb]) if operation.among(["tamper"])
`)})
	for operation, want := range map[string]string{OperationModify: "do not change it", OperationDelete: "do not change it", OperationStop: "do not stop it"} {
		if d := decideAbout(t, e, ask(parseDomain(t, plainDomain)), operation); len(d.Reasons) != 1 || d.Reasons[0].Message != want {
			t.Errorf("%s: %+v", operation, d.Reasons)
		}
	}
}

func TestAWarningSaysWhereAFormerNameIs(t *testing.T) {
	e := newEngine(t, Config{Sites: site(
		"freeze.rego", "package stopguard.rules.freeze\n\nveto contains \"x\" if input.operation in data.lib.words.all\n\nveto contains \"y\" if input.operation in data.site.freeze.operations\n",
		"words.rego", "package lib.words\n\nall := {\n\t\"tamper\",\n}\n",
		"data.yaml", "site:\n  freeze:\n    operations: [tamper]\n",
	)})
	var got []string
	for _, warning := range e.Warnings() {
		got = append(got, warning.Error())
	}
	const rest = ` names the operation "tamper", which is called modify or delete now; write modify, delete or both`
	if want := "data.site.freeze.operations" + rest + "\nsite/words.rego:3" + rest; strings.Join(got, "\n") != want {
		t.Errorf("the warnings are %q", got)
	}
}

func TestSettingsOfTheLibraryKnowTheFormerName(t *testing.T) {
	const content = "site:\n  protected_list: {operations: [stop, tamper]}\n"
	e := newEngine(t, Config{List: []byte("web-01\n"), Sites: site("data.yaml", content)})
	for operation, verb := range map[string]string{OperationModify: "change", OperationDelete: "delete"} {
		d := decideAbout(t, e, ask(parseDomain(t, plainDomain)), operation)
		if len(d.Reasons) != 1 || d.Reasons[0].Message != "listed in /etc/libvirt/protected-domains; take it off the list to "+verb+" it" {
			t.Errorf("%+v", d)
		}
	}
}

func TestAMarkKnowsTheFormerName(t *testing.T) {
	e := newEngine(t, Config{})
	for operation, want := range map[string]Outcome{OperationModify: Veto, OperationDelete: Veto, "tamper": Veto, OperationReset: Veto, OperationPause: Allow} {
		if d := decideAbout(t, e, marked(t, `operations="reset tamper"`), operation); d.Outcome != want {
			t.Errorf("%s: %+v", operation, d)
		}
	}
}

// A record, or a client of an older version, has the former name.
func TestADocumentKnowsTheFormerName(t *testing.T) {
	e := newEngine(t, Config{Sites: site("freeze.rego", "package stopguard.rules.freeze\n\nveto contains \"x\" if input.operation == \"tamper\"\n",
		"old.rego", "package stopguard.rules.new\n\nveto contains \"y\" if input.operation == \"modify\"\n")})
	for name, want := range map[string]string{"tamper": "freeze new protection_mark", "modify": "freeze new protection_mark", "delete": "freeze protection_mark"} {
		content := `{"input": {"version": 1, "operation": "` + name + `", "time": "2026-11-22T12:00:00Z", "domain": {"name": "web-01",
			"uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "listed": [], "state": "", "reason": "", "metadata": [{"name": "protection", "namespace": "urn:stopguard:protection:1",
			"attributes": {"operations": "tamper"}, "text": "", "children": []}], "metadata_error": ""}}}`
		d, err := ParseQuestion([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		replayed, err := e.Replay(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		var rules []string
		for _, r := range replayed.Decision.Reasons {
			rules = append(rules, r.Rule)
		}
		if got := strings.Join(rules, " "); got != want {
			t.Errorf("%s: %s; %+v", name, got, replayed.Missing)
		}
	}
}

func TestAMaskKnowsTheFormerName(t *testing.T) {
	e := newEngine(t, Config{Sites: site("mask.rego", "package system.log\n\nmask contains \"/input/domain/title\" if input.input.operation == \"tamper\"\n")})
	for operation, want := range map[string]string{OperationModify: "/input/domain/title /input/xml", OperationDelete: "/input/domain/title /input/xml", OperationStop: ""} {
		in := ask(&domainxml.Domain{Name: "web-01", UUID: "16e14a01-2b11-40de-a128-75e3f4a5fe12", Title: "secret"})
		in.Operation = operation
		r, err := e.Recorded(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Erased, " "); got != want {
			t.Errorf("%s: %q is erased", operation, got)
		}
		if got := r.Input.(map[string]any)["operation"]; got != operation {
			t.Errorf("%s is recorded as %v", operation, got)
		}
	}
}

func TestARuleInGoIsAskedByThePresentNames(t *testing.T) {
	e := newEngine(t, Config{Rules: map[string]Rule{"mine": func(_ context.Context, in Input) ([]Reason, error) {
		return []Reason{{Message: in.Operation}}, nil
	}}})
	if d := decideAbout(t, e, ask(parseDomain(t, plainDomain)), "tamper"); len(d.Reasons) != 2 || d.Reasons[0].Message != OperationDelete || d.Reasons[1].Message != OperationModify {
		t.Errorf("%+v", d)
	}
}
