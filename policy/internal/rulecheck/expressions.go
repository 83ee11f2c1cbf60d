package rulecheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/fallback"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// Expressions refuses expressions of a site's rules that are never true, or always, whatever
// the input is. Most mistakes in Rego are not errors: the rule is just never true.
//
// It walks the compiled rules, in which every operand is a variable or a constant. It walks a
// function for each of its calls, so that the arguments are known. An expression that types and
// meanings do not decide is accepted.
func Expressions(c *ast.Compiler, src *source.Source) error {
	if len(src.Site) == 0 {
		return nil
	}
	schema, err := library.InputSchema()
	if err != nil {
		return err
	}
	input, _ := schema.(map[string]any)
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(src.Site)) {
		w := walker{resolver: resolver{c: c, settings: src.Settings.Site, input: input, steps: maxSteps}, site: src.Site}
		for _, rule := range c.Modules[file].Rules {
			if fallback.Is(rule) {
				continue
			}
			isVeto := string(rule.Head.Name) == "veto"
			for ; rule != nil; rule = rule.Else {
				w.body(&scope{isOptional: !isVeto}, rule.Body, 0)
			}
		}
		if w.steps < 0 {
			errs = append(errs, fmt.Errorf("%s: the rules are too many to be checked; divide the file, and give each part a package of its own", c.Modules[file].Package.Location))
		} else {
			w.refuseUnused()
		}
		slices.SortStableFunc(w.faults, func(a, b fault) int { return a.at.Compare(b.at) })
		for _, f := range w.faults {
			errs = append(errs, f.err)
		}
	}
	return problem.Join(errs...)
}

// maxSteps bounds the work for one file. Some six thousand clauses, or fifty thousand names, take
// as much; functions that call others several times each take more than their length says.
var maxSteps = 250_000 // a test lowers it

type walker struct {
	resolver
	site   map[string]*ast.Module
	faults []fault

	doubts []doubt
	used   map[string]bool // the constants that another comparison of the file may find
}

// A doubt is a constant that one comparison never finds. Lists and tables hold names and UUIDs, or
// names and patterns, or a word such as "any", each for a comparison of its own: it is a fault only
// if no comparison of the file is for the constant.
type doubt struct {
	constant string
	fault    fault
}

// doubt refuses a constant, unless another comparison is for it.
func (w *walker) doubt(expr *ast.Expr, constant meaning, why string) {
	w.doubts = append(w.doubts, doubt{constant.key(), fault{expr.Location, fmt.Errorf("%s: %s", expr.Location, why)}})
}

func (w *walker) use(constant meaning) {
	if constant.constant == nil {
		return
	}
	if w.used == nil {
		w.used = map[string]bool{}
	}
	w.used[constant.key()] = true
}

// A fault is about an expression, which has no second one.
type fault struct {
	at  *ast.Location
	err error
}

func (w *walker) refuseUnused() {
	for _, d := range w.doubts {
		if !w.used[d.constant] {
			w.add(d.fault)
		}
	}
}

func (w *walker) add(f fault) {
	if !slices.ContainsFunc(w.faults, func(other fault) bool { return other.at.Compare(f.at) == 0 }) {
		w.faults = append(w.faults, f)
	}
}

func (w *walker) refuse(expr *ast.Expr, format string, args ...any) {
	w.add(fault{expr.Location, fmt.Errorf("%s: %s", expr.Location, fmt.Sprintf(format, args...))})
}

// body checks the expressions of a body that is evaluated in a scope.
func (w *walker) body(outer *scope, body ast.Body, depth int) {
	s := outer.with(body...)
	for _, expr := range body {
		if w.steps < 0 {
			return
		}
		w.expression(s, expr)
		w.closures(s, expr, depth)
		if !expr.IsCall() || depth > maxDepth {
			continue
		}
		clauses := w.c.GetRulesExact(expr.Operator())
		for _, rule := range clauses {
			isOptional := s.isOptional || expr.Negated || len(clauses) > 1 || rule.Else != nil
			for ; rule != nil; rule = rule.Else {
				if w.site[rule.Location.File] != nil {
					w.steps -= len(rule.Body)
					for i, arg := range rule.Head.Args {
						if ast.IsConstant(arg.Value) && i < len(expr.Operands()) {
							w.sameness(expr, w.of(s, expr.Operand(i)), []meaning{{constant: arg}})
						}
					}
					inner := callScope(s, expr, rule)
					bound := &scope{exprs: inner.exprs[:len(inner.exprs)-len(rule.Body)], isOptional: isOptional}
					w.body(bound, rule.Body, depth+1)
				}
			}
		}
	}
}

// closures checks the bodies within an expression.
func (w *walker) closures(s *scope, expr *ast.Expr, depth int) {
	s = s.with()
	s.isOptional = true
	if every, ok := expr.Terms.(*ast.Every); ok {
		if have := w.kindsOf(s, every.Domain); have&(isList|isSet|isObject) == 0 {
			w.refuse(expr, "every goes through %s, which has no members; write a list", have)
			return
		}
		key := every.Key
		if key == nil {
			key = wildcard
		}
		ref := ast.NewTerm(ast.Ref{every.Domain, key})
		if domain, ok := every.Domain.Value.(ast.Ref); ok {
			ref = ast.NewTerm(domain.Append(key))
		}
		w.body(s.with(ast.Equality.Expr(every.Value, ref)), every.Body, depth)
		return
	}
	ast.WalkClosures(expr, func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			w.body(s, x.Body, depth)
		case *ast.SetComprehension:
			w.body(s, x.Body, depth)
		case *ast.ObjectComprehension:
			w.body(s, x.Body, depth)
		}
		return true
	})
}

// kindsOf returns the kinds of a term in a scope.
func (w *walker) kindsOf(s *scope, t *ast.Term) kinds {
	k := anyKind
	switch v := t.Value.(type) {
	case ast.Var:
		if s.kinds == nil {
			s.kinds = w.kindsIn(s)
		}
		if known, ok := s.kinds[v]; ok {
			k = known
		}
		if get := getOf(s, v, 0); k == anyKind && get != nil {
			return w.kindsOfGet(s, get)
		}
	case ast.Ref:
		if ast.RootDocumentNames.Contains(v[0]) {
			k = kindsOf(w.c.TypeEnv.GetByRef(v))
		} else if set := w.typeIn(s, t); set != nil {
			k = kindsOf(types.Values(set))
		}
	default:
		k = kindsOf(w.c.TypeEnv.GetByValue(v))
	}
	if k == anyKind {
		// OPA's checker does not know the types of free names, such as an attribute's.
		if all := w.of(s, t); len(all) == 1 && strings.Contains(all[0].name, ".attributes.") {
			return isText
		}
	}
	return k
}

// typeIn returns the type of the set of a term's possible values in a scope. OPA's checker types
// the body of a comprehension when it is asked for the comprehension's type.
func (w *walker) typeIn(s *scope, t *ast.Term) *types.Set {
	w.steps -= len(s.exprs)
	var body ast.Body
	for _, expr := range s.exprs {
		if _, isEvery := expr.Terms.(*ast.Every); !isEvery && !expr.Negated {
			body = append(body, expr)
		}
	}
	set, _ := w.c.TypeEnv.GetByValue(&ast.SetComprehension{Term: t, Body: body}).(*types.Set)
	return set
}

// kindsIn returns the kinds of all variables of a scope.
func (w *walker) kindsIn(s *scope) map[ast.Var]kinds {
	seen := ast.NewVarSet()
	for _, expr := range s.exprs {
		if !expr.Negated {
			seen.Update(expr.Vars(ast.VarVisitorParams{SkipRefCallHead: true, SkipClosures: true}))
		}
	}
	vars := make([]ast.Var, 0, len(seen))
	terms := make([]*ast.Term, 0, len(seen))
	for _, v := range slices.Sorted(maps.Keys(seen)) {
		vars, terms = append(vars, v), append(terms, ast.NewTerm(v))
	}
	found := map[ast.Var]kinds{}
	all := w.typeIn(s, ast.ArrayTerm(terms...))
	if all == nil {
		return found
	}
	array, _ := types.Values(all).(*types.Array)
	for i, v := range vars {
		if array != nil && array.Len() > i && !types.Nil(array.Select(i)) {
			found[v] = kindsOf(array.Select(i))
		}
	}
	return found
}

// expression checks one expression.
func (w *walker) expression(s *scope, expr *ast.Expr) {
	if expr.Negated {
		w.negation(s, expr)
	}
	if term, ok := expr.Terms.(*ast.Term); ok {
		w.lookup(s, expr, term)
	}
	w.keys(s, expr)
	if !expr.IsCall() {
		return
	}
	a := expr.Operands()
	switch op := expr.Operator().String(); {
	case isEquality(expr):
		if !expr.Generated {
			w.equality(s, expr, a[0], a[1])
			w.scales(s, expr)
			w.bounds(s, expr)
		}
	case op == ast.NotEqual.Name && len(a) == 2:
		w.ordering(s, expr, "always different")
		w.sameness(expr, w.of(s, a[0]), w.of(s, a[1]))
		w.scales(s, expr)
		w.bounds(s, expr)
	case op == ast.Member.Name && len(a) == 2:
		w.membership(s, expr, a[0], a[1])
	case op == ast.MemberWithKey.Name && len(a) == 3:
		w.membership(s, expr, a[1], a[2])
	case slices.Contains([]string{"lt", "lte", "gt", "gte"}, op) && len(a) == 2:
		w.ordering(s, expr, "compared by their types alone")
		w.moments(s, expr)
		w.scales(s, expr)
		w.bounds(s, expr)
	case op == ast.ObjectGet.Name && len(a) >= 3:
		w.lookupWithDefault(s, expr)
	case op == ast.WalkBuiltin.Name && len(a) == 2:
		w.walk(s, expr)
	case (op == "plus" || op == "minus") && len(a) >= 2:
		w.scales(s, expr)
	case searches[op].given != "" && len(a) >= searches[op].arity:
		w.search(s, expr, searches[op])
	case op == ast.And.Name && len(a) >= 2:
		w.sameness(expr, w.members(s, a[0]), w.members(s, a[1]))
	case op == "stopguard.match" || op == "data.stopguard.match.one_of":
		w.isSwapped(expr, w.of(s, a[1]), w.members(s, a[0]), op+"(entries, name, uuid)")
		for _, m := range slices.Concat(w.all(s, a[0]), w.all(s, a[1])) {
			w.use(m)
		}
	}
}

// sameness refuses to compare with a text that the other side never is. A side that may be one of
// several fields is let pass if the text may be one of them.
func (w *walker) sameness(expr *ast.Expr, left, right []meaning) {
	for _, sides := range [][2][]meaning{{left, right}, {right, left}} {
		for _, other := range sides[1] {
			text, ok := other.text()
			if !ok {
				continue
			}
			why, isPossible := "", false
			for _, is := range sides[0] {
				if same, ok := is.text(); ok {
					isPossible = isPossible || same == text && is.key() != other.key()
					continue
				}
				if is.schema == nil {
					continue
				}
				if never := is.never(text); never == "" {
					isPossible = true
				} else if why = never; is.isNearly(text) {
					w.refuse(expr, "%s", why)
					return
				}
			}
			switch {
			case isPossible:
				w.use(other)
			case why != "":
				w.doubt(expr, other, why)
			}
		}
	}
}

func (w *walker) membership(s *scope, expr *ast.Expr, item, list *ast.Term) {
	switch have := w.kindsOf(s, list); {
	case have&(isList|isSet|isObject) == 0:
		w.refuse(expr, "in looks for a member of %s, which has none; write a list, or == or contains", have)
	case have == isObject:
		w.refuse(expr, "in looks among an object's values, and not its keys; write x in object.keys(...), or [v | some v in ...] if the values are meant")
	default:
		members := w.members(s, list)
		w.kinship(s, expr, item, members)
		w.membershipOfWhole(s, expr, item, list)
		w.sameness(expr, w.of(s, item), members)
	}
}

// kinship refuses to look for a value among constants of which none is of its kind.
func (w *walker) kinship(s *scope, expr *ast.Expr, item *ast.Term, members []meaning) {
	have, there := w.kindsOf(s, item), kinds(0)
	for _, m := range members {
		if m.constant == nil {
			return
		}
		there |= w.kindsOf(s, m.constant)
	}
	if there != 0 && have&there == 0 {
		w.refuse(expr, "%s is looked for in a list of %s, and is never there; write both as one type", have, strings.TrimPrefix(there.String(), "a ")+"s")
	}
}

// ordering refuses to compare values of which neither is ever of the other's type.
func (w *walker) ordering(s *scope, expr *ast.Expr, result string) {
	left, right := w.kindsOf(s, expr.Operand(0)), w.kindsOf(s, expr.Operand(1))
	if (left == isNull || right == isNull) && (w.isSetting(s, expr.Operand(0), 0) || w.isSetting(s, expr.Operand(1), 0)) {
		return // a setting that may be null is asked whether it is
	}
	if left&right == 0 {
		w.refuse(expr, "%s and %s are %s; write both as one type (to_number, time.parse_rfc3339_ns)", left, right, result)
	}
}

// isSetting reports whether a term is a setting, or lies in one.
func (w *walker) isSetting(s *scope, t *ast.Term, depth int) bool {
	if w.steps--; depth > maxDepth || w.steps < 0 {
		return false
	}
	switch v := t.Value.(type) {
	case ast.Ref:
		return v.HasPrefix(ast.Ref{ast.DefaultRootDocument, ast.StringTerm("site")}) || w.isSetting(s, v[0], depth+1)
	case ast.Var:
		for i, expr := range s.exprs {
			if expr.Negated || !expr.IsCall() || !isEquality(expr) {
				continue
			}
			before := &scope{exprs: slices.Concat(s.exprs[:i], s.exprs[i+1:])}
			for side := range 2 {
				if expr.Operand(side).Value.Compare(v) == 0 && w.isSetting(before, expr.Operand(1-side), depth+1) {
					return true
				}
			}
		}
	}
	return false
}

// all returns the meanings of a term and of its members.
func (w *walker) all(s *scope, t *ast.Term) []meaning {
	return append(w.of(s, t), w.members(s, t)...)
}
