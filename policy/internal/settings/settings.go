// Package settings reads a site's settings, data.json and data.yaml, and checks them against the
// schemas of its rules.
package settings

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stopguard/stopguard/internal/calendar"
	"github.com/stopguard/stopguard/internal/nearest"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/protectedlist"
	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// Reserved are keys of data.site that belong to no rule.
var Reserved = []string{monitorKey, clusterKey, goRulesKey, ticketsKey, notifyKey}

const (
	monitorKey = "monitor"
	clusterKey = "cluster_managed"
	goRulesKey = "go_rules"
	ticketsKey = "tickets"
	notifyKey  = "notify"
)

// Engine are those of data.site that the engine itself heeds.
type Engine struct {
	monitored      []monitored         // reasons that are reported and not enforced
	GoRules        []string            // rules written in Go that programs of this host have; not all programs need to
	Tickets        *Tickets            // the approvals that tickets need; nil if none
	Notify         *Notify             // the program that is told when protection goes; nil if none
	ClusterManaged *protectedlist.List // domains that a cluster manager may stop whatever the rules say
	Fleet          Fleet               // groups that are counted in the fleet
}

// A Schema is the JSON Schema of the settings of one rule.
type Schema struct {
	Name  string // its file
	value ast.Value
}

// ParseSchema reads a JSON Schema. One that cannot be compiled would check nothing.
func ParseSchema(name string, content []byte) (Schema, error) {
	value, err := jsontree.ParseValue(content)
	if err != nil {
		return Schema{}, fmt.Errorf("%s: %s; correct it", name, problem.OneLine(err.Error()))
	}
	term, err := ast.InterfaceToValue(value)
	if err != nil {
		return Schema{}, fmt.Errorf("%s: %s; correct it", name, problem.OneLine(err.Error()))
	}
	if _, isObject := term.(ast.Object); !isObject {
		return Schema{}, fmt.Errorf("%s: holds %s, not a JSON Schema; write {\"type\": \"object\", ...}", name, jsontree.KindOf(value))
	}
	answer, err := callBuiltin(ast.JSONSchemaVerify.Name, term)
	if err != nil {
		return Schema{}, fmt.Errorf("%s: %s; correct it", name, problem.OneLine(err.Error()))
	}
	if answer.Elem(0).Equal(ast.InternedTerm(false)) {
		return Schema{}, fmt.Errorf("%s: is no JSON Schema: %s; correct it", name, problem.OneLine(answer.Elem(1).String()))
	}
	return Schema{name, term}, nil
}

// Read checks data.site against the schema of each rule, and reads the engine's own
// settings. A setting that a loaded rule cannot read is an error: it was set for a purpose.
//
// rules are the names of the loaded rules, and goRules those of the rules written in Go.
func Read(data Data, schemas map[string]Schema, rules, goRules []string) (Engine, error) {
	var errs []error
	for _, rule := range slices.Sorted(maps.Keys(schemas)) {
		if !slices.Contains(rules, rule) {
			errs = append(errs, fmt.Errorf("%s: there is no rule %s; rename the file after its rule%s", schemas[rule].Name, rule, nearest.Hint(rule, rules)))
		}
	}
	var read Engine
	if value, ok := data.Site[goRulesKey]; ok {
		if err := read.readGoRules(value, rules); err != nil { // others may name them
			return Engine{}, problem.Join(append(errs, fmt.Errorf("%s: %w", data.fileOf(goRulesKey), err))...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(data.Site)) {
		var err error
		value := data.Site[key]
		switch {
		case key == monitorKey:
			err = read.readMonitor(value, slices.Concat(rules, goRules, read.GoRules))
		case key == goRulesKey: // read already
		case key == clusterKey:
			read.ClusterManaged, err = domainsOf(clusterKey, value)
		case key == ticketsKey:
			read.Tickets, err = readTickets(value)
		case key == notifyKey:
			read.Notify, err = readNotify(value)
		case slices.Contains(rules, key):
			err = checkAgainstSchema(schemas, key, value)
			if err == nil && key == CountingRule {
				err = read.readFleet(value)
			}
		default:
			known := slices.Sorted(slices.Values(slices.Concat(library.Rules(), rules, []string{monitorKey, clusterKey, ticketsKey, notifyKey})))
			err = fmt.Errorf("data.site.%s belongs to no loaded rule (these may be set: %s); correct%s or remove it", key, strings.Join(slices.Compact(known), ", "), nearest.Hint(key, known))
		}
		if err != nil {
			errs = append(errs, problem.Wrap(data.fileOf(key)+": ", err))
		}
	}
	return read, problem.Join(errs...)
}

// A monitored is a rule whose reasons are reported and not enforced, or all of them, for one
// operation, or for all.
type monitored struct{ rule, operation string }

const anything = "*"

// IsMonitored reports whether a rule's reasons against an operation are only reported.
func (s *Engine) IsMonitored(rule, asked string) bool {
	return slices.ContainsFunc(s.monitored, func(m monitored) bool {
		return (m.rule == anything || m.rule == rule) && (m.operation == anything || operation.Covers(m.operation, asked))
	})
}

// Monitored returns the entries of data.site.monitor, "RULE" or "RULE/OPERATION", sorted.
func (s *Engine) Monitored() []string {
	var entries []string
	for _, m := range s.monitored {
		entry := m.rule
		if m.operation != anything {
			entry += "/" + m.operation
		}
		entries = append(entries, entry)
	}
	slices.Sort(entries)
	return slices.Compact(entries)
}

// readMonitor reads data.site.monitor: rules, or "*" for all of them, each with "/" and an
// operation behind it where it is about one only.
func (s *Engine) readMonitor(value any, rules []string) error {
	names, err := stringsOf(monitorKey, value)
	if err != nil {
		return err
	}
	for _, entry := range names {
		name, about, isOne := strings.Cut(entry, "/")
		if !isOne {
			about = anything
		} else if err := operation.Check(about); err != nil {
			return fmt.Errorf("data.site.monitor has %q: %w", entry, err)
		}
		switch {
		case name == anything, slices.Contains(rules, name):
			s.monitored = append(s.monitored, monitored{name, about})
		case library.IsRule(name):
			return fmt.Errorf("data.site.monitor names %q, which is off until data.site.%s is set; set that, or remove it here", name, name)
		default:
			return fmt.Errorf("data.site.monitor names %q, which is no loaded rule (these are: %s); correct or remove it", name, strings.Join(rules, ", "))
		}
	}
	return nil
}

// readGoRules reads data.site.go_rules: the names of rules written in Go. They let a program
// without those rules, such as the stock tool, load settings that name them.
func (s *Engine) readGoRules(value any, rules []string) error {
	names, err := stringsOf(goRulesKey, value)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !module.IsRuleName(name) || slices.Contains(Reserved, name) {
			return fmt.Errorf("data.site.go_rules names %q, which no rule can be called; correct or remove it", name)
		}
		if slices.Contains(rules, name) || library.IsRule(name) {
			return fmt.Errorf("data.site.go_rules names %q, which is a rule in Rego; remove it here, or rename one of the two", name)
		}
	}
	s.GoRules = names
	return nil
}

// domainsOf reads a setting of names, globs and UUIDs, as in the protected list.
func domainsOf(key string, value any) (*protectedlist.List, error) {
	names, err := stringsOf(key, value)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.ContainsAny(name, "#\r\n") || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("data.site.%s has %q, which is no name, glob or UUID; correct or remove it", key, name)
		}
	}
	return protectedlist.Parse("data.site."+key, []byte(strings.Join(names, "\n")))
}

func stringsOf(key string, value any) ([]string, error) {
	items, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("data.site.%s is %s, not a list of strings; write [\"...\"]", key, jsontree.KindOf(value))
	}
	var names []string
	for _, item := range items {
		name, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("data.site.%s holds %s among its strings; correct or remove it", key, jsontree.KindOf(item))
		}
		names = append(names, name)
	}
	return names, nil
}

// checkAgainstSchema refuses settings that the rule's schema does not allow. A site's rule without
// a schema takes any.
func checkAgainstSchema(schemas map[string]Schema, rule string, value any) error {
	s, ok := schemas[rule]
	if !ok {
		name, content, err := library.SettingsSchema(rule)
		if err != nil {
			return nil
		}
		if s, err = ParseSchema(name, content); err != nil {
			return err
		}
	}
	document, err := ast.InterfaceToValue(value)
	if err != nil {
		return fmt.Errorf("data.site.%s: %w; correct it", rule, err)
	}
	if _, ok := document.(ast.Object); !ok {
		return fmt.Errorf("data.site.%s is %s, not an object; write {...}", rule, jsontree.KindOf(value))
	}
	answer, err := callBuiltin(ast.JSONMatchSchema.Name, document, s.value)
	if err != nil {
		return fmt.Errorf("%s: %s; correct it", s.Name, problem.OneLine(err.Error()))
	}
	errs, ok := answer.Elem(1).Value.(*ast.Array)
	if !ok {
		return fmt.Errorf("%s: cannot be checked against; correct it", s.Name)
	}
	if errs.Len() > 0 {
		return schemaError(rule, s.value, errs)
	}
	return checkTimeZones("data.site."+rule, value)
}

// checkTimeZones refuses a time_zone that does not exist, anywhere in a rule's settings: no schema
// can tell, and the rule would fail at each stop.
func checkTimeZones(at string, value any) error {
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			if err := checkTimeZones(fmt.Sprintf("%s.%d", at, i), item); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			name, isString := value[key].(string)
			if key == "time_zone" && isString {
				if _, err := calendar.Zone(name); err != nil {
					return fmt.Errorf("%s.time_zone: %w", at, err)
				}
			}
			if err := checkTimeZones(at+"."+key, value[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

// schemaError returns an error with the place of one difference and the expected value, in the
// schema's own words if it has any. An unknown key goes first: it is often the misspelling of a key
// that is missing.
func schemaError(rule string, schema ast.Value, errs *ast.Array) error {
	type difference struct{ Field, Desc, Type string }
	var first difference
	for i := range errs.Len() {
		var d difference
		if err := ast.As(errs.Elem(i).Value, &d); err != nil {
			return fmt.Errorf("data.site.%s: %s; correct it", rule, errs.Elem(i))
		}
		if i == 0 || d.Type == "additional_property_not_allowed" && first.Type != d.Type {
			first = d
		}
	}
	at := "data.site." + rule
	var path []string
	if !strings.EqualFold(first.Field, "(root)") {
		at += "." + first.Field
		path = strings.Split(first.Field, ".")
	}
	hint := ""
	if name, ok := strings.CutSuffix(problem.OneLine(first.Desc), " is not allowed"); ok && first.Type == "additional_property_not_allowed" {
		hint = nearest.Hint(name[strings.LastIndex(name, " ")+1:], strings.Split(find(schema, schema, path, properties), ", "))
	}
	return fmt.Errorf("%s: %s; correct%s or remove it", at, expected(schema, path, first.Type, first.Field, first.Desc), hint)
}

// expected returns the text for the value that the schema expects at path. It removes the capital
// or the field's name from the beginning of OPA's sentence, because the error has named the field.
func expected(schema ast.Value, path []string, difference, field, sentence string) string {
	sentence = problem.OneLine(strings.TrimPrefix(sentence, field+" "))
	sentence = strings.ToLower(sentence[:min(1, len(sentence))]) + sentence[min(1, len(sentence)):]
	switch difference {
	case "pattern", "contains":
		if text := find(schema, schema, path, description); text != "" {
			return "is not of this form: " + strings.TrimSuffix(text, ".")
		}
	case "additional_property_not_allowed":
		if names := find(schema, schema, path, properties); names != "" {
			return sentence + " (these are known: " + names + ")"
		}
	case "number_any_of":
		if names := find(schema, schema, path, alternatives); names != "" {
			return "at least one of these is required: " + names
		}
	}
	return sentence
}

// find returns the result of say for the schemas at path, whose elements are a property's name or
// an item's number.
func find(root, at ast.Value, path []string, say func(ast.Object) string) string {
	object, ok := at.(ast.Object)
	if !ok {
		return ""
	}
	if ref, ok := regovalue.MemberText(object, "$ref"); ok {
		target := root
		for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			target = regovalue.Member(target, part)
		}
		if text := find(root, target, path, say); text != "" {
			return text
		}
	}
	if len(path) == 0 {
		return say(object)
	}
	if properties := regovalue.Member(object, "properties"); properties != nil {
		if text := find(root, regovalue.Member(properties, path[0]), path[1:], say); text != "" {
			return text
		}
	}
	return find(root, regovalue.Member(object, "items"), path[1:], say)
}

func description(schema ast.Object) string {
	text, _ := regovalue.MemberText(schema, "description")
	return problem.OneLine(text)
}

// properties returns the names of an object's properties.
func properties(schema ast.Object) string {
	object, ok := regovalue.Member(schema, "properties").(ast.Object)
	if !ok {
		return ""
	}
	return joinStrings(object.Keys())
}

// alternatives returns the names of the properties of which anyOf requires some.
func alternatives(schema ast.Object) string {
	array, ok := regovalue.Member(schema, "anyOf").(*ast.Array)
	if !ok {
		return ""
	}
	var names []*ast.Term
	for i := range array.Len() {
		required, ok := regovalue.Member(array.Elem(i).Value, "required").(*ast.Array)
		if !ok || required.Len() != 1 {
			return ""
		}
		names = append(names, required.Elem(0))
	}
	return joinStrings(names)
}

func joinStrings(terms []*ast.Term) string {
	var names []string
	for _, term := range terms {
		if name, ok := term.Value.(ast.String); ok {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// callBuiltin calls one of OPA's functions that give an array. It reaches no host.
func callBuiltin(name string, args ...ast.Value) (*ast.Array, error) {
	terms := make([]*ast.Term, len(args))
	for i, arg := range args {
		terms[i] = ast.NewTerm(arg)
	}
	var answer *ast.Array
	ctx := topdown.BuiltinContext{Context: context.Background(), Capabilities: builtin.Capabilities()}
	err := topdown.GetBuiltin(name)(ctx, terms, func(t *ast.Term) error {
		var ok bool
		if answer, ok = t.Value.(*ast.Array); !ok || answer.Len() != 2 {
			return fmt.Errorf("%s gave %v", name, t)
		}
		return nil
	})
	if err == nil && answer == nil {
		err = fmt.Errorf("%s gave nothing", name)
	}
	return answer, err
}
