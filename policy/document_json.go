package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

// A Document is an input as JSON has it: what rego/input.schema.json describes, from a client that
// asks, or from a record. It is immutable, but for its field.
type Document struct {
	// ShuttingDown says that the host shuts down, which no document says; see [Input]. In a record
	// it is the reason why nothing was enforced.
	ShuttingDown bool

	root  jsontree.Node
	holes [][]string // paths of what is missing or masked
}

// ParseDocument reads an input document of version 1. hidden are the JSON pointers of what a record
// erased or masked, such as "/input/domain/title"; what is there is not looked at.
//
// What it holds must be of the schema's form; a field of another name is an error, and so is any
// other version. Whether a field that is missing matters depends on the rules:
// [Engine.DecideDocument] says so.
func ParseDocument(content []byte, hidden []string) (*Document, error) {
	root, err := jsontree.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("policy: the input is no JSON: %s; write it as JSON", problem.OneLine(err.Error()))
	}
	return documentOfTree(root, hidden)
}

// ParseQuestion reads {"input": an input document}, as OPA's Data API is asked, in one pass. The
// document is read as [ParseDocument] does it, with nothing hidden. Fields beside input are passed
// over.
func ParseQuestion(content []byte) (*Document, error) {
	root, err := jsontree.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("policy: the question is no JSON: %s; send {\"input\": ...}", problem.OneLine(err.Error()))
	}
	input := root.At("input")
	if input == nil {
		return nil, errors.New("policy: there is no input; send {\"input\": ...}, see rego/input.schema.json")
	}
	return documentOfTree(*input, nil)
}

func documentOfTree(root jsontree.Node, hidden []string) (*Document, error) {
	if root.Kind != jsontree.Object {
		return nil, fmt.Errorf("policy: the input is %s, not an object; write {\"version\": 1, ...}", root.Kind)
	}
	// Before anything else, for it says what else there may be.
	switch version := root.At("version"); {
	case version == nil || version.Kind == jsontree.Null:
		return nil, errors.New("policy: the input has no version; write \"version\": 1")
	case version.Kind != jsontree.Number || version.Text != "1":
		text, _ := json.Marshal(version.Term().Value)
		return nil, fmt.Errorf("policy: the input's version is %.40s, and this program knows version 1 only; ask by version 1, or use a newer program", text)
	}
	d := &Document{}
	for _, pointer := range hidden {
		path, err := pathOf(pointer)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		d.holes = append(d.holes, path)
		root.Hide(path)
	}
	schema, err := compiledSchema()
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var c documentCheck
	if err := c.value(schema, &root); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	d.holes = append(d.holes, slices.DeleteFunc(c.missing, func(path []string) bool { return slices.Equal(path, derivedField) })...)
	if asked := root.At("operation"); asked != nil {
		asked.Text = operation.Canonical(asked.Text)
	}
	d.root = root
	return d, d.checkForms()
}

// checkForms checks what the schema says in words only.
func (d *Document) checkForms() error {
	if at := d.text("time"); at != "" {
		if _, err := time.Parse(time.RFC3339, at); err != nil || !strings.HasSuffix(at, "Z") {
			return fmt.Errorf("policy: input.time is %.40q, not a time as 2026-11-22T12:00:00Z; write it so, in UTC", at)
		}
	}
	if id := d.text("domain", "uuid"); id != "" && !uuid.IsCanonical(id) {
		return fmt.Errorf("policy: input.domain.uuid is %.60q, not a UUID in lower case with hyphens; write it so", id)
	}
	if asked := d.text("operation"); asked != "" {
		if err := checkOperation(asked); err != nil {
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

// has reports whether there is a hole at the path, above or below it.
func (d *Document) has(path []string) bool {
	return slices.ContainsFunc(d.holes, func(hole []string) bool { return overlap(hole, path) })
}

func overlap(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

// text returns the string at a path; "" if there is none.
func (d *Document) text(path ...string) string {
	at := &d.root
	for _, name := range path {
		if at = at.At(name); at == nil {
			return ""
		}
	}
	if at.Kind != jsontree.String {
		return ""
	}
	return at.Text
}

// lacks returns what a rule reads in vain; nil if nothing.
func (d *Document) lacks(rule string, reads readSet) *MissingInput {
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
	return &MissingInput{rule, slices.Compact(paths)}
}

// build makes the value that rules see as input: what is read of it, less what has a hole.
// The marks are made from in, which [Document.input] gave, whatever the document says of them.
func (d *Document) build(fields *pathTree, in Input) ast.Value {
	return d.object(nil, &d.root, fields, in).Value
}

// containers are the objects of the document whose fields are built one by one; all else is built
// whole.
var containers = []string{"host", "request", "caller", "domain"}

func (d *Document) object(at []string, object *jsontree.Node, fields *pathTree, in Input) *ast.Term {
	pairs := make([][2]*ast.Term, 0, len(object.Members))
	for i := range object.Members {
		field := &object.Members[i]
		read := fields.below(field.Name)
		if read == nil {
			continue
		}
		path := append(at[:len(at):len(at)], field.Name)
		switch {
		case slices.Equal(path, derivedField):
		case len(at) == 0 && field.Kind == jsontree.Object && slices.Contains(containers, field.Name):
			pairs = append(pairs, [2]*ast.Term{read.name, d.object(path, field, read, in)})
		case !d.has(path):
			pairs = append(pairs, [2]*ast.Term{read.name, field.Term()})
		}
	}
	if len(at) == 1 && at[0] == derivedField[0] {
		if read := fields.below(derivedField[1]); read != nil {
			pairs = append(pairs, [2]*ast.Term{read.name, marksTerm(in.Domain, in.Time)})
		}
	}
	return ast.ObjectTerm(pairs...)
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

// pathText writes a path as a rule does, and all items of a list as one:
// "input.host.domains[].metadata".
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
