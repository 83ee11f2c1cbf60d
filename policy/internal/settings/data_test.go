package settings

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

// A data file is read as encoding/json reads it, or refused: the reader only has more reasons to
// refuse.
func FuzzData(f *testing.F) {
	for _, seed := range []string{
		`{"site": {"a": [1, 2.50, 1e3, "x", true, null, {}]}}`, `{"a": 1, "a": 2}`, `{} {}`, `[`, `"\ud800"`, "site:\n  a: 2026-01-01\n", "a: &x 1\nb: *x\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		value, err := jsontree.ParseValue(content)
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
		if value, err := ParseYAML(content); err == nil {
			if _, err := ast.InterfaceToValue(value); err != nil {
				t.Fatalf("YAML gave %#v, which rules cannot read: %v", value, err)
			}
		}
	})
}
