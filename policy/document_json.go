package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A Document is an input as JSON has it: what rego/input.schema.json describes, from a client that asks, or from a record.
// It is immutable, but for its field.
type Document struct {
	// ShuttingDown says that the host shuts down, which no document says; see [Input]. In a record it is the reason why
	// nothing was enforced.
	ShuttingDown bool

	value map[string]any
	holes [][]string // paths of what is missing or masked
}

// ParseDocument reads an input document of version 1. hidden are the JSON pointers of what a record erased or masked, such
// as "/input/domain/title"; what is there is not looked at.
//
// What it holds must be of the schema's form; a field of another name is an error, and so is any other version. Whether
// a field that is missing matters depends on the rules: [Engine.DecideDocument] says so.
func ParseDocument(content []byte, hidden []string) (*Document, error) {
	d := &Document{}
	value, err := decodeJSON(content)
	if err != nil {
		return nil, fmt.Errorf("policy: the input is no JSON: %s; write it as JSON", oneLine(err.Error()))
	}
	root, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("policy: the input is %s, not an object; write {\"version\": 1, ...}", kindOf(value))
	}
	// Before anything else, for it says what else there may be.
	if version := root["version"]; version != json.Number("1") {
		if version == nil {
			return nil, errors.New("policy: the input has no version; write \"version\": 1")
		}
		text, _ := json.Marshal(version)
		return nil, fmt.Errorf("policy: the input's version is %.40s, and this program knows version 1 only; ask by version 1, or use a newer program", text)
	}
	for _, pointer := range hidden {
		path, err := pathOf(pointer)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		d.holes = append(d.holes, path)
		hide(root, path)
	}
	schema, err := inputSchema()
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	at, _ := schema.(map[string]any)
	definitions, _ := at["definitions"].(map[string]any)
	c := documentCheck{definitions: definitions}
	if err := c.value(at, root); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	d.holes = append(d.holes, c.missing...)
	d.value = root
	return d, d.checkForms()
}

// decodeJSON is parseJSON, several times as fast where nothing is wrong.
func decodeJSON(content []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || len(bytes.TrimLeft(content[decoder.InputOffset():], " \t\r\n")) > 0 || members(value) != colons(content) {
		return parseJSON(content) // which says what is wrong
	}
	return value, nil
}

// members counts the members of all objects in a value.
func members(value any) int {
	n := 0
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			n += members(item)
		}
	case map[string]any:
		n = len(value)
		for _, field := range value {
			n += members(field)
		}
	}
	return n
}

// colons counts those outside of strings. In valid JSON there is one for each member, so there are more than members if a
// key is there twice.
func colons(content []byte) int {
	n := 0
	for i := 0; i < len(content); i++ {
		switch content[i] {
		case ':':
			n++
		case '"':
			for i++; i < len(content) && content[i] != '"'; i++ {
				if content[i] == '\\' {
					i++
				}
			}
		}
	}
	return n
}

// checkForms checks what the schema says in words only.
func (d *Document) checkForms() error {
	if at := d.text("time"); at != "" {
		if _, err := time.Parse(time.RFC3339, at); err != nil || !strings.HasSuffix(at, "Z") {
			return fmt.Errorf("policy: input.time is %.40q, not a time as 2026-11-22T12:00:00Z; write it so, in UTC", at)
		}
	}
	if id := d.text("domain", "uuid"); id != "" && !isPlainUUID(id) {
		return fmt.Errorf("policy: input.domain.uuid is %.60q, not a UUID in lower case with hyphens; write it so", id)
	}
	if operation := d.text("operation"); operation != "" {
		if err := checkOperation(operation); err != nil {
			return fmt.Errorf("policy: input.operation: %w", err)
		}
	}
	for _, path := range [][]string{{"operation"}, {"time"}, {"domain", "name"}, {"domain", "uuid"}} {
		if d.text(path...) == "" && !d.has(path) {
			return fmt.Errorf("policy: %s is empty; say what it is", pathText(path))
		}
	}
	return nil
}

// isPlainUUID reports whether a UUID is written as a domain's is. A regular expression would be compiled at each start of a
// hook, which reads no documents.
func isPlainUUID(s string) bool {
	_, ok := parseUUID(s)
	return ok && len(s) == 36 && s == strings.ToLower(s) && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

// has reports whether there is a hole at the path, above or below it.
func (d *Document) has(path []string) bool {
	return slices.ContainsFunc(d.holes, func(hole []string) bool { return overlap(hole, path) })
}

func overlap(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

// text gives the string at a path; "" if there is none.
func (d *Document) text(path ...string) string {
	var at any = d.value
	for _, part := range path {
		object, _ := at.(map[string]any)
		at = object[part]
	}
	s, _ := at.(string)
	return s
}

// lacks gives what a rule reads in vain; nil if nothing.
func (d *Document) lacks(rule string, reads reach) *Lack {
	var paths []string
	for _, hole := range d.holes {
		if reads.has(hole...) {
			paths = append(paths, pathText(hole))
		}
	}
	if paths == nil {
		return nil
	}
	slices.Sort(paths)
	return &Lack{rule, slices.Compact(paths)}
}

// build makes the value that rules see as input: what reads can reach, less what has a hole.
func (d *Document) build(reads reach) ast.Value {
	b := documentBuilder{reads, d.holes}
	return b.object(nil, d.value).Value
}

type documentBuilder struct {
	reads reach
	holes [][]string
}

// containers are the objects of the document whose fields are built one by one; all else is built whole.
var containers = []string{"host", "request", "caller", "domain"}

func (b documentBuilder) object(at []string, fields map[string]any) *ast.Term {
	pairs := make([][2]*ast.Term, 0, len(fields))
	for name, value := range fields {
		path := append(at[:len(at):len(at)], name)
		if !b.reads.has(path...) {
			continue
		}
		object, isObject := value.(map[string]any)
		switch {
		case len(at) == 0 && isObject && slices.Contains(containers, name):
			pairs = append(pairs, [2]*ast.Term{ast.InternedTerm(name), b.object(path, object)})
		case !slices.ContainsFunc(b.holes, func(hole []string) bool { return overlap(hole, path) }):
			pairs = append(pairs, [2]*ast.Term{ast.InternedTerm(name), termOf(value)})
		}
	}
	return ast.ObjectTerm(pairs...)
}

// termOf makes the value of what parseJSON gave and the schema allows.
func termOf(value any) *ast.Term {
	switch value := value.(type) {
	case string:
		return ast.StringTerm(value)
	case json.Number:
		return ast.NumberTerm(value)
	case bool:
		return ast.InternedTerm(value)
	case []any:
		return array(value, termOf)
	case map[string]any:
		pairs := make([][2]*ast.Term, 0, len(value))
		for name, field := range value {
			pairs = append(pairs, [2]*ast.Term{ast.StringTerm(name), termOf(field)})
		}
		return ast.ObjectTerm(pairs...)
	}
	return ast.NullTerm()
}

// A documentCheck holds a document against the schema.
type documentCheck struct {
	definitions map[string]any
	at          []string
	missing     [][]string
}

// hiddenValue stands where a record masked something.
type hiddenValue struct{}

func (c *documentCheck) value(schema map[string]any, value any) error {
	if _, hidden := value.(hiddenValue); hidden {
		return nil
	}
	if ref, ok := schema["$ref"].(string); ok {
		schema, _ = c.definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
	}
	kind, _ := schema["type"].(string)
	switch value := value.(type) {
	case map[string]any:
		if kind == "object" {
			return c.object(schema, value)
		}
	case []any:
		if kind != "array" {
			break
		}
		items, _ := schema["items"].(map[string]any)
		for i, item := range value {
			if err := c.below(strconv.Itoa(i), items, item); err != nil {
				return err
			}
		}
		return nil
	case string:
		if kind == "string" {
			return nil
		}
	case bool:
		if kind == "boolean" {
			return nil
		}
	case json.Number:
		_, signed := strconv.ParseInt(value.String(), 10, 64)
		_, unsigned := strconv.ParseUint(value.String(), 10, 64)
		switch {
		case kind == "integer" && (signed == nil || unsigned == nil) && value != "-0":
			return nil
		case kind == "integer":
			return fmt.Errorf("%s is %.40s, not a whole number; write digits only", pathText(c.at), value)
		}
	}
	return fmt.Errorf("%s is %s; the input schema says %s", pathText(c.at), kindOf(value), cmp.Or(kind, "nothing"))
}

func (c *documentCheck) below(name string, schema map[string]any, value any) error {
	c.at = append(c.at, name)
	err := c.value(schema, value)
	c.at = c.at[:len(c.at)-1]
	return err
}

func (c *documentCheck) object(schema, value map[string]any) error {
	properties, named := schema["properties"].(map[string]any)
	if !named { // free names
		items, _ := schema["additionalProperties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if err := c.below(name, items, value[name]); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(value)) {
		property, known := properties[name].(map[string]any)
		if !known {
			return fmt.Errorf("%s has a field %.60q, which version 1 does not have as this program knows it; correct it, or use a newer program",
				pathText(c.at), name)
		}
		if err := c.below(name, property, value[name]); err != nil {
			return err
		}
	}
	for name := range properties {
		if _, there := value[name]; !there {
			c.missing = append(c.missing, append(slices.Clone(c.at), name))
		}
	}
	return nil
}

// pathOf reads a JSON pointer into a record's input.
func pathOf(pointer string) ([]string, error) {
	rest, ok := strings.CutPrefix(pointer, "/input")
	if !ok || rest != "" && rest[0] != '/' {
		return nil, fmt.Errorf("%.60q is no pointer to something below /input; write it as a record has it", pointer)
	}
	path := []string{}
	if rest == "" {
		return path, nil
	}
	for part := range strings.SplitSeq(rest[1:], "/") {
		path = append(path, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return path, nil
}

// pathText writes a path as a rule does, and all items of a list as one: "input.host.domains[].metadata".
func pathText(path []string) string {
	var b strings.Builder
	b.WriteString("input")
	for _, part := range path {
		if _, err := strconv.Atoi(part); err == nil {
			b.WriteString("[]")
		} else {
			b.WriteString("." + part)
		}
	}
	return b.String()
}

// hide puts a hiddenValue in the place of what is at the path, if there is something.
func hide(object map[string]any, path []string) {
	var at any = object
	for i, part := range path {
		last := i == len(path)-1
		switch value := at.(type) {
		case map[string]any:
			if _, there := value[part]; !there {
				return
			}
			if last {
				value[part] = hiddenValue{}
			}
			at = value[part]
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 || n >= len(value) {
				return
			}
			if last {
				value[n] = hiddenValue{}
			}
			at = value[n]
		default:
			return
		}
	}
}
