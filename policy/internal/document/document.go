package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

// A Document is an input as JSON has it. It is immutable.
type Document struct {
	root  jsontree.Node
	holes [][]string // paths of the values that are missing or masked
}

// Parse reads an input document of version 1. hidden are the JSON pointers of the values that a
// record erased or masked.
func Parse(content []byte, hidden []string) (*Document, error) {
	root, err := jsontree.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("the input is no JSON: %s; write it as JSON", problem.OneLine(err.Error()))
	}
	return documentOfTree(root, hidden)
}

// ParseQuestion reads {"input": an input document}. Fields beside input are passed over.
func ParseQuestion(content []byte) (*Document, error) {
	root, err := jsontree.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("the question is no JSON: %s; send {\"input\": ...}", problem.OneLine(err.Error()))
	}
	input := root.At("input")
	if input == nil {
		return nil, errors.New("there is no input; send {\"input\": ...}, see rego/input.schema.json")
	}
	return documentOfTree(*input, nil)
}

func documentOfTree(root jsontree.Node, hidden []string) (*Document, error) {
	if root.Kind != jsontree.Object {
		return nil, fmt.Errorf("the input is %s, not an object; write {\"version\": 1, ...}", root.Kind)
	}
	// The version is checked first, because the other fields depend on it.
	switch version := root.At("version"); {
	case version == nil || version.Kind == jsontree.Null:
		return nil, errors.New("the input has no version; write \"version\": 1")
	case version.Kind != jsontree.Number || version.Text != "1":
		text, _ := json.Marshal(version.Term().Value)
		return nil, fmt.Errorf("the input's version is %.40s, and this program knows version 1 only; ask by version 1, or use a newer program", text)
	}
	d := &Document{}
	for _, pointer := range hidden {
		path, err := ParsePointer(pointer)
		if err != nil {
			return nil, err
		}
		d.holes = append(d.holes, path)
		root.Hide(path)
	}
	schema, err := compiledSchema()
	if err != nil {
		return nil, err
	}
	var c documentCheck
	if err := c.value(schema, &root); err != nil {
		return nil, err
	}
	d.holes = append(d.holes, slices.DeleteFunc(c.missing, func(path []string) bool { return slices.Equal(path, Derived) || slices.Equal(path, Holds) })...)
	d.root = root
	return d, d.checkForms()
}

// States are the states that a domain may be in, as libvirt's status file names them.
var States = []string{"nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"}

// CheckState returns an error if a text is neither a state nor "", which is an unknown one. path is
// the field's name in the error.
func CheckState(path, state string) error {
	if state == "" || slices.Contains(States, state) {
		return nil
	}
	return fmt.Errorf("%s is %.40q, which is not a state of libvirt's; write one of %s", path, state, strings.Join(States, ", "))
}

// checkForms checks the values that the schema describes in words only.
func (d *Document) checkForms() error {
	if at := d.Text("time"); at != "" {
		if _, err := time.Parse(time.RFC3339, at); err != nil || !strings.HasSuffix(at, "Z") {
			return fmt.Errorf("input.time is %.40q, not a time as 2026-11-22T12:00:00Z; write it so, in UTC", at)
		}
	}
	if id := d.Text("domain", "uuid"); id != "" && !uuid.IsCanonical(id) {
		return fmt.Errorf("input.domain.uuid is %.60q, not a UUID in lower case with hyphens; write it so", id)
	}
	if name := d.Text("operation"); name != "" {
		if err := operation.Check(name); err != nil {
			return fmt.Errorf("input.operation: %w", err)
		}
	}
	if err := CheckState("input.domain.state", d.Text("domain", "state")); err != nil {
		return err
	}
	for i := range d.List("host", "domains") {
		if err := CheckState("input.host.domains[].state", d.List("host", "domains")[i].TextAt("state")); err != nil {
			return err
		}
	}
	for _, path := range [][]string{{"operation"}, {"time"}, {"domain", "name"}, {"domain", "uuid"}} {
		if d.Text(path...) == "" && !d.has(path) {
			return fmt.Errorf("%s is empty; say what it is", PathText(path))
		}
	}
	return nil
}

// has reports whether there is a hole at the path, above or below it.
func (d *Document) has(path []string) bool {
	return slices.ContainsFunc(d.holes, func(hole []string) bool { return Overlap(hole, path) })
}

// Text returns the string at a path; "" if the path does not lead to a string.
func (d *Document) Text(path ...string) string {
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

// Lacks returns the paths that are read and that the document does not have, sorted.
func (d *Document) Lacks(reads Reads) []string {
	var paths []string
	for _, hole := range d.holes {
		if reads.Has(hole...) {
			paths = append(paths, PathText(hole))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// WithOperation returns the document with another operation in place of its own. One without an
// operation remains without.
func (d *Document) WithOperation(operation string) *Document {
	clone := &Document{root: d.root, holes: d.holes}
	clone.root.Members = slices.Clone(d.root.Members)
	if field := clone.root.At("operation"); field != nil {
		field.Text = operation
	}
	return clone
}

// HasAll reports whether nothing of the document is missing or masked.
func (d *Document) HasAll() bool { return len(d.holes) == 0 }

// List returns the items of the list at a path; nil if the list is missing.
func (d *Document) List(path ...string) []jsontree.Node { return d.root.List(path...) }

// Build returns the value that rules see as input: the fields that are read and do not have a hole.
// The marks are the result of marks, whatever the document's marks are. The holds are the result of
// holds, unless the document has its own.
func (d *Document) Build(fields *Tree, marks, holds func() *ast.Term) ast.Value {
	return d.object(nil, &d.root, fields, marks, holds).Value
}

// Containers are the objects of the document whose fields are built one by one. Other values are
// built whole.
var Containers = []string{"host", "fleet", "request", "caller", "domain"}

func (d *Document) object(at []string, object *jsontree.Node, fields *Tree, marks, holds func() *ast.Term) *ast.Term {
	pairs := make([][2]*ast.Term, 0, len(object.Members))
	for i := range object.Members {
		field := &object.Members[i]
		read := fields.Below(field.Name)
		if read == nil {
			continue
		}
		path := append(at[:len(at):len(at)], field.Name)
		switch {
		case slices.Equal(path, Derived):
		case len(at) == 0 && field.Kind == jsontree.Object && slices.Contains(Containers, field.Name):
			pairs = append(pairs, [2]*ast.Term{read.Name, d.object(path, field, read, marks, holds)})
		case !d.has(path):
			pairs = append(pairs, [2]*ast.Term{read.Name, field.Term()})
		}
	}
	if len(at) == 1 && at[0] == Derived[0] {
		if read := fields.Below(Derived[1]); read != nil {
			pairs = append(pairs, [2]*ast.Term{read.Name, marks()})
		}
	}
	if len(at) == 1 && at[0] == Holds[0] && object.At(Holds[1]) == nil {
		if read := fields.Below(Holds[1]); read != nil {
			pairs = append(pairs, [2]*ast.Term{read.Name, holds()})
		}
	}
	return ast.ObjectTerm(pairs...)
}
