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
// evaluates them, so that asking the rule would give the same. A rule of the library may also begin with another that is
// remembered not to hold.

// A guard says when a rule may have something to say.
type guard struct{ clauses [][]condition }

// A condition is what must be so for a clause to go on.
type condition struct {
	rule  int // that must hold, by its number in pureCalls; 0 if it is about a place
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
func guardOf(clauses []*ast.Rule, places *inputPlaces, pure *pureCalls) guard {
	var g guard
	for _, clause := range clauses {
		r := guardReader{places: places, pure: pure, known: map[ast.Var]part{}, constants: map[ast.Var]*ast.Term{}}
		g.clauses = append(g.clauses, r.conditionsOf(clause.Body))
	}
	return g
}

// opens says whether the rule may have something to say, about an input with those values. m has begun.
func (g guard) opens(values []ast.Value, m *memo) bool {
	return slices.ContainsFunc(g.clauses, func(clause []condition) bool {
		for i := range clause {
			if !clause[i].holds(values, m) {
				return false
			}
		}
		return true
	})
}

func (c *condition) holds(values []ast.Value, m *memo) bool {
	if c.rule > 0 {
		known := m.recall(c.rule, nil)
		return known == nil || known.value != nil && !ast.Boolean(false).Equal(known.value.Value)
	}
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

// A guardReader reads the conditions of one clause.
type guardReader struct {
	places     *inputPlaces
	pure       *pureCalls
	conditions []condition
	known      map[ast.Var]part      // variables that are a part of the input
	constants  map[ast.Var]*ast.Term // variables whose value the settings and rules give
}

// A part of the input is what is below that which a condition is about.
type part struct {
	condition int
	path      []*ast.Term
}

// conditionsOf reads the first expressions of a body.
func (r *guardReader) conditionsOf(body ast.Body) []condition {
	for _, expr := range body {
		if expr.Negated || len(expr.With) > 0 || !r.rule(expr) && !r.comparison(expr) {
			break
		}
	}
	return r.conditions
}

// rule reads an expression that is another rule.
func (r *guardReader) rule(expr *ast.Expr) bool {
	term, ok := expr.Terms.(*ast.Term)
	if !ok {
		return false
	}
	rule := r.pure.named(term)
	if rule > 0 {
		r.conditions = append(r.conditions, condition{rule: rule})
	}
	return rule > 0
}

// comparison reads one of two operands, or one that gives a variable its value.
func (r *guardReader) comparison(expr *ast.Expr) bool {
	if !expr.IsCall() || len(expr.Operands()) != 2 {
		return false
	}
	operator := expr.Operator().String()
	a, b := expr.Operand(0), expr.Operand(1)
	if operator == "eq" || operator == "equal" {
		if _, isRef := a.Value.(ast.Ref); !isRef && !r.isPart(a) {
			a, b = b, a
		}
	}
	variable, isVar := b.Value.(ast.Var)
	if constant := r.constants[variable]; isVar && constant != nil {
		b, isVar = constant, false
	}
	is, isCheck := checkOf(operator, b)
	switch about := a.Value.(type) {
	case ast.Var:
		at, known := r.known[about]
		if known && isCheck {
			r.check(at.condition, at.path, is)
		}
		return known && isCheck
	case ast.Ref:
		if operator == "eq" && isVar && r.pure != nil && about[0].Equal(ast.DefaultRootDocument) {
			r.constants[variable] = r.pure.constant(a)
			return r.constants[variable] != nil
		}
		path, each, rest, ok := split(about[1:])
		if !ok {
			return false
		}
		if at, known := r.partOf(about[0]); known {
			below := slices.Concat(at.path, path)
			switch {
			case each:
				return false
			case isCheck:
				r.check(at.condition, below, is)
			case operator == "eq" && isVar:
				r.check(at.condition, below, func(ast.Value) bool { return true })
				r.known[variable] = part{at.condition, below}
			default:
				return false
			}
			return true
		}
		if !about[0].Equal(ast.InputRootDocument) || len(path) == 0 {
			return false
		}
		switch {
		case isCheck:
			r.conditions = append(r.conditions, condition{at: r.places.number(path), each: each, check: []check{{rest, is}}})
		case operator == "eq" && isVar && len(rest) == 0:
			r.known[variable] = part{condition: len(r.conditions)}
			r.conditions = append(r.conditions, condition{at: r.places.number(path), each: each})
		default:
			return false
		}
		return true
	}
	return false
}

func (r *guardReader) check(condition int, path []*ast.Term, is func(ast.Value) bool) {
	r.conditions[condition].check = append(r.conditions[condition].check, check{path, is})
}

func (r *guardReader) partOf(t *ast.Term) (part, bool) {
	v, _ := t.Value.(ast.Var)
	at, known := r.known[v]
	return at, known
}

func (r *guardReader) isPart(t *ast.Term) bool {
	_, known := r.partOf(t)
	return known
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
