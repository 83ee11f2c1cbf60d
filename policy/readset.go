package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// A readSet is the part of the input that rules can read: every path that a compiled module
// mentions, cut at its first element that is not a constant string. It may hold more than a rule
// really reads, never less.
type readSet struct {
	all    bool
	except [][]string // of all
	paths  [][]string
}

var everything = readSet{all: true}

// readsOf returns what the modules of c can read of the input.
func readsOf(c *ast.Compiler) readSet {
	var r readSet
	for _, module := range c.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.InputRootDocument) {
				r.paths = append(r.paths, regovalue.Path(ref[1:]))
			}
			return false
		})
	}
	return r
}

// has reports whether the value at path, a part of it, or what holds it can be read.
func (r readSet) has(path ...string) bool {
	if r.all {
		return !slices.ContainsFunc(r.except, func(excluded []string) bool { return slices.Equal(excluded, path) })
	}
	return slices.ContainsFunc(r.paths, func(read []string) bool { return overlap(read, path) })
}

// withSources returns r with the fields that a derived field is made from.
func (r readSet) withSources() readSet {
	if slices.ContainsFunc(r.paths, func(read []string) bool { return slices.Equal(read[:min(len(read), 2)], derivedField) }) {
		r.paths = slices.Concat(r.paths, derivedFrom)
	}
	return r
}

// A pathTree is a readSet as a tree of names.
type pathTree struct {
	name  *ast.Term
	all   bool // everything below is read, but for what parts excludes
	parts map[string]*pathTree

	// shallow, of the root alone, says that the rules do not read the children of metadata's
	// elements. What is read of an array's items cannot be told from paths, but of the library it
	// is known: a test makes sure.
	shallow bool
}

// excluded is a part that is not read.
var excluded = &pathTree{}

// below returns a part of the tree; nil if it is not read.
func (t *pathTree) below(name string) *pathTree {
	if part, ok := t.parts[name]; ok {
		if part == excluded {
			return nil
		}
		return part
	}
	if t.all {
		return &pathTree{name: ast.StringTerm(name), all: true}
	}
	return nil
}

// tree returns the paths of r as a tree.
func (r readSet) tree() *pathTree {
	root := &pathTree{all: r.all}
	for _, path := range r.paths {
		t := root
		for _, name := range path {
			if t.all {
				break
			}
			t = t.part(name)
		}
		t.all, t.parts = true, nil
	}
	for _, path := range r.except {
		t := root
		for _, name := range path[:len(path)-1] {
			t = t.part(name)
			t.all = true
		}
		if t.parts == nil {
			t.parts = map[string]*pathTree{}
		}
		t.parts[path[len(path)-1]] = excluded
	}
	return root
}

func (t *pathTree) part(name string) *pathTree {
	if t.parts == nil {
		t.parts = map[string]*pathTree{}
	}
	if t.parts[name] == nil {
		t.parts[name] = &pathTree{name: ast.StringTerm(name)}
	}
	return t.parts[name]
}
