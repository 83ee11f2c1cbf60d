package policy

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// fullInput has something in every field.
func fullInput(t *testing.T) Input {
	xml, err := os.ReadFile("../testdata/captures/pg-primary-01-block-copy-running/stop/stdin.xml")
	if err != nil {
		t.Fatal(err)
	}
	in := ask(parseDomain(t, string(xml)))
	in.Host = Host{Name: "kvm-07", Domains: []HostDomain{{Name: "a", Unknown: true, Metadata: []domainxml.Element{{Name: "x"}}}}}
	in.Fleet = Fleet{Groups: []FleetCount{{Name: "pg", Members: []FleetMember{{Name: "pg-1", UUID: "16e14a01-2b11-40de-a128-75e3f4a5fe12", Host: "kvm-08", Since: "2026-11-21T08:00:00Z"}}}}}
	in.Request = Request{Procedure: "qemu_monitor_command", Flags: []string{"hmp"}, Command: "set_password vnc hunter2", Destination: "qemu+ssh://kvm-08/system"}
	in.Caller = &Caller{UID: 1000, LoginUID: 1001, User: "alice", GID: 1000, Groups: []string{"alice", "106"}, PID: 4711}
	in.Holds = []Hold{{Holder: "root", PID: 4711, Reason: "backup", Since: time.Unix(1, 0), Until: time.Unix(2, 0), Operations: []string{OperationReset}}}
	in.State = State{State: "running", Reason: "booted", Job: "backup", DiskJobs: map[string]string{"vda": "backup"}}
	return in
}

func documentOf(t *testing.T, in Input, fields *document.Tree) map[string]any {
	t.Helper()
	value, err := inputValue(in, []string{"pg-*"}, fields)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ast.JSON(value)
	if err != nil {
		t.Fatal(err)
	}
	return plain.(map[string]any)
}

// The schema is what rules are checked against, so the input must have exactly its fields: one that
// is missing would be undefined for a rule that passed the check.
func TestTheInputHasExactlyTheFieldsOfTheSchema(t *testing.T) {
	schema, err := library.InputSchema()
	if err != nil {
		t.Fatal(err)
	}
	definitions := schema.(map[string]any)["definitions"].(map[string]any)
	full := fullInput(t)
	bare := Input{Operation: OperationStop, Domain: parseDomain(t, plainDomain)}
	for name, in := range map[string]Input{"full": full, "bare": bare} {
		t.Run(name, func(t *testing.T) {
			matchSchema(t, "input", schema.(map[string]any), definitions, documentOf(t, in, document.Reads{All: true}.Tree()))
		})
	}
}

func matchSchema(t *testing.T, at string, schema, definitions map[string]any, value any) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema = definitions[ref[len("#/definitions/"):]].(map[string]any)
	}
	switch schema["type"] {
	case "object":
		object, ok := value.(map[string]any)
		if !ok {
			t.Errorf("%s is %T, not an object", at, value)
			return
		}
		properties, named := schema["properties"].(map[string]any)
		if !named {
			item := schema["additionalProperties"].(map[string]any)
			for key, v := range object {
				matchSchema(t, at+"."+key, item, definitions, v)
			}
			return
		}
		want, got := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(object))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: fields of the schema (-) and of the input (+):\n%s", at, diff)
		}
		for key, v := range object {
			if property, ok := properties[key].(map[string]any); ok {
				matchSchema(t, at+"."+key, property, definitions, v)
			}
		}
	case "array":
		list, ok := value.([]any)
		if !ok {
			t.Errorf("%s is %T, not a list", at, value)
		}
		for _, v := range list {
			matchSchema(t, at+"[]", schema["items"].(map[string]any), definitions, v)
		}
	case "string":
		if _, ok := value.(string); !ok {
			t.Errorf("%s is %T, not a string", at, value)
		}
	case "integer":
		if n, ok := value.(json.Number); !ok {
			t.Errorf("%s is %T, not a number", at, value)
		} else if _, err := n.Int64(); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			t.Errorf("%s is %T, not a boolean", at, value)
		}
	default:
		t.Errorf("%s: the schema says type %v", at, schema["type"])
	}
}

func TestOnlyWhatRulesReadIsBuilt(t *testing.T) {
	tests := []struct {
		name, why, rule string
		want            []string // paths that are there
		not             []string
	}{
		{"the library alone", "it reads no devices",
			`veto contains "x" if input.operation == "move"`,
			[]string{"operation", "domain.marks", "domain.listed"}, []string{"xml", "host", "domain.metadata", "domain.disks", "caller"}},
		{"a whole object", "whatever is below it may be read",
			`veto contains "x" if count(input.domain) == 1`,
			[]string{"domain.disks", "domain.title"}, []string{"xml", "host"}},
		{"the whole input", "likewise",
			`veto contains "x" if count(input) == 1`,
			[]string{"xml", "host.domains", "caller.uid", "domain.disks"}, nil},
		{"the whole input by a local name", "likewise",
			"veto contains \"x\" if {\n\tall := input\n\tcount(all) == 1\n}",
			[]string{"xml", "host.domains"}, nil},
		{"the whole input by walk", "likewise",
			`veto contains "x" if walk(input, [_, "nosuch"])`,
			[]string{"xml", "host.domains"}, nil},
		{"a dynamic key", "any of them may be read",
			"veto contains \"x\" if {\n\tsome key\n\tinput.domain[key] == \"nosuch\"\n}",
			[]string{"domain.disks", "domain.title"}, []string{"xml"}},
		{"a key by a setting", "it is known only when it is read",
			`veto contains "x" if object.get(input, "xml", {}).name == "nosuch"`,
			[]string{"xml", "host.domains"}, nil},
		{"a field of the host", "the host's domains cost files to read",
			`veto contains "x" if input.host.name == "y"`,
			[]string{"host.name"}, []string{"host.domains"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("freeze.rego", head+tt.rule)})
			got := documentOf(t, fullInput(t), programOf(t, e).fields)
			for _, p := range tt.want {
				if !holds(got, p) {
					t.Errorf("%s is not built", p)
				}
			}
			for _, p := range tt.not {
				if holds(got, p) {
					t.Errorf("%s is built", p)
				}
			}
		})
	}
}

func holds(value any, dotted string) bool {
	for part := range strings.SplitSeq(dotted, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return false
		}
		if value, ok = object[part]; !ok {
			return false
		}
	}
	return true
}
