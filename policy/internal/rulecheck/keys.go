package rulecheck

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// lookup checks the members of sets that are looked up in brackets, as in
// _operations[input.operation].
func (w *walker) lookup(s *scope, expr *ast.Expr, t *ast.Term) {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		return
	}
	for i := 1; i < len(ref); i++ {
		set := ast.NewTerm(ref[:i])
		if i == 1 {
			set = ref[0]
		}
		if ast.IsConstant(ref[i].Value) || w.kindsOf(s, set) != isSet {
			continue
		}
		w.sameness(expr, w.of(s, ref[i]), w.members(s, set))
	}
}

// keys refuses to look a field up in an object that has a misspelt value of the field as a key, or
// no key that the field can have.
func (w *walker) keys(s *scope, expr *ast.Expr) {
	terms := expr.Operands()
	if term, ok := expr.Terms.(*ast.Term); ok {
		terms = []*ast.Term{term}
	}
	for _, t := range terms {
		ref, ok := t.Value.(ast.Ref)
		if n := regovalue.CountConstants(ref[min(1, len(ref)):]) + 1; ok && n < len(ref) {
			w.key(expr, w.of(s, ref[n]), w.keysOf(ref[:n]))
		}
	}
}

func (w *walker) key(expr *ast.Expr, fields []meaning, keys []string) {
	if len(fields) != 1 || fields[0].schema == nil || len(keys) == 0 {
		return
	}
	field, why, isPossible := fields[0], "", fields[0].values() == nil
	for _, key := range keys {
		never := field.never(key)
		if never != "" && field.isNearly(key) {
			w.refuse(expr, "%s", never)
			return
		}
		isPossible = isPossible || never == "" // then a key such as default may be for another line
		why = never
	}
	if !isPossible {
		w.refuse(expr, "%s", why)
	}
}

// keysOf returns the keys of an object; none if they are not all known.
func (w *walker) keysOf(ref ast.Ref) (keys []string) {
	if object, ok := ref[0].Value.(ast.Object); ok && len(ref) == 1 {
		return keysIn(object)
	}
	if ref.HasPrefix(ast.Ref{ast.DefaultRootDocument, ast.StringTerm("site")}) {
		var value any = w.settings
		for _, key := range regovalue.Path(ref[2:]) {
			object, _ := value.(map[string]any)
			value = object[key]
		}
		object, _ := value.(map[string]any)
		return slices.Sorted(maps.Keys(object))
	}
	if !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	for _, rule := range w.c.GetRulesWithPrefix(ref) {
		own := rule.Ref()
		var more []string
		switch {
		case rule.Default || rule.Else != nil || rule.Head.Value == nil || len(rule.Head.Args) > 0:
		case len(own) > len(ref):
			if key, ok := own[len(ref)].Value.(ast.String); ok {
				more = []string{string(key)}
			}
		default:
			if object, ok := rule.Head.Value.Value.(ast.Object); ok {
				more = keysIn(object)
			}
		}
		if more == nil {
			return nil
		}
		keys = append(keys, more...)
	}
	return keys
}

// keysIn returns the keys of an object; nil if a key is not a constant text.
func keysIn(object ast.Object) (keys []string) {
	for _, key := range object.Keys() {
		text, ok := key.Value.(ast.String)
		if !ok {
			return nil
		}
		keys = append(keys, string(text))
	}
	return keys
}
