// Package module parses modules of Rego, and explains the errors of those that do not compile.
package module

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// Parse parses a module with its METADATA.
func Parse(name string, content []byte) (*ast.Module, error) { return parse(name, content, true) }

// ParseWithoutMetadata parses a module and skips its METADATA. Reading that costs as much as the
// rest.
func ParseWithoutMetadata(name string, content []byte) (*ast.Module, error) {
	return parse(name, content, false)
}

func parse(name string, content []byte, metadata bool) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{
		Capabilities:      builtin.Capabilities(),
		ProcessAnnotation: metadata,
		RegoVersion:       ast.RegoV1,
	})
	var single *ast.Error
	if errors.As(err, &single) && single.Message == "empty module" {
		return nil, fmt.Errorf("%s is empty, and protects nothing; write a rule in it or remove it", name)
	}
	if err != nil {
		return nil, Error(err, nil)
	}
	return module, nil
}

// PackageName returns a module's package as it is written, without data.
func PackageName(m *ast.Module) string {
	return strings.TrimPrefix(m.Package.Path.String(), "data.")
}

// Functions returns the names of a module's functions, with its package, as in data.lib.is_drained.
// Those that begin with _ are its own.
func Functions(m *ast.Module) []string {
	var names []string
	for _, rule := range m.Rules {
		if name := rule.Head.Ref().String(); len(rule.Head.Args) > 0 && !strings.HasPrefix(name, "_") {
			names = append(names, m.Package.Path.String()+"."+name)
		}
	}
	return names
}

var ruleName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// IsRuleName reports whether a rule may have the name.
func IsRuleName(name string) bool { return ruleName.MatchString(name) }

// RuleOf returns the name of the rule whose package is p: stopguard.rules.NAME. It reports whether
// there is one.
func RuleOf(p ast.Ref) (string, bool) {
	parts := regovalue.Path(p[1:])
	if len(parts) == 3 && len(p) == 4 && parts[0] == "stopguard" && parts[1] == "rules" {
		return parts[2], true
	}
	return "", false
}
