// Package document reads input documents, which are inputs in JSON, and finds the parts of the
// input that rules read.
package document

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// Derived is made from other fields, and not recorded.
var Derived = []string{"domain", "marks"}

// Holds may be missing in a document: it was added to version 1 later, and a rule of the library
// reads it.
var Holds = []string{"domain", "holds"}

// derivedFrom are the fields that Derived is made from.
var derivedFrom = [][]string{{"domain", "metadata"}, {"domain", "metadata_error"}, {"domain", "uuid"}, {"time"}}

// A Reads is the part of the input that rules can read: every path that a compiled module
// mentions, cut at its first element that is not a constant string. It may hold more than a rule
// really reads, never less.
type Reads struct {
	All    bool
	Except [][]string // of all
	Paths  [][]string
}

// ReadsOf returns the part of the input that the modules of c can read.
func ReadsOf(c *ast.Compiler) Reads {
	var r Reads
	for _, module := range c.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.InputRootDocument) {
				r.Paths = append(r.Paths, regovalue.Path(ref[1:]))
			}
			return false
		})
	}
	return r
}

// Has reports whether the value at path, a part of it, or a value that holds it can be read.
func (r Reads) Has(path ...string) bool {
	if r.All {
		return !slices.ContainsFunc(r.Except, func(excluded []string) bool { return slices.Equal(excluded, path) })
	}
	return slices.ContainsFunc(r.Paths, func(read []string) bool { return Overlap(read, path) })
}

// WithSources returns r with the fields that a derived field is made from.
func (r Reads) WithSources() Reads {
	if slices.ContainsFunc(r.Paths, func(read []string) bool { return slices.Equal(read[:min(len(read), 2)], Derived) }) {
		r.Paths = slices.Concat(r.Paths, derivedFrom)
	}
	return r
}

// A Tree is a Reads as a tree of names.
type Tree struct {
	Name  *ast.Term
	all   bool // everything below is read, except for excluded parts
	parts map[string]*Tree

	// Shallow is set, in the root alone, if the rules do not read the children of metadata's
	// elements. The reads of an array's items cannot be told from paths. For the library it is
	// known; a test makes sure.
	Shallow bool
}

// excluded is a part that is not read.
var excluded = &Tree{}

// Below returns a part of the tree; nil if it is not read.
func (t *Tree) Below(name string) *Tree {
	if part, ok := t.parts[name]; ok {
		if part == excluded {
			return nil
		}
		return part
	}
	if t.all {
		return &Tree{Name: ast.StringTerm(name), all: true}
	}
	return nil
}

// Tree returns the paths of r as a tree.
func (r Reads) Tree() *Tree {
	root := &Tree{all: r.All}
	for _, path := range r.Paths {
		t := root
		for _, name := range path {
			if t.all {
				break
			}
			t = t.part(name)
		}
		t.all, t.parts = true, nil
	}
	for _, path := range r.Except {
		t := root
		for _, name := range path[:len(path)-1] {
			t = t.part(name)
			t.all = true
		}
		if t.parts == nil {
			t.parts = map[string]*Tree{}
		}
		t.parts[path[len(path)-1]] = excluded
	}
	return root
}

func (t *Tree) part(name string) *Tree {
	if t.parts == nil {
		t.parts = map[string]*Tree{}
	}
	if t.parts[name] == nil {
		t.parts[name] = &Tree{Name: ast.StringTerm(name)}
	}
	return t.parts[name]
}

// Overlap reports whether one of two paths holds the other, or is the same.
func Overlap(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

// ParsePointer reads a JSON pointer into a record's input.
func ParsePointer(pointer string) ([]string, error) {
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

// PathText writes a path as a rule does, and all items of a list as one:
// "input.host.domains[].metadata".
func PathText(path []string) string {
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
