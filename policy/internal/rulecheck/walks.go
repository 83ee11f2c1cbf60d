package rulecheck

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// walk checks the pattern that is matched with the built-in function walk: the input must have its
// path, and its value must be possible there.
func (w *walker) walk(s *scope, expr *ast.Expr) {
	pair, ok := expr.Operand(1).Value.(*ast.Array)
	if !ok || pair.Len() != 2 {
		return
	}
	path := w.walkPath(s, pair.Elem(0))
	if path != nil && len(w.at(s, expr.Operand(0), path, 0)) == 0 {
		if root := w.of(s, expr.Operand(0)); len(root) == 1 && root[0].schema != nil && isNames(path) {
			w.refuse(expr, "there is no %s.%s; correct the path", root[0].name, strings.Join(textsOf(path), "."))
			return
		}
	}
	if ast.IsConstant(pair.Elem(1).Value) {
		w.sameness(expr, w.walkedAt(s, expr, path, nil, 0), w.of(s, pair.Elem(1)))
	}
}

// walked follows a variable that walk sets to a value.
func (r *resolver) walked(s *scope, expr *ast.Expr, isIt func(*ast.Term) bool, path []*ast.Term, depth int) []meaning {
	if len(expr.Operands()) != 2 {
		return nil
	}
	pair, ok := expr.Operand(1).Value.(*ast.Array)
	if !ok || pair.Len() != 2 || !isIt(pair.Elem(1)) {
		return nil
	}
	return r.walkedAt(s, expr, r.walkPath(s, pair.Elem(0)), path, depth+1)
}

// walkedAt returns the meanings of the value that walk finds at a path. If the path is nil, it is
// any path, and only values without parts have a meaning.
func (r *resolver) walkedAt(s *scope, expr *ast.Expr, path, below []*ast.Term, depth int) []meaning {
	if path != nil {
		return r.at(s, expr.Operand(0), slices.Concat(path, below), depth)
	}
	found := r.at(s, expr.Operand(0), nil, depth)
	if len(below) > 0 || slices.ContainsFunc(found, func(m meaning) bool { return m.constant == nil && m.schema["type"] != "string" && m.values() == nil }) {
		return nil
	}
	return found
}

// walkPath returns the path that a term is; nil if it is not known.
func (r *resolver) walkPath(s *scope, t *ast.Term) []*ast.Term {
	whole := r.whole(s, t)
	if whole == nil {
		return nil
	}
	list, ok := whole.Value.(*ast.Array)
	if !ok || list.Len() == 0 {
		return nil
	}
	var path []*ast.Term
	list.Foreach(func(step *ast.Term) { path = append(path, step) })
	return path
}

func isNames(path []*ast.Term) bool {
	return !slices.ContainsFunc(path, func(t *ast.Term) bool { _, ok := t.Value.(ast.String); return !ok })
}

func textsOf(path []*ast.Term) []string {
	var texts []string
	for _, t := range path {
		if text, ok := t.Value.(ast.String); ok {
			texts = append(texts, string(text))
		}
	}
	return texts
}
