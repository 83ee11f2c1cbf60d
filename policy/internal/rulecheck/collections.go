package rulecheck

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// whole returns the list, set or object that a term is written as, or that a variable is the same
// as; nil if there is none, or more than one.
func (r *resolver) whole(s *scope, t *ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case *ast.Array, ast.Set, ast.Object, *ast.SetComprehension:
		return t
	case ast.Var:
		var found *ast.Term
		for _, expr := range s.exprs {
			if r.steps--; expr.Negated || !expr.IsCall() || !isEquality(expr) {
				continue
			}
			for side := range 2 {
				other := expr.Operand(1 - side)
				if expr.Operand(side).Value.Compare(v) != 0 {
					continue
				}
				switch other.Value.(type) {
				case *ast.Array, ast.Set, ast.Object, *ast.SetComprehension:
				default:
					return nil
				}
				if found != nil && !found.Equal(other) {
					return nil
				}
				found = other
			}
		}
		return found
	}
	return nil
}

// equality checks a comparison, of lists, sets and objects member by member.
func (w *walker) equality(s *scope, expr *ast.Expr, left, right *ast.Term) {
	w.equalityWithDefault(s, expr)
	s = s.without(expr) // else a variable is what it is compared with
	if why := w.differ(s, left, right, func(a, b *ast.Term) string {
		w.sameness(expr, w.of(s, a), w.of(s, b))
		return ""
	}); why != "" {
		w.refuse(expr, "%s", why)
	}
}

// differ calls same for the members of two lists, sets or objects that must be the same, and for
// two other terms themselves. It says why the terms are never the same.
func (w *walker) differ(s *scope, left, right *ast.Term, same func(a, b *ast.Term) string) string {
	a, b := w.whole(s, left), w.whole(s, right)
	if a == nil || b == nil {
		return same(left, right)
	}
	switch a := a.Value.(type) {
	case *ast.Array:
		b, ok := b.Value.(*ast.Array)
		if !ok {
			return "" // OPA's own checker says so
		}
		if a.Len() != b.Len() {
			return fmt.Sprintf("a list of %d and one of %d are never the same; write as many members in both", a.Len(), b.Len())
		}
		for i := range a.Len() {
			if why := w.differ(s, a.Elem(i), b.Elem(i), same); why != "" {
				return why
			}
		}
	case ast.Object:
		b, ok := b.Value.(ast.Object)
		if !ok {
			return ""
		}
		for _, key := range a.Keys() {
			if other := b.Get(key); other != nil && ast.IsConstant(key.Value) {
				if why := w.differ(s, a.Get(key), other, same); why != "" {
					return why
				}
			}
		}
	case ast.Set:
		b, ok := b.Value.(ast.Set)
		if ok && a.Len() == 1 && b.Len() == 1 {
			return w.differ(s, a.Slice()[0], b.Slice()[0], same)
		}
	default:
		return same(left, right)
	}
	return ""
}

// membershipOfWhole refuses to look for a list or an object among others that it is never the same
// as.
func (w *walker) membershipOfWhole(s *scope, expr *ast.Expr, item, list *ast.Term) {
	all, one := w.whole(s, list), w.whole(s, item)
	if all == nil || one == nil {
		return
	}
	var members []*ast.Term
	switch v := all.Value.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { members = append(members, t) })
	case ast.Set:
		members = v.Slice()
	}
	why := ""
	for _, member := range members {
		if why = w.differ(s, one, member, func(a, b *ast.Term) string { return w.neverSame(s, a, b) }); why == "" {
			return
		}
	}
	if why != "" {
		w.refuse(expr, "%s", why)
	}
}

// neverSame says why a term is never the same as a constant text; "" if it may be.
func (w *walker) neverSame(s *scope, a, b *ast.Term) string {
	for _, sides := range [][2]*ast.Term{{a, b}, {b, a}} {
		text, isText := sides[1].Value.(ast.String)
		found := w.of(s, sides[0])
		if !isText || len(found) != 1 {
			continue
		}
		if why := found[0].never(string(text)); why != "" {
			return why
		}
	}
	return ""
}
