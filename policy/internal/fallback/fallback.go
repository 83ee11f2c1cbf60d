// Package fallback keeps a veto whose reason cannot be computed.
package fallback

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/module"
)

// Message is the reason of a veto whose own reason reads something that does not exist.
const Message = "rule failed: its reason reads what is missing; correct the rule, for instance with object.get"

// Add adds a clause to each veto whose reason is computed: it vetoes if all other
// conditions hold and the reason is undefined. Otherwise a reason that reads a missing attribute
// would take its veto with it.
func Add(m *ast.Module) {
	if _, isRule := module.RuleOf(m.Package.Path); !isRule {
		return
	}
	for _, r := range m.Rules {
		if fallback := fallbackOf(m, r); fallback != nil {
			m.Rules = append(m.Rules, fallback)
		}
	}
}

// Is reports whether Add added a rule.
func Is(r *ast.Rule) bool {
	return r.Head.Key != nil && r.Head.Key.Value.Compare(ast.String(Message)) == 0
}

// fallbackOf returns the clause for a clause of a veto; nil if its reason is not a text that the
// clause composes. A reason that is looked up, or returned by a function of several clauses, is a
// condition, too: veto contains _texts[input.operation].
func fallbackOf(m *ast.Module, r *ast.Rule) *ast.Rule {
	if r.Head.Name != "veto" && r.Head.Ref().String() != "veto" || r.Head.Key == nil || r.Else != nil {
		return nil
	}
	reason, conditions := r.Head.Key, r.Body
	if name, isVar := reason.Value.(ast.Var); isVar {
		if reason, conditions = assigned(r.Body, name); reason == nil {
			return nil
		}
	}
	if !isComposed(m, reason) {
		return nil
	}
	lines, conditions := textLines(reason, conditions)
	fallback := r.Copy()
	fallback.Module = r.Module
	fallback.Head.Key = ast.StringTerm(Message)
	body := make(ast.Body, 0, len(conditions)+1)
	for _, expr := range conditions {
		body.Append(expr.Copy())
	}
	text := ast.Equality.Expr(ast.VarTerm("__reason__"), reason.Copy())
	composed := make(ast.Body, 0, len(lines)+1)
	for _, line := range lines {
		composed.Append(line.Copy())
	}
	composed.Append(text)
	found := ast.ArrayComprehensionTerm(ast.IntNumberTerm(1), composed)
	undefined := ast.Equal.Expr(ast.Count.Call(found), ast.IntNumberTerm(0))
	ast.WalkNodes(undefined, func(n ast.Node) bool {
		if n.Loc() == nil {
			n.SetLoc(r.Loc())
		}
		return false
	})
	body.Append(undefined)
	fallback.Body = body
	return fallback
}

// textLines divides the lines that only give the reason its text, and read an attribute, from the
// conditions, as owner := e.attributes.owner does:
//
//	some e in input.domain.metadata
//	e.namespace == "urn:x"
//	owner := e.attributes.owner
//	message := sprintf("ask %s", [owner])
//
// If nothing else says which element is meant, the attribute does, and is a condition.
func textLines(reason *ast.Term, conditions ast.Body) (lines, others ast.Body) {
	others = conditions
	hasAttribute := false
	for i := len(others) - 1; i >= 0; i-- {
		line := others[i]
		rest := slices.Concat(others[:i], others[i+1:])
		if line.Negated || len(line.With) > 0 || !line.IsAssignment() {
			continue
		}
		name, isVar := line.Operand(0).Value.(ast.Var)
		if !isVar || mentions(rest, name) || !mentions(reason, name) && !mentions(lines, name) {
			continue
		}
		elements, isText := textOf(line.Operand(1))
		if !isText || slices.ContainsFunc(elements, func(e ast.Var) bool { return !isChosen(rest, e) }) {
			continue
		}
		hasAttribute = hasAttribute || len(elements) > 0
		lines, others = append(ast.Body{line}, lines...), rest
	}
	if !hasAttribute {
		return nil, conditions
	}
	return lines, others
}

// textOf reports whether a term is an attribute of an element or the result of a built-in function,
// and returns the variables of the elements whose attributes it reads.
func textOf(t *ast.Term) (elements []ast.Var, isText bool) {
	ast.WalkRefs(t, func(ref ast.Ref) bool {
		element, isVar := ref[0].Value.(ast.Var)
		if isVar && !ast.RootDocumentNames.Contains(ref[0]) && len(ref) == 3 && ref[1].Equal(ast.StringTerm("attributes")) {
			elements = append(elements, element)
		}
		return false
	})
	switch value := t.Value.(type) {
	case ast.Ref:
		return elements, len(elements) > 0
	case ast.Call:
		_, isBuiltin := ast.BuiltinMap[value[0].Value.String()]
		return elements, isBuiltin
	}
	return nil, false
}

// isChosen reports whether a condition says which element a variable stands for.
func isChosen(body ast.Body, element ast.Var) bool {
	return slices.ContainsFunc(body, func(expr *ast.Expr) bool {
		_, isDeclaration := expr.Terms.(*ast.SomeDecl)
		return !isDeclaration && !expr.IsAssignment() && mentions(expr, element)
	})
}

func mentions(node any, name ast.Var) (isFound bool) {
	ast.WalkVars(node, func(v ast.Var) bool { isFound = isFound || v.Equal(name); return isFound })
	return isFound
}

// assigned returns the term that a body assigns to a variable, and the other expressions; nil if
// the variable is used elsewhere in the body.
func assigned(body ast.Body, name ast.Var) (value *ast.Term, others ast.Body) {
	uses := 0
	for _, expr := range body {
		if !mentions(expr, name) {
			others = append(others, expr)
			continue
		}
		uses++
		isAssignment := expr.IsAssignment() || expr.IsEquality()
		if isAssignment && !expr.Negated && len(expr.With) == 0 && expr.Operand(0).Value.Compare(name) == 0 {
			value = expr.Operand(1)
		}
	}
	if uses != 1 {
		return nil, nil
	}
	return value, others
}

// isComposed reports whether a term is a text that is made by a built-in function, or a reason's
// object with such a text.
func isComposed(m *ast.Module, t *ast.Term) bool {
	switch value := t.Value.(type) {
	case *ast.TemplateString:
		return true
	case ast.Object:
		message := value.Get(ast.StringTerm("message"))
		return message != nil && isComposed(m, message)
	case ast.Call:
		operator := value[0].Value.(ast.Ref)
		if _, isBuiltin := ast.BuiltinMap[operator.String()]; isBuiltin {
			return true
		}
		function := plainFunction(m, operator)
		return function != nil && isComposed(m, function.Head.Value)
	}
	return false
}

// plainFunction returns the function of a module that a reference names, if it has one clause and
// returns its value for all arguments; else nil.
func plainFunction(m *ast.Module, ref ast.Ref) *ast.Rule {
	var found *ast.Rule
	for _, r := range m.Rules {
		if !r.Head.Ref().Equal(ref) {
			continue
		}
		isAlways := len(r.Body) == 1 && r.Body[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
		hasPattern := slices.ContainsFunc(r.Head.Args, func(t *ast.Term) bool { _, isVar := t.Value.(ast.Var); return !isVar })
		if found != nil || !isAlways || hasPattern || r.Else != nil {
			return nil
		}
		found = r
	}
	return found
}
