package document

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/stopguard/stopguard/policy/internal/jsontree"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// A fieldSchema is the input schema of one value, compiled once.
type fieldSchema struct {
	kind   string       // as in the schema
	fields []field      // of an object, sorted by name
	rest   *fieldSchema // of each item of a list, and of each member of an object whose names are free
}

type field struct {
	name   string
	schema *fieldSchema
}

var compiledSchema = sync.OnceValues(func() (*fieldSchema, error) {
	schema, err := library.InputSchema()
	if err != nil {
		return nil, err
	}
	at, _ := schema.(map[string]any)
	definitions, _ := at["definitions"].(map[string]any)
	m := schemaCompiler{definitions, map[string]*fieldSchema{}}
	return m.compile(at), nil
})

type schemaCompiler struct {
	definitions map[string]any
	defined     map[string]*fieldSchema // an element has elements
}

func (m *schemaCompiler) compile(schema map[string]any) *fieldSchema {
	f := &fieldSchema{}
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/definitions/")
		if made := m.defined[name]; made != nil {
			return made
		}
		m.defined[name] = f
		schema, _ = m.definitions[name].(map[string]any)
	}
	f.kind, _ = schema["type"].(string)
	if properties, named := schema["properties"].(map[string]any); named {
		f.fields = []field{} // also of an object that has none
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			property, _ := properties[name].(map[string]any)
			f.fields = append(f.fields, field{name, m.compile(property)})
		}
		return f
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if rest, ok := schema[key].(map[string]any); ok {
			f.rest = m.compile(rest)
		}
	}
	return f
}

// A documentCheck holds a document against the schema.
type documentCheck struct {
	at      []string
	missing [][]string
}

func (c *documentCheck) value(f *fieldSchema, n *jsontree.Node) error {
	switch n.Kind {
	case jsontree.Hidden:
		return nil
	case jsontree.Object:
		if f.kind == "object" {
			return c.object(f, n)
		}
	case jsontree.List:
		if f.kind != "array" {
			break
		}
		for i := range n.Members {
			if err := c.checkMember(strconv.Itoa(i), f.rest, &n.Members[i]); err != nil {
				return err
			}
		}
		return nil
	case jsontree.String:
		if f.kind == "string" {
			return nil
		}
	case jsontree.Boolean:
		if f.kind == "boolean" {
			return nil
		}
	case jsontree.Number:
		if f.kind != "integer" {
			break
		}
		if !isWhole(n.Text) {
			return fmt.Errorf("%s is %.40s, not a whole number; write digits only", PathText(c.at), n.Text)
		}
		return nil
	}
	return fmt.Errorf("%s is %s; the input schema says %s", PathText(c.at), n.Kind, cmp.Or(f.kind, "nothing"))
}

// isWhole reports whether a number is one of Go's and written as Go writes it.
func isWhole(number string) bool {
	_, signed := strconv.ParseInt(number, 10, 64)
	if signed != nil {
		_, unsigned := strconv.ParseUint(number, 10, 64)
		return unsigned == nil
	}
	return number != "-0"
}

func (c *documentCheck) checkMember(name string, f *fieldSchema, n *jsontree.Node) error {
	c.at = append(c.at, name)
	err := c.value(f, n)
	c.at = c.at[:len(c.at)-1]
	return err
}

// object goes through the names of the schema and those of the object side by side: both are
// sorted.
func (c *documentCheck) object(f *fieldSchema, n *jsontree.Node) error {
	if f.fields == nil { // free names
		for i := range n.Members {
			if err := c.checkMember(n.Members[i].Name, f.rest, &n.Members[i]); err != nil {
				return err
			}
		}
		return nil
	}
	next := 0
	for i := range n.Members {
		name := n.Members[i].Name
		for next < len(f.fields) && f.fields[next].name < name {
			c.lacks(f.fields[next].name)
			next++
		}
		if next == len(f.fields) || f.fields[next].name != name {
			return fmt.Errorf("%s has a field %.60q, which version 1 does not have as this program knows it; correct it, or use a newer program",
				PathText(c.at), name)
		}
		if err := c.checkMember(name, f.fields[next].schema, &n.Members[i]); err != nil {
			return err
		}
		next++
	}
	for ; next < len(f.fields); next++ {
		c.lacks(f.fields[next].name)
	}
	return nil
}

func (c *documentCheck) lacks(name string) {
	c.missing = append(c.missing, append(slices.Clone(c.at), name))
}
