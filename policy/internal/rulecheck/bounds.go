package rulecheck

import (
	"math"

	"github.com/open-policy-agent/opa/v1/ast"
)

// leastFields are the least values of numbers of the input.
var leastFields = map[string]float64{"input.domain.vcpus": 0, "input.domain.memory_bytes": 0, "input.caller.pid": 0}

// mirrored are the comparisons with their sides exchanged.
var mirrored = map[string]string{"lt": "gt", "lte": "gte", "gt": "lt", "gte": "lte", "equal": "equal", "neq": "neq"}

// opposite are the comparisons that hold where another does not.
var opposite = map[string]string{"lt": "gte", "lte": "gt", "gt": "lte", "gte": "lt", "equal": "neq", "neq": "equal"}

// bounds refuses to compare a number with one that it never reaches, as in count(x) < 0.
func (w *walker) bounds(s *scope, expr *ast.Expr) {
	op := expr.Operator().String()
	if isEquality(expr) {
		op = ast.Equal.Name
	}
	s = s.without(expr) // else a variable is what it is compared with
	if expr.Negated {
		op = opposite[op]
	}
	for side := range 2 {
		if side == 1 {
			op = mirrored[op]
		}
		least, name, ok := w.least(s, expr.Operand(side))
		limit, isNumber := w.number(s, expr.Operand(1-side), 0)
		if !ok || !isNumber {
			continue
		}
		isNever := op == "lt" && limit <= least || op == "lte" && limit < least ||
			op == "equal" && (limit < least || limit != math.Trunc(limit))
		if isNever {
			w.refuse(expr, "%s is a whole number and at least %v, so the comparison with %v never holds; correct it", name, least, limit)
			return
		}
	}
}

// least returns the least value of a term that is a whole number.
func (w *walker) least(s *scope, t *ast.Term) (least float64, name string, ok bool) {
	found := w.of(s, t)
	if len(found) != 1 {
		return 0, "", false
	}
	m := found[0]
	if least, ok = m.schema["minimum"].(float64); !ok {
		least, ok = leastFields[m.name]
	}
	return least, m.name, ok
}
