package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Most rules of a site begin with what they are about: input.operation == "stop"; input.domain.name
// == "ldap-01". A rule of which every clause begins with a comparison that does not hold has no
// reasons, and is not evaluated.

// conditions are the comparisons that the clauses of a rule begin with, in the order in which OPA
// evaluates them. They end before the first expression that is not a comparison of a field of the
// input with a constant, for that could fail. That there is something in a list, as in some disk in
// input.domain.disks, is such a comparison, too.
type conditions [][]condition

type condition struct {
	path  ast.Ref // below input
	holds func(ast.Value) bool
}

func conditionsOf(clauses []*ast.Rule) conditions {
	var all conditions
	for _, clause := range clauses {
		fields := map[ast.Var]ast.Ref{} // variables that are a field of the input
		var begin []condition
		for _, expr := range clause.Body {
			c, ok := conditionOf(expr, fields)
			if !ok {
				break
			}
			begin = append(begin, c)
		}
		all = append(all, begin)
	}
	return all
}

// mayHold reports whether the rule may have something to say about an input.
func (all conditions) mayHold(input ast.Value) bool {
	return slices.ContainsFunc(all, func(clause []condition) bool {
		for _, c := range clause {
			if value, err := input.Find(c.path); err != nil || !c.holds(value) {
				return false
			}
		}
		return true
	})
}

// conditionOf reads an expression such as input.domain.name = "x", or x = input.domain.name, which
// makes x known.
func conditionOf(expr *ast.Expr, fields map[ast.Var]ast.Ref) (condition, bool) {
	if expr.Negated || len(expr.With) > 0 || !expr.IsCall() || len(expr.Operands()) != 2 {
		return condition{}, false
	}
	if list := listOf(expr); list != nil {
		return condition{list, isNotEmpty}, true
	}
	operator, a, b := expr.Operator().String(), expr.Operand(0), expr.Operand(1)
	if operator == ast.Equality.Name && fieldOf(a, fields) == nil {
		a, b = b, a
	}
	path := fieldOf(a, fields)
	if path == nil {
		return condition{}, false
	}
	if variable, ok := b.Value.(ast.Var); ok && operator == ast.Equality.Name && fields[variable] == nil {
		fields[variable] = path
		return condition{path, func(ast.Value) bool { return true }}, true
	}
	holds := comparison(operator, b.Value)
	return condition{path, holds}, holds != nil
}

// listOf returns the path below input of the list that x = input.domain.disks[i] goes through; nil
// if expr is not that.
func listOf(expr *ast.Expr) ast.Ref {
	ref, ok := expr.Operand(1).Value.(ast.Ref)
	if _, isVar := expr.Operand(0).Value.(ast.Var); !ok || !isVar || !expr.IsEquality() || !ref[0].Equal(ast.InputRootDocument) {
		return nil
	}
	if _, isVar := ref[len(ref)-1].Value.(ast.Var); !isVar || len(ref) < 3 || !ref[:len(ref)-1].IsGround() {
		return nil
	}
	return ref[1 : len(ref)-1]
}

func isNotEmpty(v ast.Value) bool {
	array, ok := v.(*ast.Array)
	return !ok || array.Len() > 0
}

// fieldOf returns the path below input of a term that is a field of it; nil if it is not.
func fieldOf(t *ast.Term, fields map[ast.Var]ast.Ref) ast.Ref {
	switch v := t.Value.(type) {
	case ast.Var:
		return fields[v]
	case ast.Ref:
		if v[0].Equal(ast.InputRootDocument) && len(v) > 1 && v.IsGround() {
			return v[1:]
		}
	}
	return nil
}

// comparison returns the comparison of a value with a constant; nil if it is not one, or could
// fail.
func comparison(operator string, with ast.Value) func(ast.Value) bool {
	switch with := with.(type) {
	case ast.String, ast.Number, ast.Boolean:
		if operator == ast.Equality.Name || operator == ast.Equal.Name {
			return func(v ast.Value) bool { return v.Compare(with) == 0 }
		}
		if prefix, ok := with.(ast.String); ok && operator == ast.StartsWith.Name {
			return func(v ast.Value) bool {
				text, isText := v.(ast.String)
				return !isText || strings.HasPrefix(string(text), string(prefix)) // it fails for any other value
			}
		}
	case ast.Set:
		if operator == ast.Member.Name && with.IsGround() {
			return func(v ast.Value) bool { return with.Contains(ast.NewTerm(v)) }
		}
	}
	return nil
}
