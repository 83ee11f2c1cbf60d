package policy

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const markedDomain = `<domain type="kvm" id="7">
  <name>pg-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
  <metadata><p:protection xmlns:p="urn:stopguard:protection:1" reason="billing" until="2099-06-30"/></metadata>
  <memory unit="KiB">65536</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <devices><graphics type="vnc" passwd="hunter2x"/></devices>
</domain>`

// two reasons of two clauses, one of them by way of a helper.
const twoClauses = `package stopguard.rules.two

veto contains "big" if {
	input.operation == "stop"
	_big
}

veto contains message if {
	some name in data.site.two.names
	startswith(input.domain.name, name)
	message := sprintf("named like %s", [name])
}

_big if input.domain.memory_bytes > 1
`

func explain(t *testing.T, e *Engine, xml string) Explanation {
	t.Helper()
	x, err := e.Explain(context.Background(), ask(parseDomain(t, xml)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decide(t, e, ask(parseDomain(t, xml))), x.Decision); diff != "" {
		t.Errorf("Explain decides otherwise than Decide (-want +got):\n%s", diff)
	}
	return x
}

func ruleNamed(t *testing.T, x Explanation, name string) ExplainedRule {
	t.Helper()
	for _, r := range x.Rules {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no rule %s in %v", name, x.Rules)
	return ExplainedRule{}
}

func TestExplain_names_the_clause_of_each_reason_and_what_it_reads(t *testing.T) {
	e := newEngine(t, Config{Sites: site("two.rego", twoClauses, "data.json", `{"site": {"two": {"names": ["pg"]}, "monitor": ["two"]}}`)})
	got := ruleNamed(t, explain(t, e, markedDomain), "two")
	type reason struct {
		Message  string
		Line     int
		Enforced bool
		Reads    []string
	}
	var reasons []reason
	for _, r := range got.Reasons {
		one := reason{Message: r.Message, Line: r.Line, Enforced: r.Enforced}
		for _, read := range r.Reads {
			one.Reads = append(one.Reads, read.Path)
		}
		reasons = append(reasons, one)
		if r.File != "site/two.rego" {
			t.Errorf("%q is said to come from %s", r.Message, r.File)
		}
	}
	want := []reason{
		{"big", 3, false, []string{"input.domain.memory_bytes", "input.operation"}},
		{"named like pg", 8, false, []string{"data.site.two.names", "input.domain.name"}},
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	values := map[string]any{}
	for _, r := range got.Reads {
		values[r.Path] = r.Value
	}
	if diff := cmp.Diff(map[string]any{
		"data.site.two.names": []any{"pg"}, "input.domain.name": "pg-01", "input.operation": "stop",
	}, values, cmpopts.IgnoreMapEntries(func(path string, _ any) bool { return path == "input.domain.memory_bytes" })); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestExplain_of_the_library(t *testing.T) {
	e := newEngine(t, Config{List: []byte("other-*\n")})
	x := explain(t, e, markedDomain)
	mark := ruleNamed(t, x, "protection_mark")
	if len(mark.Reasons) != 1 || !mark.Reasons[0].Enforced || mark.Reasons[0].Message != "protected until 2099-06-30: billing" ||
		mark.Reasons[0].File != "rego/protection_mark/protection_mark.rego" || mark.Reasons[0].Line <= mark.Line {
		t.Errorf("got %+v", mark)
	}
	list := ruleNamed(t, x, "protected_list")
	if len(list.Reasons) != 0 || list.Line == 0 || len(list.Reads) == 0 {
		t.Errorf("a rule with nothing against it is %+v", list)
	}
}

func TestExplain_gives_a_rule_that_failed_its_package(t *testing.T) {
	e := newEngine(t, Config{Sites: site("bad.rego", "package stopguard.rules.bad\n\nveto contains message if {\n\tmessage := sprintf(\"%d\", [to_number(input.domain.name)])\n}\n")})
	bad := ruleNamed(t, explain(t, e, plainDomain), "bad")
	if len(bad.Reasons) != 1 || bad.Reasons[0].File != "site/bad.rego" || bad.Reasons[0].Line != 1 {
		t.Errorf("got %+v", bad)
	}
}

// The whole document holds passwords.
func TestExplain_withholds_the_document(t *testing.T) {
	e := newEngine(t, Config{Sites: site("raw.rego", "package stopguard.rules.raw\n\nveto contains \"has children\" if count(input.xml.children) > 0\n")})
	raw := ruleNamed(t, explain(t, e, markedDomain), "raw")
	want := []Read{{Path: "input.xml.children", Withheld: true}}
	if diff := cmp.Diff(want, raw.Reads); diff != "" {
		t.Errorf("reads (-want +got):\n%s", diff)
	}
}
