// Package regovalue makes and reads values of Rego.
package regovalue

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Array returns an array of the result of make for each item.
func Array[T any](list []T, make func(T) *ast.Term) *ast.Term {
	if len(list) == 0 {
		return ast.InternedEmptyArray // an empty list is a list, not null
	}
	terms := slices.Grow([]*ast.Term(nil), len(list))
	for _, item := range list {
		terms = append(terms, make(item))
	}
	return ast.ArrayTerm(terms...)
}

// Text returns a string.
func Text(s string) *ast.Term {
	if s == "" {
		return ast.InternedEmptyString
	}
	return ast.StringTerm(s)
}

// Pair returns a member of an object.
func Pair(name string, value *ast.Term) [2]*ast.Term {
	key, known := names[name]
	if !known {
		key = ast.StringTerm(name)
	}
	return [2]*ast.Term{key, value}
}

// names are the keys of the objects that rules see as input, made once.
var names = func() map[string]*ast.Term {
	m := map[string]*ast.Term{}
	for _, name := range strings.Fields(`
		version operation time host request caller domain xml domains procedure flags command destination uid login_uid user gid
		groups pid read_only via unit executable name uuid id type title description memory_bytes vcpus arch machine state reason job disks interfaces
		hostdevs listed holds holder since marks metadata metadata_error stopping device source target bus shareable serial mac model mode
		namespace attributes text children owner until shown operations named in_force note unreadable is_empty is_open opens`) {
		m[name] = ast.StringTerm(name)
	}
	return m
}()

// KnownName returns the name of a key that the input has, without memory of its own.
func KnownName(name []byte) (string, bool) {
	key, isKnown := names[string(name)]
	if !isKnown {
		return "", false
	}
	return string(key.Value.(ast.String)), true
}

// Member returns a member of an object; nil if there is none.
func Member(value ast.Value, key string) ast.Value {
	object, ok := value.(ast.Object)
	if !ok {
		return nil
	}
	if term := object.Get(ast.StringTerm(key)); term != nil {
		return term.Value
	}
	return nil
}

// MemberText returns the text of a member of an object. It reports whether there is one.
func MemberText(o ast.Object, key string) (string, bool) {
	term := o.Get(ast.InternedTerm(key))
	if term == nil {
		return "", false
	}
	s, ok := term.Value.(ast.String)
	return string(s), ok
}

// Path returns the leading elements of ref that are constant strings.
func Path(ref ast.Ref) []string {
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

// CountConstants returns how many terms at the beginning are constants.
func CountConstants(terms []*ast.Term) int {
	for i, term := range terms {
		if !ast.IsConstant(term.Value) {
			return i
		}
	}
	return len(terms)
}
