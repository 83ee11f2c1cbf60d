package rulecheck

import (
	"math"
	"regexp"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// moments refuses to order input.time, a text, and one that is not written alike.
func (w *walker) moments(s *scope, expr *ast.Expr) {
	for side := range 2 {
		for _, m := range w.of(s, expr.Operand(side)) {
			if m.name != "input.time" {
				continue
			}
			for _, other := range w.of(s, expr.Operand(1-side)) {
				if other.constant == nil {
					continue
				}
				if text, ok := other.constant.Value.(ast.String); ok && !momentPrefix().MatchString(string(text)) {
					w.refuse(expr, "input.time is compared with %q letter for letter, which is not written alike; write it in UTC, as 2027-06-30 or 2027-06-30T12:00:00Z", string(text))
				}
			}
		}
	}
}

var momentPrefix = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}(:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?Z?)?)?)?$`)
})

// A scale is the meaning of a number of nanoseconds: a duration or a moment.
type scale int

const (
	noScale scale = iota
	aDuration
	aMoment
)

// scaleOf returns the scale of a term; noScale if it is not known to be a number of nanoseconds.
func (w *walker) scaleOf(s *scope, t *ast.Term, depth int) scale {
	v, ok := t.Value.(ast.Var)
	if w.steps--; !ok || depth > maxDepth || w.steps < 0 {
		return noScale
	}
	for i, expr := range s.exprs {
		if expr.Negated || !expr.IsCall() {
			continue
		}
		before := &scope{exprs: slices.Concat(s.exprs[:i], s.exprs[i+1:])}
		a := expr.Operands()
		if isEquality(expr) {
			for side := range a {
				if a[side].Value.Compare(v) == 0 {
					if found := w.scaleOf(before, a[1-side], depth+1); found != noScale {
						return found
					}
				}
			}
			continue
		}
		if len(a) == 0 || a[len(a)-1].Value.Compare(v) != 0 {
			continue
		}
		switch expr.Operator().String() {
		case "time.parse_rfc3339_ns", "time.parse_ns", "time.add_date":
			return aMoment
		case "time.parse_duration_ns":
			return aDuration
		case "minus", "plus":
			left, right := w.scaleOf(before, a[0], depth+1), w.scaleOf(before, a[1], depth+1)
			if left == aMoment && right == aMoment {
				return aDuration
			}
			return max(left, right)
		case "abs":
			return w.scaleOf(before, a[0], depth+1)
		}
	}
	return noScale
}

// scales refuses seconds where nanoseconds are meant.
func (w *walker) scales(s *scope, expr *ast.Expr) {
	op := expr.Operator().String()
	for side := range 2 {
		of := w.scaleOf(s, expr.Operand(side), 0)
		other := w.scaleOf(s, expr.Operand(1-side), 0)
		if of == noScale {
			continue
		}
		if op != "plus" && op != "minus" && of == aMoment && other == aDuration {
			w.refuse(expr, "a point in time is compared with a duration; subtract two points in time first")
			return
		}
		number, ok := w.number(s, expr.Operand(1-side), 0)
		limit := 1e9 // shorter than a second
		if of == aMoment && op != "plus" && op != "minus" {
			limit = 1e17 // in 1973
		}
		isNext := (op == "plus" || op == "minus") && math.Abs(number) == 1 // the last nanosecond of a day
		if ok && other == noScale && number != 0 && !isNext && math.Abs(number) < limit {
			w.refuse(expr, "%v is too small for nanoseconds, in which OPA counts time; multiply seconds by 1000000000, or write time.parse_duration_ns(\"1h\")", number)
			return
		}
	}
}
