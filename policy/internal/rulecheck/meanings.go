package rulecheck

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/lazyregexp"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// A meaning is one thing that a term of a compiled rule can be: a constant, or a value that a
// schema describes.
type meaning struct {
	constant *ast.Term
	name     string         // of the value that the schema describes, such as input.domain.state
	schema   map[string]any // its part of input.schema.json, or the like for a function's result
	former   []string       // further values that a rule may write, such as former names
	steady   bool           // it is there in every input
	setting  bool           // a constant of data.site
}

// A scope holds the constraints on the variables of a body: all expressions that hold where it is
// evaluated.
type scope struct {
	exprs []*ast.Expr
	kinds map[ast.Var]kinds // computed by the first use

	isOptional bool // the policy may expect that the body does not have a result
}

func (s *scope) with(exprs ...*ast.Expr) *scope {
	return &scope{exprs: slices.Concat(s.exprs, exprs), isOptional: s.isOptional}
}

// without returns the scope less one expression.
func (s *scope) without(expr *ast.Expr) *scope {
	exprs := slices.DeleteFunc(slices.Clone(s.exprs), func(other *ast.Expr) bool { return other == expr })
	return &scope{exprs: exprs, isOptional: s.isOptional}
}

// A resolver finds meanings. It follows variables, helpers, functions' results, comprehensions and
// settings. A term that it cannot follow does not have a meaning.
type resolver struct {
	c        *ast.Compiler
	settings map[string]any
	input    map[string]any // input.schema.json
	steps    int            // left, of all there may be
}

const maxDepth = 24

// wildcard stands for each member.
var wildcard = ast.VarTerm("$each")

func (r *resolver) of(s *scope, t *ast.Term) []meaning { return r.at(s, t, nil, 0) }

func (r *resolver) members(s *scope, t *ast.Term) []meaning {
	return r.at(s, t, []*ast.Term{wildcard}, 0)
}

// at returns the meanings of the value at a path below a term.
func (r *resolver) at(s *scope, t *ast.Term, path []*ast.Term, depth int) []meaning {
	if r.steps--; depth > maxDepth || r.steps < 0 {
		return nil
	}
	switch v := t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		if len(path) == 0 {
			return []meaning{{constant: t}}
		}
	case *ast.Array, ast.Set, ast.Object:
		return r.inCollection(s, v, path, depth)
	case *ast.ArrayComprehension:
		if len(path) > 0 {
			return r.at(s.with(v.Body...), v.Term, path[1:], depth+1)
		}
	case *ast.SetComprehension:
		if len(path) > 0 {
			return r.at(s.with(v.Body...), v.Term, path[1:], depth+1)
		}
	case *ast.ObjectComprehension:
		if len(path) > 0 {
			return r.at(s.with(v.Body...), v.Value, path[1:], depth+1)
		}
	case ast.Var:
		return r.variable(s, v, path, depth)
	case ast.Ref:
		whole := slices.Concat(v[1:], path)
		switch {
		case v[0].Equal(ast.InputRootDocument):
			return r.inSchema(meaning{name: "input", schema: r.input, steady: true}, whole)
		case v[0].Equal(ast.DefaultRootDocument):
			return r.inData(s, whole, depth)
		}
		return r.at(s, v[0], whole, depth+1)
	}
	return nil
}

func (r *resolver) inCollection(s *scope, v ast.Value, path []*ast.Term, depth int) (all []meaning) {
	if len(path) == 0 {
		return nil
	}
	add := func(t *ast.Term) { all = append(all, r.at(s, t, path[1:], depth+1)...) }
	isKey := ast.IsConstant(path[0].Value)
	switch v := v.(type) {
	case *ast.Array:
		if isKey {
			if t := v.Get(path[0]); t != nil {
				add(t)
			}
			return all
		}
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			if !isKey || key.Equal(path[0]) {
				add(value)
			}
		})
	}
	return all
}

// variable follows the expressions that give a variable its value.
func (r *resolver) variable(s *scope, v ast.Var, path []*ast.Term, depth int) (all []meaning) {
	isIt := func(t *ast.Term) bool { return t.Value.Compare(v) == 0 }
	for i, expr := range s.exprs {
		if expr.Negated || !expr.IsCall() {
			continue
		}
		operands := expr.Operands()
		if isEquality(expr) {
			before := &scope{exprs: slices.Concat(s.exprs[:i], s.exprs[i+1:])} // else a variable is what it is
			for side, t := range operands {
				if isIt(t) {
					all = append(all, r.at(before, operands[1-side], path, depth+1)...)
				}
			}
			continue
		}
		if expr.Operator().String() == ast.WalkBuiltin.Name {
			all = append(all, r.walked(s, expr, isIt, path, depth)...)
			continue
		}
		if n := len(operands); n > 0 && isIt(operands[n-1]) && n == r.arity(expr)+1 {
			all = append(all, r.result(s, expr, path, depth)...)
		}
	}
	return all
}

func isEquality(expr *ast.Expr) bool {
	op := expr.Operator().String()
	return len(expr.Operands()) == 2 && (op == ast.Equality.Name || op == ast.Equal.Name)
}

func (r *resolver) arity(expr *ast.Expr) int {
	if b, ok := ast.BuiltinMap[expr.Operator().String()]; ok {
		return b.Decl.Arity()
	}
	return r.c.GetArity(expr.Operator())
}

// resultSchemas are the results of functions that are never anything else.
var resultSchemas = map[string]map[string]any{
	"time.weekday": {"enum": []any{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}},
	"type_name":    {"enum": []any{"null", "boolean", "number", "string", "array", "object", "set"}},
	"lower":        {"pattern": `^\P{Lu}*$`, "description": "in lower case"},
	"upper":        {"pattern": `^\P{Ll}*$`, "description": "in upper case"},
	"trim_space":   {"pattern": `^(\S(.*\S)?)?$`, "description": "without blanks around it"},
	"count":        {"minimum": 0.0},
	"indexof":      {"minimum": -1.0},
}

// result returns the meanings of the result of a call.
func (r *resolver) result(s *scope, expr *ast.Expr, path []*ast.Term, depth int) (all []meaning) {
	name := expr.Operator().String()
	if found := r.computed(s, expr, path, depth); found != nil {
		return found
	}
	if schema := resultSchemas[name]; schema != nil && len(path) == 0 {
		return []meaning{{name: name + "(...)", schema: schema, steady: true}}
	}
	if name == "object.get" && len(expr.Operands()) == 4 && ast.IsConstant(expr.Operand(1).Value) {
		if _, isList := expr.Operand(1).Value.(*ast.Array); !isList {
			found := r.at(s, expr.Operand(0), slices.Concat([]*ast.Term{expr.Operand(1)}, path), depth+1)
			return append(found, r.at(s, expr.Operand(2), path, depth+1)...)
		}
	}
	if n := len(expr.Operands()); name == "plus" || name == "minus" || name == "mul" || name == "div" {
		a, isA := r.number(s, expr.Operand(0), depth+1)
		b, isB := r.number(s, expr.Operand(1), depth+1)
		if n == 3 && isA && isB && len(path) == 0 {
			value := map[string]float64{"plus": a + b, "minus": a - b, "mul": a * b, "div": a / b}[name]
			return []meaning{{constant: ast.FloatNumberTerm(value)}}
		}
		return nil
	}
	for _, rule := range r.c.GetRulesExact(expr.Operator()) {
		for ; rule != nil; rule = rule.Else {
			all = append(all, r.at(callScope(s, expr, rule), rule.Head.Value, path, depth+1)...)
		}
	}
	return all
}

// callScope returns the scope of a function's body in a call of it.
func callScope(s *scope, call *ast.Expr, rule *ast.Rule) *scope {
	var bound []*ast.Expr
	for i, arg := range rule.Head.Args {
		if i < len(call.Operands()) {
			bound = append(bound, ast.Equality.Expr(arg, call.Operand(i)))
		}
	}
	return s.with(append(bound, rule.Body...)...)
}

// number returns the only number that a term can be.
func (r *resolver) number(s *scope, t *ast.Term, depth int) (float64, bool) {
	all := r.at(s, t, nil, depth)
	if len(all) != 1 || all[0].constant == nil {
		return 0, false
	}
	number, ok := all[0].constant.Value.(ast.Number)
	if !ok {
		return 0, false
	}
	value, err := strconv.ParseFloat(string(number), 64)
	return value, err == nil
}

// inData follows a path below data, into a rule or a setting.
func (r *resolver) inData(s *scope, path []*ast.Term, depth int) (all []meaning) {
	ref := append(ast.Ref{ast.DefaultRootDocument}, path...)
	for n := 2; n <= 1+regovalue.CountConstants(path); n++ {
		for _, rule := range r.c.GetRulesExact(ref[:n]) {
			rest, more := path[n-1:], len(rule.Ref())-n
			if len(rule.Head.Args) > 0 || more > len(rest) {
				continue
			}
			rest = rest[max(more, 0):]
			for ; rule != nil; rule = rule.Else {
				body := &scope{exprs: rule.Body}
				switch {
				case rule.Head.RuleKind() == ast.SingleValue:
					all = append(all, r.at(body, rule.Head.Value, rest, depth+1)...)
				case len(rest) > 0:
					all = append(all, r.at(body, rule.Head.Key, rest[1:], depth+1)...)
				}
			}
		}
	}
	if len(path) > 0 && path[0].Equal(ast.StringTerm("site")) {
		all = append(all, inSettings(r.settings, path[1:])...)
	}
	return all
}

func inSettings(value any, path []*ast.Term) (all []meaning) {
	if len(path) == 0 {
		switch value.(type) {
		case string, json.Number, bool:
			v, err := ast.InterfaceToValue(value)
			if err == nil {
				return []meaning{{constant: ast.NewTerm(v), setting: true}}
			}
		}
		return nil
	}
	key, isName := path[0].Value.(ast.String)
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			all = append(all, inSettings(item, path[1:])...)
		}
	case map[string]any:
		for name, item := range value {
			if !isName || name == string(key) {
				all = append(all, inSettings(item, path[1:])...)
			}
		}
	}
	return all
}

// inSchema follows a path in the schema of the input.
func (r *resolver) inSchema(m meaning, path []*ast.Term) []meaning {
	for _, step := range path {
		m.schema = r.deref(m.schema)
		if m.schema == nil {
			return nil
		}
		name, isName := step.Value.(ast.String)
		properties, _ := m.schema["properties"].(map[string]any)
		items, _ := m.schema["items"].(map[string]any)
		free, _ := m.schema["additionalProperties"].(map[string]any)
		switch {
		case properties != nil && isName:
			m.schema, _ = properties[string(name)].(map[string]any)
			m.name += "." + string(name)
		case items != nil:
			_, isVar := step.Value.(ast.Var)
			m.schema, m.steady = items, m.steady && isVar // a member that a variable stands for is there
		case free != nil:
			m.schema, m.steady = free, false
			if isName {
				m.name += "." + string(name)
			}
		default:
			return nil
		}
	}
	if m.schema = r.deref(m.schema); m.schema == nil {
		return nil
	}
	return []meaning{m}
}

func (r *resolver) deref(schema map[string]any) map[string]any {
	if ref, ok := schema["$ref"].(string); ok {
		definitions, _ := r.input["definitions"].(map[string]any)
		schema, _ = definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
	}
	return schema
}

func (m meaning) text() (string, bool) {
	if m.constant == nil {
		return "", false
	}
	text, ok := m.constant.Value.(ast.String)
	return string(text), ok
}

// key identifies a constant: a setting by its text, and any other constant by its place, too.
func (m meaning) key() string {
	text, _ := m.text()
	if m.setting || m.constant.Location == nil {
		return text
	}
	return fmt.Sprintf("%s:%d:%s", m.constant.Location, m.constant.Location.Col, text)
}

// isNearly reports whether a text is a UUID that is written otherwise than in the input.
func (m meaning) isNearly(text string) bool {
	if !strings.HasSuffix(m.name, ".uuid") {
		return false
	}
	digits := strings.Trim(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(text), "urn:uuid:"), "-", ""), "{} \r\n")
	return uuidDigits().MatchString(digits)
}

var uuidDigits = lazyregexp.New(`^[0-9a-f]{32}$`)

// ownersFields may hold any text.
var ownersFields = lazyregexp.New(`[.](title|description|text|command|reason|owner|note|metadata_error|destination|listed|serial|flags|(attributes|unreadable)([.].*)?)$`)

func (m meaning) isFree() bool { return ownersFields().MatchString(m.name) }

func isOperation(m meaning) bool {
	return m.name == "input.operation" || m.name == "input.domain.marks.operations"
}

// values returns the only values that there are; nil if others are possible.
func (m meaning) values() []string {
	if isOperation(m) {
		return operation.All()
	}
	enum, _ := m.schema["enum"].([]any)
	var all []string
	for _, v := range enum {
		if s, ok := v.(string); ok && s != "" {
			all = append(all, s)
		}
	}
	return all
}

// understood returns the values that a rule may write, former names included.
func (m meaning) understood() []string {
	values := m.values()
	if isOperation(m) {
		values = append(slices.Clone(values), operation.Former(operation.Modify))
	}
	return slices.Concat(values, m.former)
}

// never says why a text is never the value; "" if it may be.
func (m meaning) never(text string) string {
	if m.schema == nil {
		return ""
	}
	if values := m.values(); values != nil {
		enum, _ := m.schema["enum"].([]any)
		if slices.Contains(m.understood(), text) || slices.Contains(enum, any(text)) {
			return ""
		}
		return fmt.Sprintf("%s is never %q; it is one of %s", m.name, text, strings.Join(values, ", "))
	}
	if pattern, ok := m.schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(text) {
		description, _ := m.schema["description"].(string)
		return fmt.Sprintf("%s is never %q; write it as it is: %s", m.name, text, description)
	}
	switch {
	case m.isFree() || !strings.HasPrefix(m.name, "input."):
		return ""
	case strings.TrimSpace(text) != text:
		return fmt.Sprintf("%s is never %q, with a blank or a line feed around it; remove it (in YAML, write |- or quotes)", m.name, text)
	case looksLikeGlob(text) && !(strings.HasSuffix(m.name, ".source") && !strings.Contains(text, "*")):
		return fmt.Sprintf("%s is compared with %q, letter for letter; for a pattern, write glob.match or stopguard.match", m.name, text)
	}
	return ""
}

var globParts = lazyregexp.New(`[*?]|\[!?(.-.|[0-9]+-[0-9]+)[^\]]*\]|\{[^}]*,[^}]*\}`)

func looksLikeGlob(text string) bool { return globParts().MatchString(text) }
