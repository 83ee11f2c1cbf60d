package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A reach says which parts of the input rules can read: every path that a compiled module mentions, cut at its first
// element that is not a constant string. It may hold more than a rule really reads, never less.
type reach struct {
	all   bool
	but   [][]string // of all, but for these
	paths [][]string
}

var everything = reach{all: true}

// reachOf collects what the modules of c can read of the input.
func reachOf(c *ast.Compiler) reach {
	var r reach
	for _, module := range c.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.InputRootDocument) {
				r.paths = append(r.paths, constant(ref[1:]))
			}
			return false
		})
	}
	return r
}

// has reports whether the value at path, something below it, or something that holds it can be read.
func (r reach) has(path ...string) bool {
	if r.all {
		return !slices.ContainsFunc(r.but, func(left []string) bool { return slices.Equal(left, path) })
	}
	return slices.ContainsFunc(r.paths, func(read []string) bool {
		n := min(len(read), len(path))
		return slices.Equal(read[:n], path[:n])
	})
}

// constant gives the leading elements of ref that are constant strings.
func constant(ref ast.Ref) []string {
	var path []string
	for _, term := range ref {
		name, ok := term.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(name))
	}
	return path
}

// A place is a part of the input that rules can read, and what they can read below it.
type place struct {
	name  *ast.Term
	all   bool // everything below is read, but for what parts leaves out
	parts map[string]*place

	// shallow, of the root alone, says that nobody reads the children of a metadata element. What is read of an array's items
	// cannot be told from paths, but of the library it is known: a test makes sure.
	shallow bool
}

// left is a place that is left out.
var left = &place{}

// below gives the part of a place; nil if it is not read.
func (p *place) below(name string) *place {
	if part, ok := p.parts[name]; ok {
		if part == left {
			return nil
		}
		return part
	}
	if p.all {
		return &place{name: ast.StringTerm(name), all: true}
	}
	return nil
}

// placesFor is places for an engine that has rules of the library alone, or not.
func (r reach) placesFor(libraryOnly bool) *place {
	p := r.places()
	p.shallow = libraryOnly
	return p
}

// places gives the input as the place that r reads.
func (r reach) places() *place {
	root := &place{all: r.all}
	for _, path := range r.paths {
		p := root
		for _, name := range path {
			if p.all {
				break
			}
			p = p.part(name)
		}
		p.all, p.parts = true, nil
	}
	for _, path := range r.but {
		p := root
		for _, name := range path[:len(path)-1] {
			p = p.part(name)
			p.all = true
		}
		if p.parts == nil {
			p.parts = map[string]*place{}
		}
		p.parts[path[len(path)-1]] = left
	}
	return root
}

func (p *place) part(name string) *place {
	if p.parts == nil {
		p.parts = map[string]*place{}
	}
	if p.parts[name] == nil {
		p.parts[name] = &place{name: ast.StringTerm(name)}
	}
	return p.parts[name]
}
