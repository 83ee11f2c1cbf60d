package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

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
