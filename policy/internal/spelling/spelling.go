// Package spelling finds out by which name a rule knows a renamed operation.
//
// A rule of a site may know operations by their former name only. It is then evaluated with an
// input that has the former name. That is right whatever the rule does with the name: compare it,
// look for it in a set or a setting, or negate any of that. A constant that was replaced in the
// rule could be one that is not about the operation.
package spelling

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
)

// A Spelling holds whether a rule mentions a renamed operation by its former name, its present
// names, or both.
type Spelling struct{ Former, Present bool }

// Or returns the names that either of two spellings has.
func (n Spelling) Or(o Spelling) Spelling {
	return Spelling{n.Former || o.Former, n.Present || o.Present}
}

func (n *Spelling) add(text string) {
	present, former := operation.Mentions(text)
	*n = n.Or(Spelling{former, present})
}

// AddTerms adds the constants of a part of a rule, or of a module.
func (n *Spelling) AddTerms(node any) {
	ast.WalkTerms(node, func(t *ast.Term) bool {
		if text, ok := t.Value.(ast.String); ok {
			n.add(string(text))
		}
		return false
	})
}

// AddSetting adds the texts of a setting, and the names in it.
func (n *Spelling) AddSetting(value any) {
	switch value := value.(type) {
	case string:
		n.add(value)
	case []any:
		for _, item := range value {
			n.AddSetting(item)
		}
	case map[string]any:
		for name, item := range value {
			n.add(name)
			n.AddSetting(item)
		}
	}
}

// Inputs returns the inputs that a rule is evaluated with: input, the same by the former name of
// the operation, or both if the rule mentions both.
func (n Spelling) Inputs(input ast.Value) []ast.Value {
	if !n.Former {
		return []ast.Value{input}
	}
	former := withFormerNames(input)
	if n.Present {
		return []ast.Value{input, former}
	}
	return []ast.Value{former}
}

// withFormerNames returns an input with the former name of the operation. In the operations of
// marks it stands for the operation that is asked about, and else for a modify: a mark that names
// the former operation has both, and one that has only the other is not against this one.
func withFormerNames(input ast.Value) ast.Value {
	asked := operation.Modify
	if value, err := input.Find(ast.Ref{ast.StringTerm("operation")}); err == nil && value.Compare(ast.String(operation.Delete)) == 0 {
		asked = operation.Delete
	}
	input = replaceTexts(input, asked, "operation")
	input = replaceTexts(input, asked, "domain", "marks", "operations")
	return replaceTexts(input, asked, "domain", "marks", "named")
}

// replaceTexts returns a value with the former name in place of an operation's, in the texts at a
// path, which leads through all items of a list.
func replaceTexts(value ast.Value, name string, path ...string) ast.Value {
	switch value := value.(type) {
	case ast.String:
		if len(path) == 0 && string(value) == name {
			return ast.String(operation.Former(name))
		}
	case *ast.Array:
		items := make([]*ast.Term, 0, value.Len())
		value.Foreach(func(item *ast.Term) {
			items = append(items, ast.NewTerm(replaceTexts(item.Value, name, path...)))
		})
		return ast.NewArray(items...)
	case ast.Object:
		if len(path) == 0 {
			return value
		}
		pairs := make([][2]*ast.Term, 0, value.Len())
		value.Foreach(func(key, field *ast.Term) {
			if key.Value.Compare(ast.String(path[0])) == 0 {
				field = ast.NewTerm(replaceTexts(field.Value, name, path[1:]...))
			}
			pairs = append(pairs, [2]*ast.Term{key, field})
		})
		return ast.NewObject(pairs...)
	}
	return value
}
