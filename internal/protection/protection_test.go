package protection_test

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/rego"
)

func TestTheRuleReadsThisNamespace(t *testing.T) {
	rule, err := rego.FS.ReadFile("protection_mark/protection_mark.rego")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(rule), `mark.namespace == "`+protection.Namespace+`"`) {
		t.Errorf("the rule protection_mark does not compare a namespace with %s", protection.Namespace)
	}
}
