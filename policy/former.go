package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// A rule of a site may know an operation by its former name only. It is then evaluated with an
// input that has the former name. That is right whatever the rule does with the name: compare it,
// look for it in a set or a setting, or negate any of that. A constant that was replaced in the
// rule could be one that is not about the operation.

// spelling says by which of its names a rule mentions a renamed operation.
type spelling struct{ former, present bool }

func (n spelling) or(o spelling) spelling {
	return spelling{n.former || o.former, n.present || o.present}
}

func (n *spelling) add(text string) {
	present, former := operation.Mentions(text)
	*n = n.or(spelling{former, present})
}

// addTerms adds the constants of a part of a rule, or of a module.
func (n *spelling) addTerms(node any) {
	ast.WalkTerms(node, func(t *ast.Term) bool {
		if text, ok := t.Value.(ast.String); ok {
			n.add(string(text))
		}
		return false
	})
}

// addSetting adds the texts of a setting, and the names in it.
func (n *spelling) addSetting(value any) {
	switch value := value.(type) {
	case string:
		n.add(value)
	case []any:
		for _, item := range value {
			n.addSetting(item)
		}
	case map[string]any:
		for name, item := range value {
			n.add(name)
			n.addSetting(item)
		}
	}
}

// noteNames notes by which name the site's rules mention a renamed operation, and returns a warning
// for each place that has the former one.
func (p *program) noteNames(src *source.Source) []error {
	var all spelling
	all.addSetting(src.Settings.Site)
	for _, m := range src.Site {
		all.addTerms(m)
	}
	if !all.former {
		return nil
	}
	var places []string
	for _, r := range p.rules {
		clauses := p.clauses(r.name)
		if src.Site[fileOf(clauses[0])] == nil || !r.reads().Has("operation") && !r.reads().Has("domain", "marks") {
			continue
		}
		for _, clause := range p.reachedFrom(clauses) {
			var of spelling
			if of.addTerms(clause); src.Site[fileOf(clause)] == nil {
				continue // the library knows present names only
			}
			if of.former {
				places = append(places, clause.Location.String())
			}
			r.spelling = r.spelling.or(of)
		}
		for _, path := range p.paths(clauses) {
			if path[0] != "data" {
				continue
			}
			var of spelling
			if of.addSetting(settings.At(src.Settings.Site, path[2:])); of.former {
				places = append(places, strings.Join(path, "."))
			}
			r.spelling = r.spelling.or(of)
		}
	}
	slices.Sort(places)
	var warnings []error
	for _, place := range slices.Compact(places) {
		warnings = append(warnings, &problem.Error{
			What: fmt.Sprintf("%s names the operation %q, which is called %s now", place, operation.Former(OperationModify), OperationModify),
			Cure: "write " + OperationModify,
		})
	}
	return warnings
}

func fileOf(clause *ast.Rule) string { return clause.Module.Package.Location.File }

// inputs returns the inputs that a rule is evaluated with: input, the same by the former name of
// the operation, or both if the rule mentions both.
func (n spelling) inputs(input ast.Value) []ast.Value {
	if !n.former {
		return []ast.Value{input}
	}
	former := withFormerNames(withFormerNames(input, "operation"), "domain", "marks", "operations")
	if n.present {
		return []ast.Value{input, former}
	}
	return []ast.Value{former}
}

// withFormerNames returns a value with the former names of operations in the texts at a path, which
// leads through all items of a list.
func withFormerNames(value ast.Value, path ...string) ast.Value {
	switch value := value.(type) {
	case ast.String:
		if len(path) == 0 {
			return ast.String(operation.Former(string(value)))
		}
	case *ast.Array:
		items := make([]*ast.Term, 0, value.Len())
		value.Foreach(func(item *ast.Term) {
			items = append(items, ast.NewTerm(withFormerNames(item.Value, path...)))
		})
		return ast.NewArray(items...)
	case ast.Object:
		if len(path) == 0 {
			return value
		}
		pairs := make([][2]*ast.Term, 0, value.Len())
		value.Foreach(func(key, field *ast.Term) {
			if key.Value.Compare(ast.String(path[0])) == 0 {
				field = ast.NewTerm(withFormerNames(field.Value, path[1:]...))
			}
			pairs = append(pairs, [2]*ast.Term{key, field})
		})
		return ast.NewObject(pairs...)
	}
	return value
}
