package builtin

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestEveryBuiltinIsDocumented(t *testing.T) {
	for _, b := range own {
		decl := ast.BuiltinMap[b.name]
		if decl == nil || !strings.HasSuffix(decl.Description, ".") || decl.Nondeterministic {
			t.Errorf("%s is registered as %+v", b.name, decl)
		}
		for _, arg := range decl.Decl.NamedFuncArgs().Args {
			if text := arg.String(); !strings.Contains(text, ": ") {
				t.Errorf("%s: an argument has no name: %s", b.name, text)
			}
		}
	}
}
