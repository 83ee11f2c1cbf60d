package policy

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// checkExpressions refuses expressions of a site's rules that are never true, or always, whatever
// the input is. Most mistakes in Rego are not errors: the rule is just never true.
//
// It walks the compiled rules, in which every operand is a variable or a constant, and functions in
// each call of theirs, so that a parameter is known by what it is given. Whatever the types and
// meanings do not tell is let pass.
func checkExpressions(c *ast.Compiler, src *source) error {
	if len(src.site) == 0 {
		return nil
	}
	schema, err := inputSchema()
	if err != nil {
		return err
	}
	input, _ := schema.(map[string]any)
	for _, file := range slices.Sorted(maps.Keys(src.site)) {
		w := walker{resolver: resolver{c: c, settings: src.settings.site, input: input, steps: maxSteps}, site: src.site}
		for _, rule := range c.Modules[file].Rules {
			if isFallback(rule) {
				continue
			}
			isVeto := string(rule.Head.Name) == "veto"
			for ; rule != nil && w.fault == nil; rule = rule.Else {
				w.body(&scope{isOptional: !isVeto}, rule.Body, 0)
			}
		}
		w.refuseUnused()
		if w.fault != nil {
			return w.fault
		}
	}
	return nil
}

// maxSteps bounds the work for one file: what is left then is not checked.
const maxSteps = 50_000

type walker struct {
	resolver
	site  map[string]*ast.Module
	fault error

	doubts []doubt
	used   map[string]bool // the constants that another comparison of the file may find
}

// A doubt is a constant that one comparison never finds. Lists and tables hold names and UUIDs, or
// names and patterns, or a word such as "any", each for a comparison of its own: it is a fault only
// if no comparison of the file is for the constant.
type doubt struct {
	constant string
	fault    error
}

// doubt refuses a constant, unless another comparison is for it.
func (w *walker) doubt(expr *ast.Expr, constant meaning, why string) {
	w.doubts = append(w.doubts, doubt{constant.key(), fmt.Errorf("%s: %s", expr.Location, why)})
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

func (w *walker) refuseUnused() {
	for _, d := range w.doubts {
		if w.fault == nil && !w.used[d.constant] {
			w.fault = d.fault
		}
	}
}

func (w *walker) refuse(expr *ast.Expr, format string, args ...any) {
	if w.fault == nil {
		w.fault = fmt.Errorf("%s: %s", expr.Location, fmt.Sprintf(format, args...))
	}
}

// body checks the expressions of a body that is evaluated in a scope.
func (w *walker) body(outer *scope, body ast.Body, depth int) {
	s := outer.with(body...)
	for _, expr := range body {
		if w.fault != nil || w.steps < 0 {
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

// typeIn returns the type of the set of what a term may be in a scope. OPA's checker types the body
// of a comprehension when it is asked for the comprehension's type.
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
			w.sameness(expr, w.of(s, a[0]), w.of(s, a[1]))
			w.scales(s, expr)
		}
	case op == ast.NotEqual.Name && len(a) == 2:
		w.ordering(s, expr, "always different")
		w.sameness(expr, w.of(s, a[0]), w.of(s, a[1]))
		w.scales(s, expr)
	case op == ast.Member.Name && len(a) == 2:
		w.membership(s, expr, a[0], a[1])
	case op == ast.MemberWithKey.Name && len(a) == 3:
		w.membership(s, expr, a[1], a[2])
	case slices.Contains([]string{"lt", "lte", "gt", "gte"}, op) && len(a) == 2:
		w.ordering(s, expr, "compared by their types alone")
		w.moments(s, expr)
		w.scales(s, expr)
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
		w.sameness(expr, w.of(s, item), members)
	}
}

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

// keys refuses to look a field up among the keys of an object of which it is none.
func (w *walker) keys(s *scope, expr *ast.Expr) {
	terms := expr.Operands()
	if term, ok := expr.Terms.(*ast.Term); ok {
		terms = []*ast.Term{term}
	}
	for _, t := range terms {
		ref, ok := t.Value.(ast.Ref)
		if n := constantTerms(ref[min(1, len(ref)):]) + 1; ok && n < len(ref) {
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
		for _, key := range constant(ref[2:]) {
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

// keysIn returns the keys of an object; nil if one is no text that is known.
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

var momentPrefix = lazyRegexp(`^[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}(:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?Z?)?)?)?$`)

// A scale is what a number of nanoseconds is of.
type scale int

const (
	noScale scale = iota
	aDuration
	aMoment
)

// scaleOf returns what a number of nanoseconds is of.
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

// A searching function takes what it looks for and what it looks in, in an order that is easily
// mistaken.
type searching struct {
	given     string // how its arguments are to be given
	arity     int
	text      int // the argument that it looks in
	sought    int // the argument that it looks for
	isPattern bool
}

var searches = map[string]searching{
	"startswith":               {"startswith(text, beginning)", 2, 0, 1, false},
	"endswith":                 {"endswith(text, end)", 2, 0, 1, false},
	"contains":                 {"contains(text, part)", 2, 0, 1, false},
	"indexof":                  {"indexof(text, part)", 2, 0, 1, false},
	"strings.count":            {"strings.count(text, part)", 2, 0, 1, false},
	"strings.any_prefix_match": {"strings.any_prefix_match(texts, beginnings)", 2, 0, 1, false},
	"strings.any_suffix_match": {"strings.any_suffix_match(texts, ends)", 2, 0, 1, false},
	"regex.match":              {"regex.match(pattern, text)", 2, 1, 0, true},
	"glob.match":               {"glob.match(pattern, delimiters, text)", 3, 2, 0, true},
}

func (w *walker) search(s *scope, expr *ast.Expr, f searching) {
	text, sought := w.all(s, expr.Operand(f.text)), w.all(s, expr.Operand(f.sought))
	if w.isSwapped(expr, text, sought, f.given) {
		return
	}
	for _, in := range text {
		for _, part := range sought {
			if part.constant == nil {
				continue
			}
			if in.schema == nil {
				w.use(part)
				if isPart(expr, in, part) {
					w.use(in) // an entry that ends with *, say, is for another line than one that is a name
				}
				continue
			}
			if word, ok := part.text(); ok {
				if why := in.neverHas(expr, word, f.isPattern); why != "" {
					w.doubt(expr, part, why)
				} else {
					w.use(part)
				}
			}
		}
	}
}

// isPart reports whether a constant is known to be in another.
func isPart(expr *ast.Expr, in, part meaning) bool {
	text, ok := in.text()
	word, isWord := part.text()
	if !ok || !isWord {
		return false
	}
	switch expr.Operator().String() {
	case "startswith":
		return strings.HasPrefix(text, word)
	case "endswith":
		return strings.HasSuffix(text, word)
	}
	return strings.Contains(text, word)
}

// isSwapped refuses to look for a field in a constant.
func (w *walker) isSwapped(expr *ast.Expr, text, sought []meaning, given string) bool {
	isField := func(m meaning) bool { return strings.HasPrefix(m.name, "input.") }
	field := slices.IndexFunc(sought, isField)
	if field < 0 || slices.ContainsFunc(text, isField) || !slices.ContainsFunc(text, func(m meaning) bool { return m.constant != nil }) {
		return false
	}
	w.refuse(expr, "the arguments are swapped: %s is looked for in a constant; write %s", sought[field].name, given)
	return true
}

// all returns the meanings of a term and of its members.
func (w *walker) all(s *scope, t *ast.Term) []meaning {
	return append(w.of(s, t), w.members(s, t)...)
}

// neverHas says why a text is never a part of the value; "" if it may be.
func (m meaning) neverHas(expr *ast.Expr, word string, isPattern bool) string {
	op := expr.Operator().String()
	trimmed := strings.TrimRight(word, "\r\n")
	switch {
	case trimmed != word && !m.isFree():
		return fmt.Sprintf("%s never has the line feed at the end of %q; remove it (in YAML, write |- or quotes)", m.name, word)
	case op == "regex.match" && m.values() != nil:
		pattern, err := regexp.Compile(word)
		if err == nil && !slices.ContainsFunc(append(m.understood(), ""), pattern.MatchString) {
			return fmt.Sprintf("%s never matches %q; it is one of %s", m.name, word, strings.Join(m.values(), ", "))
		}
	case op == "glob.match":
		beginning := word[:max(strings.IndexAny(word+"*", `*?[{\`), 0)]
		if m.values() != nil && !slices.ContainsFunc(m.understood(), func(v string) bool { return strings.HasPrefix(v, beginning) }) {
			return fmt.Sprintf("%s never matches %q; it is one of %s", m.name, word, strings.Join(m.values(), ", "))
		}
		if isLower := strings.HasSuffix(m.name, ".uuid") || strings.HasSuffix(m.name, ".mac"); isLower && strings.ToLower(beginning) != beginning {
			return fmt.Sprintf("%s never matches %q; it is in lower case", m.name, word)
		}
	case isPattern:
	case m.values() != nil && !slices.ContainsFunc(m.understood(), func(v string) bool {
		return op == "startswith" && strings.HasPrefix(v, word) || op == "endswith" && strings.HasSuffix(v, word) ||
			op != "startswith" && op != "endswith" && strings.Contains(v, word)
	}):
		return fmt.Sprintf("%s never has %q; it is one of %s", m.name, word, strings.Join(m.values(), ", "))
	case (strings.HasSuffix(m.name, ".uuid") || strings.HasSuffix(m.name, ".mac")) && strings.ToLower(word) != word:
		return fmt.Sprintf("%s never has %q; it is in lower case", m.name, word)
	case m.name == "input.time" && op == "startswith" && !beginsTime(word):
		return fmt.Sprintf("%s never begins with %q; write it in UTC, as 2027-06-30 or 2027-06-30T12:00:00Z", m.name, word)
	case !m.isFree() && strings.HasPrefix(m.name, "input.") && strings.ContainsAny(word, "*?"):
		return fmt.Sprintf("%s looks for %q letter for letter; leave the * out, or write glob.match", op, word)
	}
	return ""
}

// beginsTime reports whether input.time may begin with a text.
func beginsTime(text string) bool {
	const form = "0000-00-00T00:00:00"
	for i := range min(len(text), len(form)) {
		isDigit := text[i] >= '0' && text[i] <= '9'
		if form[i] == '0' && !isDigit || form[i] != '0' && form[i] != text[i] {
			return false
		}
	}
	return true
}

// undefinable are functions that have no result for some arguments of the right type.
var undefinable = []string{"min", "max", "walk", "print"}

// negation refuses not before what is always true.
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
		w.refuse(expr, "%s is always there, and %s; %s", w.shown(s, term), w.kindsOf(s, term), cure)
	}
}

// shown returns how a message names a term.
func (w *walker) shown(s *scope, t *ast.Term) string {
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
	if constantTerms(ref[1:]) != len(ref)-1 {
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

// holdsAlways reports whether a term is a rule that is true for every input, though its body seems to
// ask for something. A rule that only says true is a switch.
func (w *walker) holdsAlways(t *ast.Term) bool {
	ref, isRef := t.Value.(ast.Ref)
	return isRef && slices.ContainsFunc(w.c.GetRulesExact(ref), func(rule *ast.Rule) bool {
		isSwitch := len(rule.Body) == 1 && rule.Body[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
		return !isSwitch && len(rule.Head.Args) == 0 && rule.Head.Value != nil && rule.Head.Value.Equal(ast.BooleanTerm(true)) && w.isUnconditional(rule)
	})
}
