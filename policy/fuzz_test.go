package policy

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// What is read of a data file is what encoding/json reads, or nothing: it only knows more reasons
// to refuse.
func FuzzData(f *testing.F) {
	for _, seed := range []string{
		`{"site": {"a": [1, 2.50, 1e3, "x", true, null, {}]}}`, `{"a": 1, "a": 2}`, `{} {}`, `[`, `"\ud800"`, "site:\n  a: 2026-01-01\n", "a: &x 1\nb: *x\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		value, err := parseJSON(content)
		if err == nil {
			decoder := json.NewDecoder(bytes.NewReader(content))
			decoder.UseNumber()
			var want any
			if err := decoder.Decode(&want); err != nil {
				t.Fatalf("read %v of what encoding/json refuses: %v", value, err)
			}
			if !reflect.DeepEqual(want, value) {
				t.Fatalf("read %#v, encoding/json %#v", value, want)
			}
		}
		if value, err := parseYAML(content); err == nil {
			if _, err := ast.InterfaceToValue(value); err != nil {
				t.Fatalf("YAML gave %#v, which rules cannot read: %v", value, err)
			}
		}
	})
}

// Whatever a rule puts into its veto, it is a reason with a message.
func FuzzReason(f *testing.F) {
	for _, seed := range []string{`"x"`, `""`, `7`, `null`, `[]`, `{"message": "x"}`, `{"message": "x", "until": "2027-06-30"}`, `{"message": "x", "untl": 1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var value any
		if json.Unmarshal(content, &value) != nil {
			return
		}
		term, err := ast.InterfaceToValue(value)
		if err != nil {
			return
		}
		r := readReason("rule", ast.NewTerm(term))
		if r.Rule != "rule" || strings.TrimSpace(r.Message) == "" {
			t.Fatalf("%s gave %+v", content, r)
		}
		_, isString := value.(string)
		_, isObject := value.(map[string]any)
		if !isString && !isObject && r.Message != wrongShape {
			t.Fatalf("%s gave %+v", content, r)
		}
	})
}
