// Package mask removes the parts of an input that a record must not hold.
//
// It does so by OPA's own convention for decision logs: data.system.log.mask is a set of JSON
// pointers into the event, or of {op, path, value}, and sees the event as its input. The library's
// mask, rego/mask/mask.rego, hides the texts of a guest's owner; a site's own package system.log
// takes its place.
package mask

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/spelling"
)

// OwnersText are the parts of the input that a guest's owner wrote, or that may quote it. The whole
// document holds all of them again.
var OwnersText = [][]string{
	{"domain", "description"}, {"domain", "metadata"}, {"domain", "metadata_error"}, {"domain", "title"}, {"xml"},
}

const maskVar = ast.Var("mask")

// A Mask is a compiled package system.log of a site. It is compiled apart from the rules, because
// it has another input. The zero mask is the library's.
type Mask struct {
	compiler *ast.Compiler
	query    ast.Body
	spelling spelling.Spelling
}

// Compile compiles the site's mask, if it has one.
func Compile(site map[string]*ast.Module) (Mask, error) {
	for _, m := range site { // there is one at most
		return compileModule(m)
	}
	return Mask{}, nil
}

func compileModule(m *ast.Module) (Mask, error) {
	c := ast.NewCompiler().WithCapabilities(builtin.Capabilities()).WithDefaultRegoVersion(ast.RegoV1).WithStrict(true)
	if c.Compile(map[string]*ast.Module{"mask": m}); c.Failed() {
		return Mask{}, module.Error(c.Errors, library.Functions)
	}
	ref := ast.MustParseRef("data.system.log.mask")
	rules := c.GetRulesExact(ref)
	if len(rules) == 0 || rules[0].Head.RuleKind() != ast.MultiValue {
		return Mask{}, fmt.Errorf("%s: package system.log has no set named mask, and hides nothing; write mask contains \"/input/...\"", m.Package.Location)
	}
	for _, rule := range m.Rules { // the compiler moves an object with a reference out of the head
		if !rule.Head.Ref().Equal(ast.Ref{ast.NewTerm(maskVar)}) {
			continue
		}
		if err := checkMember(rule.Head.Key); err != nil {
			return Mask{}, fmt.Errorf("%s: %w", rule.Location, err)
		}
	}
	query, err := c.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(maskVar), ast.NewTerm(ref))))
	var s spelling.Spelling
	s.AddTerms(m)
	return Mask{c, query, s}, err
}

// checkMember refuses a member of the mask whose constant parts show that it would hide nothing, or
// fail in each record. Parts that are computed are checked when a record is written.
func checkMember(term *ast.Term) error {
	switch member := term.Value.(type) {
	case ast.String:
		return checkMaskPath(string(member))
	case ast.Object:
		return checkObject(member)
	}
	if isComputed(term) {
		return nil
	}
	return fmt.Errorf("%s is neither a path nor {op, path, value}; write mask contains \"/input/...\"", term)
}

// checkObject is checkMember for {op, path, value}. OPA would make the missing field of an upsert.
// The value that the path is meant for would stay in the record, so such a path is refused too.
func checkObject(member ast.Object) error {
	hasPath := false
	err := member.Iter(func(key, value *ast.Term) error {
		if isComputed(key) {
			hasPath = true // it may be this one
			return nil
		}
		name, _ := key.Value.(ast.String)
		switch name {
		case "op":
			return checkOp(value)
		case "path":
			hasPath = true
			return checkObjectPath(value)
		case "value":
			return nil
		}
		return fmt.Errorf("a mask does not have the key %s; write op, path and value", key)
	})
	if err == nil && !hasPath {
		return fmt.Errorf("%s has no path, so nothing would be hidden; write \"path\": \"/input/...\"", member)
	}
	return err
}

func checkOp(op *ast.Term) error {
	if name, ok := op.Value.(ast.String); isComputed(op) || ok && (name == opRemove || name == opUpsert) {
		return nil
	}
	return fmt.Errorf("a mask does not have the operation %s; write remove or upsert", op)
}

func checkObjectPath(path *ast.Term) error {
	if text, ok := path.Value.(ast.String); ok {
		return checkMaskPath(string(text))
	}
	if isComputed(path) {
		return nil
	}
	return fmt.Errorf("%s is not a path; write \"/input/...\"", path)
}

// isComputed reports whether the value of a term is known only when it is evaluated.
func isComputed(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null, *ast.Array, ast.Object, ast.Set:
		return false
	}
	return true
}

// checkMaskPath refuses a path that no input has: the value that it is meant for would not be
// hidden.
func checkMaskPath(path string) error {
	schema, err := library.InputSchema()
	if err != nil {
		return err
	}
	at, _ := schema.(map[string]any)
	definitions, _ := at["definitions"].(map[string]any)
	parts := strings.Split(path, "/")
	if len(parts) < 2 || parts[0] != "" || parts[1] != "input" {
		return fmt.Errorf("%q does not begin with /input; write mask contains \"/input/...\"", path)
	}
	for _, part := range parts[2:] {
		if ref, ok := at["$ref"].(string); ok {
			at, _ = definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
		}
		properties, isObject := at["properties"].(map[string]any)
		next, there := properties[part].(map[string]any)
		index, notNumber := strconv.Atoi(part)
		switch {
		case isObject && there:
			at = next
		case at["type"] == "array" && notNumber == nil && index >= 0:
			at, _ = at["items"].(map[string]any)
		case at["type"] == "object" && !isObject: // free names
			return nil
		default:
			return fmt.Errorf("the input has no %s, so nothing would be hidden; correct the path", path)
		}
	}
	return nil
}

// The operations of a mask.
const (
	opRemove = "remove"
	opUpsert = "upsert"
)

// A maskRule removes a value from an event, or replaces it.
type maskRule struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// evaluate returns the set mask for an input.
func (m Mask) evaluate(ctx context.Context, input ast.Value) (ast.Set, error) {
	event := ast.ObjectTerm(
		[2]*ast.Term{ast.InternedTerm("input"), ast.NewTerm(input)},
		[2]*ast.Term{ast.InternedTerm("path"), ast.StringTerm("stopguard/decision")},
	)
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	results, err := topdown.NewQuery(m.query).
		WithCompiler(m.compiler).
		WithInput(event).
		WithCancel(cancel).
		WithStrictBuiltinErrors(true).
		Run(ctx)
	if err != nil {
		return nil, errors.New(module.EvaluationError(err))
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("it has %d values", len(results))
	}
	set, ok := results[0][maskVar].Value.(ast.Set)
	if !ok {
		return nil, errors.New("it is no set")
	}
	return set, nil
}

// IsLibrarys reports whether the mask is the library's: the site does not have a mask of its own.
func (m Mask) IsLibrarys() bool { return m.compiler == nil }

// Apply returns an input as the mask leaves it, and the JSON pointers of the removed values and of
// the replaced ones.
func (m Mask) Apply(ctx context.Context, value ast.Value) (input any, erased, masked []string, err error) {
	rules, err := m.rules(ctx, value)
	if err != nil {
		return nil, nil, nil, err
	}
	if input, err = ast.JSON(value); err != nil {
		return nil, nil, nil, err
	}
	event := map[string]any{"input": input}
	for _, rule := range rules {
		if !rule.apply(event) {
			continue
		}
		if rule.Op == opUpsert {
			masked = append(masked, rule.Path)
		} else {
			erased = append(erased, rule.Path)
		}
	}
	return event["input"], erased, masked, nil
}

// rules evaluates the mask and returns its rules, the deepest path first, so that removing one
// value does not move another.
func (m Mask) rules(ctx context.Context, input ast.Value) ([]maskRule, error) {
	set := ast.NewSet()
	for _, input := range m.spelling.Inputs(input) {
		members, err := m.evaluate(ctx, input)
		if err != nil {
			return nil, err
		}
		set = set.Union(members)
	}
	var rules []maskRule
	for _, term := range set.Slice() {
		rule, err := readMaskRule(term)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	if hidesOwnersText(rules) {
		rules = append(rules, maskRule{Op: opRemove, Path: "/input/xml"})
	}
	slices.SortStableFunc(rules, func(a, b maskRule) int {
		return cmp.Or(cmp.Compare(strings.Count(b.Path, "/"), strings.Count(a.Path, "/")), cmp.Compare(a.Path, b.Path))
	})
	return rules, nil
}

// hidesOwnersText reports whether a rule hides a text of the guest's owner, a part of it, or an
// object that holds it. The document in input.xml repeats these texts.
func hidesOwnersText(rules []maskRule) bool {
	return slices.ContainsFunc(rules, func(r maskRule) bool {
		hidden, err := document.ParsePointer(r.Path)
		return err != nil || slices.ContainsFunc(OwnersText, func(path []string) bool {
			return path[0] == "domain" && document.Overlap(hidden, path)
		})
	})
}

func readMaskRule(term *ast.Term) (maskRule, error) {
	rule := maskRule{Op: opRemove}
	if path, ok := term.Value.(ast.String); ok {
		rule.Path = string(path)
	} else {
		value, err := ast.JSON(term.Value)
		if err != nil {
			return rule, err
		}
		content, err := json.Marshal(value)
		if err != nil {
			return rule, err
		}
		if err := json.Unmarshal(content, &rule); err != nil {
			return rule, fmt.Errorf("%s is neither a path nor {op, path, value}", term)
		}
	}
	if rule.Path != "/input" && !strings.HasPrefix(rule.Path, "/input/") || rule.Op != opRemove && rule.Op != opUpsert {
		return rule, fmt.Errorf("%s is neither a path below /input nor {op, path, value} with one", term)
	}
	return rule, nil
}

// apply changes the event, and reports whether there was anything to change.
func (r maskRule) apply(event map[string]any) bool {
	parts := strings.Split(r.Path[1:], "/")
	var at any = event
	for i, part := range parts {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		last := i == len(parts)-1
		switch value := at.(type) {
		case map[string]any:
			if _, there := value[part]; !there && (!last || r.Op == opRemove) {
				return false
			}
			if last {
				r.set(value, part)
			}
			at = value[part]
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(value) {
				return false
			}
			if last {
				value[n] = r.Value // removing it would move the others
			}
			at = value[n]
		default:
			return false
		}
	}
	return true
}

func (r maskRule) set(object map[string]any, key string) {
	if r.Op == opRemove {
		delete(object, key)
		return
	}
	object[key] = r.Value
}
