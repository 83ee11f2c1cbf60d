package rulecheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// lookupWithDefault checks object.get. Otherwise OPA would accept a key that the object never has,
// and a default of another type than the value's.
func (w *walker) lookupWithDefault(s *scope, get *ast.Expr) {
	path := getPath(get)
	if path == nil {
		return
	}
	object := get.Operand(0)
	if why := w.missingKey(s, object, path); why != "" {
		w.refuse(get, "%s", why)
		return
	}
	fallback := get.Operand(2)
	have := w.kindsOf(s, fallback)
	there := w.kindsAt(s, object, path)
	if w.isSetting(s, object, 0) || there == anyKind || there == 0 || have&(there|isNull|isBoolean) != 0 || w.isCompared(s, get) {
		return
	}
	w.refuse(get, "%s is %s, and the default is %s; write both as one type", w.shownAt(s, object, path), there, have)
}

// getPath returns the path that object.get looks up; nil if it is not constant.
func getPath(get *ast.Expr) []*ast.Term {
	key := get.Operand(1)
	if !ast.IsConstant(key.Value) {
		return nil
	}
	list, ok := key.Value.(*ast.Array)
	if !ok {
		return []*ast.Term{key}
	}
	var path []*ast.Term
	list.Foreach(func(t *ast.Term) { path = append(path, t) })
	return path
}

// getOf returns the call of object.get whose result a variable is; nil if it is not such a result.
func getOf(s *scope, v ast.Var, depth int) *ast.Expr {
	for _, expr := range s.exprs {
		if expr.Negated || !expr.IsCall() || depth > maxDepth {
			continue
		}
		if expr.Operator().String() == ast.ObjectGet.Name && len(expr.Operands()) == 4 && expr.Operand(3).Value.Compare(v) == 0 {
			return expr
		}
		if !isEquality(expr) {
			continue
		}
		for side := range 2 {
			other, isVar := expr.Operand(1 - side).Value.(ast.Var)
			if isVar && expr.Operand(side).Value.Compare(v) == 0 {
				if get := getOf(s.without(expr), other, depth+1); get != nil {
					return get
				}
			}
		}
	}
	return nil
}

// equalityWithDefault refuses to compare the result of object.get with a value that it never has.
func (w *walker) equalityWithDefault(s *scope, expr *ast.Expr) {
	for side := range 2 {
		v, isVar := expr.Operand(side).Value.(ast.Var)
		if !isVar {
			continue
		}
		before, other := s.without(expr), expr.Operand(1-side)
		get := getOf(before, v, 0)
		if get == nil || getPath(get) == nil || w.isFallback(before, get, other) {
			continue
		}
		have, want := w.kindsOfGet(before, get), w.kindsOf(before, other)
		if have&want == 0 {
			w.refuse(expr, "%s and %s are never the same; write both as one type", have, want)
			return
		}
		there := w.kindsAt(before, get.Operand(0), getPath(get))
		if truth, ok := other.Value.(ast.Boolean); ok && there&isBoolean == 0 && ast.IsConstant(get.Operand(2).Value) {
			w.refuse(expr, "%s is %s or missing, and never %t; write it as text, as in == \"%[3]t\"", w.shownAt(before, get.Operand(0), getPath(get)), there, bool(truth))
			return
		}
	}
}

// kindsOfGet returns the kinds of the result of object.get. For a setting they are those of its
// value, or of the default if it is not set.
func (w *walker) kindsOfGet(s *scope, get *ast.Expr) kinds {
	path := getPath(get)
	if path == nil {
		return anyKind
	}
	there := w.kindsAt(s, get.Operand(0), path)
	if there == anyKind || there != 0 && w.isSetting(s, get.Operand(0), 0) {
		return there
	}
	if w.isCompared(s, get) { // the default stands for a missing value
		return anyKind
	}
	return there | w.kindsOf(s, get.Operand(2))
}

// isCompared reports whether the result of object.get is compared with its default, to find out
// whether there is a value.
func (w *walker) isCompared(s *scope, get *ast.Expr) bool {
	if len(get.Operands()) != 4 {
		return false
	}
	result := get.Operand(3)
	return slices.ContainsFunc(s.exprs, func(expr *ast.Expr) bool {
		if !expr.IsCall() || len(expr.Operands()) != 2 || !isEquality(expr) && expr.Operator().String() != ast.NotEqual.Name {
			return false
		}
		a, b := expr.Operand(0), expr.Operand(1)
		isResult := w.isSame(s, a, result)
		if isResult == w.isSame(s, b, result) {
			return false // neither, or one is only another name for it
		}
		if isResult {
			return w.isFallback(s, get, b)
		}
		return w.isFallback(s, get, a)
	})
}

// isFallback reports whether a term is the default of object.get.
func (w *walker) isFallback(s *scope, get *ast.Expr, t *ast.Term) bool {
	if t.Equal(get.Operand(2)) {
		return true
	}
	found := w.of(s, t)
	return len(found) == 1 && found[0].constant != nil && found[0].constant.Equal(get.Operand(2))
}

// isSame reports whether a term is a variable, or one that is set to it.
func (w *walker) isSame(s *scope, t, variable *ast.Term) bool {
	if t.Equal(variable) {
		return true
	}
	return slices.ContainsFunc(s.exprs, func(expr *ast.Expr) bool {
		return expr.IsCall() && !expr.Negated && isEquality(expr) &&
			(expr.Operand(0).Equal(t) && expr.Operand(1).Equal(variable) || expr.Operand(1).Equal(t) && expr.Operand(0).Equal(variable))
	})
}

// typeOf returns the type of a term in a scope; nil if it is not known.
func (w *walker) typeOf(s *scope, t *ast.Term) types.Type {
	set := w.typeIn(s, ast.ArrayTerm(t))
	if set == nil {
		return nil
	}
	array, ok := types.Values(set).(*types.Array)
	if !ok || array.Len() != 1 {
		return nil
	}
	return array.Select(0)
}

// kindsAt returns the kinds of the value at a path of an object; none if the path does not exist.
func (w *walker) kindsAt(s *scope, object *ast.Term, path []*ast.Term) kinds {
	t := w.typeOf(s, object)
	for i, step := range path {
		o, ok := t.(*types.Object)
		if !ok {
			return anyKind
		}
		if property := staticType(o, step); property != nil {
			t = property
			continue
		}
		if w.isSetting(s, object, 0) {
			return 0
		}
		if o.DynamicProperties() == nil || i < len(path)-1 {
			return anyKind
		}
		t = o.DynamicProperties().Value
	}
	if types.Nil(t) {
		return anyKind
	}
	if k := kindsOf(t); k != anyKind {
		return k
	}
	// OPA's checker does not know the types of free names, such as an attribute's.
	if found := w.at(s, object, path, 0); len(found) == 1 && strings.Contains(found[0].name, ".attributes.") {
		return isText
	}
	return anyKind
}

func staticType(o *types.Object, key *ast.Term) types.Type {
	for _, p := range o.StaticProperties() {
		if name, ok := p.Key.(string); ok && key.Value.Compare(ast.String(name)) == 0 {
			return p.Value
		}
	}
	return nil
}

// missingKey says which key of a path an object never has; "" if it may have all.
func (w *walker) missingKey(s *scope, object *ast.Term, path []*ast.Term) string {
	t := w.typeOf(s, object)
	for i, step := range path {
		key, isText := step.Value.(ast.String)
		o, isObject := t.(*types.Object)
		if !isText || !isObject {
			return ""
		}
		if property := staticType(o, step); property != nil {
			t = property
			continue
		}
		var names []string
		for _, p := range o.StaticProperties() {
			if name, ok := p.Key.(string); ok {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		missing := w.shownAt(s, object, path[:i+1])
		if o.DynamicProperties() == nil && len(names) > 0 && !w.isSetting(s, object, 0) {
			return fmt.Sprintf("there is no %s; there are: %s", missing, strings.Join(names, ", "))
		}
		for _, name := range names {
			if isNear(string(key), name) && !w.mentions(name) {
				return fmt.Sprintf("no data file sets %s, but %q; correct the name", missing, name)
			}
		}
		return ""
	}
	return ""
}

// shownAt returns the name in messages of the value at a path of an object.
func (w *walker) shownAt(s *scope, object *ast.Term, path []*ast.Term) string {
	name := "the object"
	if found := w.of(s, object); len(found) == 1 && found[0].name != "" {
		name = found[0].name
	} else if setting := w.settingOf(s, object, 0); setting != "" {
		name = setting
	}
	return name + "." + strings.Join(textsOf(path), ".")
}

// settingOf returns the name of the setting that a term is; "" if it is not a whole one.
func (w *walker) settingOf(s *scope, t *ast.Term, depth int) string {
	if ref, ok := t.Value.(ast.Ref); ok && ref.IsGround() {
		return ref.String()
	}
	if v, ok := t.Value.(ast.Var); ok && depth < maxDepth {
		for _, expr := range s.exprs {
			if !expr.Negated && expr.IsCall() && isEquality(expr) && expr.Operand(0).Value.Compare(v) == 0 {
				return w.settingOf(s, expr.Operand(1), depth+1)
			}
		}
	}
	return ""
}

// mentions reports whether a rule of the site has a text, or a name, in it.
func (w *walker) mentions(name string) bool {
	isFound := false
	for _, m := range w.site {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			text, ok := t.Value.(ast.String)
			isFound = isFound || ok && string(text) == name
			return isFound
		})
	}
	return isFound
}

// isNear reports whether a name is another one with one letter too many, one too few, a wrong one,
// or two exchanged. Short names, and names that differ in a digit, are near by chance.
func isNear(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(a) < 4 || len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	isDigit := func(text string) bool { return i < len(text) && text[i] >= '0' && text[i] <= '9' }
	switch {
	case i == len(b) || isDigit(a) || isDigit(b):
		return false
	case len(a) < len(b):
		return a[i:] == b[i+1:]
	}
	isExchanged := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
	return isExchanged || len(a) > 4 && a[i+1:] == b[i+1:]
}
