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
