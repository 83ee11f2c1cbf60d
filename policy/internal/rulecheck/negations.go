package rulecheck

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// undefinable are functions that have no result for some arguments of the right type.
var undefinable = []string{"min", "max", "walk", "print"}

// negation refuses not before an expression that is always true.
func (w *walker) negation(s *scope, expr *ast.Expr) {
	const cure = "not of it is never true; compare it, as in x == \"\" or count(x) == 0"
	if expr.IsCall() {
		if isEquality(expr) {
			return
		}
		name := expr.Operator().String()
		if b, ok := ast.BuiltinMap[name]; ok {
			if isValueCall(expr) {
				w.refuse(expr, "%s returns %s, which is never false; %s", name, kindsOf(b.Decl.Result()), cure)
			}
			return
		}
		for _, rule := range w.c.GetRulesExact(expr.Operator()) {
			f, _ := w.c.TypeEnv.GetByRef(expr.Operator()).(*types.Function)
			if rule.Default && f != nil && kindsOf(f.Result())&isBoolean == 0 {
				w.refuse(expr, "%s always returns %s, which is never false; %s", expr.Operator(), kindsOf(f.Result()), cure)
			}
		}
		return
	}
	term, ok := expr.Terms.(*ast.Term)
	if ok && w.holdsAlways(term) {
		w.refuse(expr, "%s is always true; %s", term, cure)
		return
	}
	if !ok || w.kindsOf(s, term)&isBoolean != 0 {
		return
	}
	if w.isAlwaysThere(s, term) {
		w.refuse(expr, "%s is always there, and %s; %s", w.termName(s, term), w.kindsOf(s, term), cure)
	}
}

// termName returns how a message names a term.
func (w *walker) termName(s *scope, t *ast.Term) string {
	for _, m := range w.of(s, t) {
		if m.name != "" {
			return m.name
		}
	}
	if _, isRef := t.Value.(ast.Ref); isRef {
		return t.String()
	}
	return "what not stands before"
}

// isAlwaysThere reports whether a term has a value whatever the input is.
func (w *walker) isAlwaysThere(s *scope, t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		return true // a variable has one, and so have constants and comprehensions
	}
	if regovalue.CountConstants(ref[1:]) != len(ref)-1 {
		return false
	}
	if ref[0].Equal(ast.DefaultRootDocument) {
		if ref.HasPrefix(ast.Ref{ast.DefaultRootDocument, ast.StringTerm("site")}) {
			return len(inSettings(w.settings, ref[2:])) > 0
		}
		return slices.ContainsFunc(w.c.GetRulesExact(ref), func(rule *ast.Rule) bool {
			return rule.Default || rule.Head.RuleKind() == ast.MultiValue || len(rule.Ref()) > len(ref) || w.isUnconditional(rule)
		})
	}
	found := w.of(s, t)
	return len(found) > 0 && !slices.ContainsFunc(found, func(m meaning) bool { return !m.steady })
}

// isUnconditional reports whether a rule's body only names parts of its value, which always have
// one.
func (w *walker) isUnconditional(rule *ast.Rule) bool {
	return !slices.ContainsFunc(rule.Body, func(expr *ast.Expr) bool {
		if term, ok := expr.Terms.(*ast.Term); ok && !expr.Negated {
			return !isTrue(term)
		}
		if !expr.Negated && isValueCall(expr) {
			return false
		}
		if !expr.Generated || expr.Negated || !expr.IsCall() || !isEquality(expr) {
			return true
		}
		ref, isRef := expr.Operand(1).Value.(ast.Ref)
		if isRef && ref[0].Equal(ast.InputRootDocument) {
			return !w.isAlwaysThere(&scope{}, expr.Operand(1))
		}
		_, isVar := expr.Operand(1).Value.(ast.Var)
		return isRef || isVar
	})
}

// isTrue reports whether a term holds as an expression, whatever is asked about: every value but
// false does.
func isTrue(t *ast.Term) bool {
	switch value := t.Value.(type) {
	case ast.Boolean:
		return bool(value)
	case ast.String, ast.Number, *ast.Array, ast.Object, ast.Set, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		return true
	}
	return false
}

// isValueCall reports whether an expression calls a built-in function for a value that is never
// false, such as count.
func isValueCall(expr *ast.Expr) bool {
	if !expr.IsCall() {
		return false
	}
	b, ok := ast.BuiltinMap[expr.Operator().String()]
	return ok && kindsOf(b.Decl.Result())&isBoolean == 0 && !slices.Contains(undefinable, b.Name) && len(expr.Operands()) == b.Decl.Arity()
}

// holdsAlways reports whether a term is a rule that is true for every input, though its body seems
// to ask for something. A rule that only says true is a switch.
func (w *walker) holdsAlways(t *ast.Term) bool {
	ref, isRef := t.Value.(ast.Ref)
	return isRef && slices.ContainsFunc(w.c.GetRulesExact(ref), func(rule *ast.Rule) bool {
		isSwitch := len(rule.Body) == 1 && rule.Body[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
		return !isSwitch && len(rule.Head.Args) == 0 && rule.Head.Value != nil && rule.Head.Value.Equal(ast.BooleanTerm(true)) && w.isUnconditional(rule)
	})
}
