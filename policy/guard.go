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
	items := map[ast.Var]int{} // variables that are each item of an array: the number of the condition
	for _, expr := range body {
		if expr.Negated || len(expr.With) > 0 || !expr.IsCall() {
			return conditions
		}
		operands := expr.Operands()
		if len(operands) != 2 {
			return conditions
		}
		a, b := operands[0], operands[1]
		operator := expr.Operator().String()
		if operator == "eq" || operator == "equal" {
			if _, ok := a.Value.(ast.Ref); !ok {
				a, b = b, a
			}
		}
		ref, ok := a.Value.(ast.Ref)
		if !ok {
			return conditions
		}
		is, known := checkOf(operator, b)
		variable, isVariable := b.Value.(ast.Var)
		head, isVar := ref[0].Value.(ast.Var)
		switch rest, each := constantTerms(ref[1:]); {
		case !isVar || head.IsWildcard():
			return conditions
		case head.Equal(ast.InputRootDocument.Value) && rest != nil && known && !each:
			conditions = append(conditions, condition{at: places.number(rest), check: []check{{is: is}}})
		case head.Equal(ast.InputRootDocument.Value) && rest != nil && isVariable && operator == "eq":
			if each {
				items[variable] = len(conditions)
			}
			conditions = append(conditions, condition{at: places.number(rest), each: each})
		case rest != nil && known && !each:
			n, isItem := items[head]
			if !isItem {
				return conditions
			}
			conditions[n].check = append(conditions[n].check, check{rest, is})
		default:
			return conditions
		}
	}
	return conditions
}

// constantTerms gives a path of names and numbers, and whether a variable follows it that nothing else says anything of: each
// item of what is there. It gives nil for any other.
func constantTerms(ref []*ast.Term) (path []*ast.Term, each bool) {
	for i, term := range ref {
		switch term.Value.(type) {
		case ast.String, ast.Number:
			path = append(path, term)
			continue
		case ast.Var:
			if i == len(ref)-1 && i > 0 {
				return path, true
			}
		}
		return nil, false
	}
	return path, false
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
