package rulecheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stopguard/stopguard/policy/internal/builtin"
)

// maxComputed bounds the arguments that a function is computed for.
const maxComputed = 64

// unchanged are functions that return some of the texts that they are given as they are.
var unchanged = map[string]func(meaning) bool{
	"trim_space": func(m meaning) bool { return m.schema["pattern"] != nil },
	"lower":      func(m meaning) bool { return strings.HasSuffix(m.name, ".uuid") || strings.HasSuffix(m.name, ".mac") },
}

// computed returns the results of a built-in function for all values of its arguments, if one of
// them is a field with few values: trim_space(input.operation) is one of the operations.
func (r *resolver) computed(s *scope, call *ast.Expr, path []*ast.Term, depth int) []meaning {
	name := call.Operator().String()
	b, isBuiltin := ast.BuiltinMap[name]
	if !isBuiltin || len(call.Operands()) != b.Decl.Arity()+1 || !builtin.IsAllowed(name) || kindsOf(b.Decl.Result()) == isBoolean {
		return nil
	}
	args := call.Operands()[:b.Decl.Arity()]
	if is, ok := unchanged[name]; ok && len(path) == 0 {
		if found := r.at(s, args[0], nil, depth+1); len(found) == 1 && is(found[0]) {
			return found
		}
	}
	var fields []string
	present := r.results(s, name, args, path, depth, meaning.values, &fields)
	if len(fields) == 0 || len(present) == 0 {
		return nil
	}
	understood := r.results(s, name, args, path, depth, meaning.understood, nil)
	enum := make([]any, len(present))
	for i, text := range present {
		enum[i] = text
	}
	return []meaning{{
		name:   fmt.Sprintf("%s(%s)", name, strings.Join(fields, ", ")),
		schema: map[string]any{"enum": enum},
		former: slices.DeleteFunc(understood, func(text string) bool { return slices.Contains(present, text) }),
		steady: true,
	}}
}

// results returns the texts at a path of a function's results; none if another value is possible
// there, too. It adds the names of the fields among the arguments.
func (r *resolver) results(s *scope, name string, args, path []*ast.Term, depth int, valuesOf func(meaning) []string, fields *[]string) []string {
	calls := [][]*ast.Term{nil}
	for _, arg := range args {
		values := r.finite(s, arg, depth+1, valuesOf, fields)
		if len(values) == 0 || len(calls)*len(values) > maxComputed {
			return nil
		}
		var longer [][]*ast.Term
		for _, call := range calls {
			for _, value := range values {
				longer = append(longer, append(slices.Clone(call), value))
			}
		}
		calls = longer
	}
	var texts []string
	for _, call := range calls {
		r.steps--
		var result *ast.Term
		ctx := topdown.BuiltinContext{Context: context.Background(), Capabilities: builtin.Capabilities()}
		err := topdown.GetBuiltin(name)(ctx, call, func(t *ast.Term) error { result = t; return nil })
		if err != nil || result == nil {
			continue // it has no value for these
		}
		found, err := result.Value.Find(path)
		if err != nil {
			continue
		}
		text, ok := found.(ast.String)
		if !ok {
			return nil
		}
		texts = append(texts, string(text))
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// finite returns all values that a term can have; none if there are others, or too many.
func (r *resolver) finite(s *scope, t *ast.Term, depth int, valuesOf func(meaning) []string, fields *[]string) []*ast.Term {
	if r.steps--; depth > maxDepth || r.steps < 0 {
		return nil
	}
	if ast.IsConstant(t.Value) {
		return []*ast.Term{t}
	}
	if whole := r.whole(s, t); whole != nil {
		t = whole
	}
	switch v := t.Value.(type) {
	case *ast.Array:
		lists := []*ast.Array{ast.NewArray()}
		for i := range v.Len() {
			values := r.finite(s, v.Elem(i), depth+1, valuesOf, fields)
			if len(values) == 0 || len(lists)*len(values) > maxComputed {
				return nil
			}
			var longer []*ast.Array
			for _, list := range lists {
				for _, value := range values {
					longer = append(longer, list.Append(value))
				}
			}
			lists = longer
		}
		terms := make([]*ast.Term, len(lists))
		for i, list := range lists {
			terms[i] = ast.NewTerm(list)
		}
		return terms
	case *ast.SetComprehension: // of a template
		var sets []*ast.Term
		for _, value := range r.finite(s.with(v.Body...), v.Term, depth+1, valuesOf, fields) {
			sets = append(sets, ast.SetTerm(value))
		}
		return sets
	}
	found := r.at(s, t, nil, depth+1)
	if len(found) != 1 {
		return nil
	}
	m := found[0]
	if m.constant != nil {
		return []*ast.Term{m.constant}
	}
	var terms []*ast.Term
	for _, value := range valuesOf(m) {
		terms = append(terms, ast.StringTerm(value))
	}
	if enum, _ := m.schema["enum"].([]any); len(terms) > 0 && slices.Contains(enum, any("")) {
		terms = append(terms, ast.StringTerm(""))
	}
	if len(terms) > 0 && fields != nil {
		*fields = append(*fields, m.name)
	}
	return terms
}
