package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Most rules of a site begin with conditions such as input.operation == "stop" or input.domain.name
// == "ldap-01". If every clause of a rule begins with a condition that does not hold, the rule
// cannot have a reason, and is not evaluated.

// conditions are the comparisons that the clauses of a rule begin with, in the order in which OPA
// evaluates them. They end before the first expression that is not a comparison of a field with a
// constant, for that could fail. The field is one of the input, or of an item of a list of the
// input, as in some disk in input.domain.disks.
type conditions [][]condition

type condition struct {
	path  ast.Ref
	holds func(ast.Value) bool
}

func (c condition) holdsIn(v ast.Value) bool {
	found, err := v.Find(c.path)
	return err == nil && c.holds(found)
}

// mayHold reports whether the rule may have a reason or a note about an input.
func (all conditions) mayHold(input ast.Value) bool {
	return slices.ContainsFunc(all, func(clause []condition) bool {
		return !slices.ContainsFunc(clause, func(c condition) bool { return !c.holdsIn(input) })
	})
}

func conditionsOf(clauses []*ast.Rule) conditions {
	var all conditions
	for _, clause := range clauses {
		r := clauseReader{fields: map[ast.Var]location{}}
		for _, expr := range clause.Body {
			if !r.read(expr) {
				break
			}
		}
		all = append(all, r.begin)
	}
	return all
}

// A clauseReader reads the conditions that a clause begins with.
type clauseReader struct {
	begin  []condition
	fields map[ast.Var]location // variables that are a location
}

// A location is a path of the input, or of each item of a list of the input.
type location struct {
	item *item // nil for the input
	path ast.Ref
}

// An item has the conditions for one item of a list.
type item struct{ conditions []condition }

// anyIn reports whether an item of a list may meet all conditions.
func (i *item) anyIn(v ast.Value) bool {
	array, ok := v.(*ast.Array)
	return !ok || array.Until(func(t *ast.Term) bool {
		return !slices.ContainsFunc(i.conditions, func(c condition) bool { return !c.holdsIn(t.Value) })
	})
}

// read adds the condition of an expression such as input.domain.name = "x". It reports whether the
// expression has a known form.
func (r *clauseReader) read(expr *ast.Expr) bool {
	if expr.Negated || len(expr.With) > 0 || !expr.IsCall() || len(expr.Operands()) != 2 {
		return false
	}
	operator, a, b := expr.Operator().String(), expr.Operand(0), expr.Operand(1)
	isEquality := operator == ast.Equality.Name
	if variable, ok := a.Value.(ast.Var); ok && isEquality {
		if list := listOf(b); list != nil {
			i := &item{}
			r.begin = append(r.begin, condition{list, i.anyIn})
			r.fields[variable] = location{item: i}
			return true
		}
	}
	f, ok := r.fieldOf(a)
	if !ok && isEquality {
		a, b = b, a
		f, ok = r.fieldOf(a)
	}
	if !ok {
		return false
	}
	if variable, ok := b.Value.(ast.Var); ok && isEquality {
		if _, known := r.fields[variable]; known {
			return false
		}
		r.fields[variable] = f
		r.add(f, func(ast.Value) bool { return true })
		return true
	}
	holds := comparison(operator, b.Value)
	if holds != nil {
		r.add(f, holds)
	}
	return holds != nil
}

func (r *clauseReader) add(f location, holds func(ast.Value) bool) {
	if f.item != nil {
		f.item.conditions = append(f.item.conditions, condition{f.path, holds})
		return
	}
	r.begin = append(r.begin, condition{f.path, holds})
}

// fieldOf returns the location that a term refers to. It reports whether there is one.
func (r *clauseReader) fieldOf(t *ast.Term) (location, bool) {
	switch v := t.Value.(type) {
	case ast.Var:
		f, ok := r.fields[v]
		return f, ok
	case ast.Ref:
		if !v[1:].IsGround() {
			return location{}, false
		}
		if v[0].Equal(ast.InputRootDocument) {
			return location{path: v[1:]}, len(v) > 1
		}
		if variable, ok := v[0].Value.(ast.Var); ok {
			f, ok := r.fields[variable]
			return location{f.item, slices.Concat(f.path, v[1:])}, ok
		}
	}
	return location{}, false
}

// listOf returns the path of the list that input.domain.disks[i] goes through; nil if t is not
// that.
func listOf(t *ast.Term) ast.Ref {
	ref, ok := t.Value.(ast.Ref)
	if !ok || len(ref) < 3 || !ref[0].Equal(ast.InputRootDocument) {
		return nil
	}
	list, last := ref[1:len(ref)-1], ref[len(ref)-1]
	if _, isVar := last.Value.(ast.Var); !isVar || !list.IsGround() {
		return nil
	}
	return list
}

// comparison returns the comparison of a value with a constant; nil if it is not one, or could
// fail.
func comparison(operator string, with ast.Value) func(ast.Value) bool {
	switch with := with.(type) {
	case ast.String, ast.Number, ast.Boolean:
		if operator == ast.Equality.Name || operator == ast.Equal.Name {
			return func(v ast.Value) bool { return v.Compare(with) == 0 }
		}
		if operator == ast.NotEqual.Name {
			return func(v ast.Value) bool { return v.Compare(with) != 0 }
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
