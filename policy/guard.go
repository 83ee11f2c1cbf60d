package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Most rules of a site begin with what they are about: input.operation == "stop"; input.domain.name == "ldap-01". A rule of
// which no clause gets past its first expressions has an empty set, and need not be asked to know that. So of each clause
// the first expressions are read as conditions, up to one that is not understood; a rule is asked only if all conditions of
// one of its clauses hold. They are those expressions that cannot fail, and they are the first in the order in which OPA
// evaluates them, so that asking the rule would give the same.

// A guard says when a rule may have something to say.
type guard struct{ clauses [][]condition }

// A condition is what must be so for a clause to go on.
type condition struct {
	at    int // the place in the input, by its number in places
	each  bool
	check []check // of what is there, or of any of what is there
}

// A check compares what is below a value, by the names of path.
type check struct {
	path []*ast.Term
	is   func(ast.Value) bool
}

// inputPlaces are the places that guards look at: a number for each.
type inputPlaces struct {
	numbers map[string]int
	paths   [][]*ast.Term
}

func (p *inputPlaces) number(path []*ast.Term) int {
	key := ast.Ref(path).String()
	n, ok := p.numbers[key]
	if !ok {
		n = len(p.paths)
		p.numbers[key] = n
		p.paths = append(p.paths, path)
	}
	return n
}

// values looks up all places in an input.
func (p *inputPlaces) values(input ast.Value) []ast.Value {
	values := make([]ast.Value, len(p.paths))
	for i, path := range p.paths {
		values[i] = lookUp(input, path)
	}
	return values
}

// lookUp gives what is at a path; nil if nothing is.
func lookUp(v ast.Value, path []*ast.Term) ast.Value {
	for _, name := range path {
		var term *ast.Term
		switch at := v.(type) {
		case ast.Object:
			term = at.Get(name)
		case *ast.Array:
			term = at.Get(name)
		}
		if term == nil {
			return nil
		}
		v = term.Value
	}
	return v
}

// guardOf reads the guard of the rules with the given sets' names.
func guardOf(clauses []*ast.Rule, places *inputPlaces) guard {
	var g guard
	for _, clause := range clauses {
		g.clauses = append(g.clauses, conditionsOf(clause.Body, places))
	}
	return g
}

// opens says whether the rule may have something to say, about an input with those values.
func (g guard) opens(values []ast.Value) bool {
	return slices.ContainsFunc(g.clauses, func(clause []condition) bool {
		for i := range clause {
			if !clause[i].holds(values) {
				return false
			}
		}
		return true
	})
}

func (c *condition) holds(values []ast.Value) bool {
	v := values[c.at]
	if !c.each {
		return v != nil && c.passes(v)
	}
	array, ok := v.(*ast.Array)
	if !ok {
		return v != nil // objects and sets are left to the rule
	}
	for i := range array.Len() {
		if c.passes(array.Elem(i).Value) {
			return true
		}
	}
	return false
}

func (c *condition) passes(v ast.Value) bool {
	for i := range c.check {
		below := lookUp(v, c.check[i].path)
		if below == nil || !c.check[i].is(below) {
			return false
		}
	}
	return true
}

// conditionsOf reads the first expressions of a body.
func conditionsOf(body ast.Body, places *inputPlaces) []condition {
	var conditions []condition
	known := map[ast.Var]int{} // variables that are a part of the input: the number of the condition about it
	for _, expr := range body {
		if expr.Negated || len(expr.With) > 0 || !expr.IsCall() || len(expr.Operands()) != 2 {
			return conditions
		}
		operator := expr.Operator().String()
		a, b := expr.Operand(0), expr.Operand(1)
		if operator == "eq" || operator == "equal" {
			if _, isRef := a.Value.(ast.Ref); !isRef && isVariable(a, known) < 0 {
				a, b = b, a
			}
		}
		is, isCheck := checkOf(operator, b)
		variable, isVar := b.Value.(ast.Var)
		switch about := a.Value.(type) {
		case ast.Var:
			n := isVariable(a, known)
			if n < 0 || !isCheck {
				return conditions
			}
			conditions[n].check = append(conditions[n].check, check{nil, is})
		case ast.Ref:
			n := isVariable(about[0], known)
			path, each, rest, ok := split(about[1:])
			switch {
			case !ok:
				return conditions
			case n >= 0 && !each && isCheck:
				conditions[n].check = append(conditions[n].check, check{path, is})
			case n >= 0 || !about[0].Equal(ast.InputRootDocument) || len(path) == 0:
				return conditions
			case isCheck:
				conditions = append(conditions, condition{at: places.number(path), each: each, check: []check{{rest, is}}})
			case operator == "eq" && isVar && len(rest) == 0:
				known[variable] = len(conditions)
				conditions = append(conditions, condition{at: places.number(path), each: each})
			default:
				return conditions
			}
		default:
			return conditions
		}
	}
	return conditions
}

// isVariable gives the number of the condition about a variable, and -1 if there is none.
func isVariable(t *ast.Term, known map[ast.Var]int) int {
	if v, ok := t.Value.(ast.Var); ok {
		if n, ok := known[v]; ok {
			return n
		}
	}
	return -1
}

// split reads a path of names and numbers, in which one variable may stand: each item of what is there. Whatever else is
// known of the variable could only leave fewer.
func split(ref []*ast.Term) (path []*ast.Term, each bool, rest []*ast.Term, ok bool) {
	for i, term := range ref {
		switch term.Value.(type) {
		case ast.String, ast.Number:
			if each {
				rest = append(rest, ref[i])
			} else {
				path = append(path, ref[i])
			}
		case ast.Var:
			if each {
				return nil, false, nil, false
			}
			each = true
		default:
			return nil, false, nil, false
		}
	}
	return path, each, rest, true
}

// checkOf gives the comparison of an operator with a constant; false if it is none, or could fail.
func checkOf(operator string, with *ast.Term) (func(ast.Value) bool, bool) {
	if !with.IsGround() {
		return nil, false
	}
	text, isText := with.Value.(ast.String)
	switch operator {
	case "eq", "equal":
		switch with.Value.(type) {
		case ast.String, ast.Number, ast.Boolean:
			return func(v ast.Value) bool { return v.Compare(with.Value) == 0 }, true
		}
	case "neq":
		switch with.Value.(type) {
		case ast.String, ast.Number, ast.Boolean:
			return func(v ast.Value) bool { return v.Compare(with.Value) != 0 }, true
		}
	case "internal.member_2":
		switch list := with.Value.(type) {
		case ast.Set:
			return func(v ast.Value) bool { return list.Contains(ast.NewTerm(v)) }, true
		case *ast.Array:
			return func(v ast.Value) bool {
				return list.Until(func(t *ast.Term) bool { return t.Value.Compare(v) == 0 })
			}, true
		}
	case "startswith":
		if isText {
			return func(v ast.Value) bool {
				s, ok := v.(ast.String)
				return !ok || strings.HasPrefix(string(s), string(text))
			}, true
		}
	case "endswith":
		if isText {
			return func(v ast.Value) bool {
				s, ok := v.(ast.String)
				return !ok || strings.HasSuffix(string(s), string(text))
			}, true
		}
	}
	return nil, false
}
