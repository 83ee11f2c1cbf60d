package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A node is a value of JSON. An agent reads thousands of documents a second, and maps of interfaces
// take twice as long.
type node struct {
	name  string // in the object that holds it
	kind  kind
	text  string // of a string, a number, or a boolean
	below []node // the items of a list, or the members of an object: sorted by name, and no name twice
}

// A kind is what errors call a value of it.
type kind string

const (
	objectKind  kind = "an object"
	listKind    kind = "a list"
	stringKind  kind = "a string"
	numberKind  kind = "a number"
	booleanKind kind = "a boolean"
	nullKind    kind = "null"
	hiddenKind  kind = "hidden" // a record masked it
)

// parseTree reads one JSON value, in which no object names a key twice: of two, encoding/json would
// drop the first. It also refuses a number that is beyond what can be counted with.
func parseTree(content []byte) (node, error) {
	// It says what is JSON, and bounds the nesting, on which the reader recurses.
	if err := json.Unmarshal(content, new(json.RawMessage)); err != nil {
		return node{}, err
	}
	r := treeReader{content: content}
	var root node
	if err := r.value(&root); err != nil {
		return node{}, fmt.Errorf("byte %d: %w", r.at, err)
	}
	return root, nil
}

// A treeReader reads what is known to be JSON.
type treeReader struct {
	content []byte
	at      int
}

// next skips blanks, and the punctuation that stands before a value or ends a list, and returns the
// byte that follows.
func (r *treeReader) next() byte {
	for {
		switch c := r.content[r.at]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			r.at++
		default:
			return c
		}
	}
}

// value reads a value into a node, whose name is set.
func (r *treeReader) value(n *node) (err error) {
	switch c := r.next(); c {
	case '{':
		n.kind = objectKind
		return r.object(n)
	case '[':
		n.kind = listKind
		for r.at++; r.next() != ']'; {
			n.below = append(n.below, node{})
			if err := r.value(&n.below[len(n.below)-1]); err != nil {
				return err
			}
		}
		r.at++
	case '"':
		n.kind = stringKind
		n.text, err = r.text()
	case 't', 'f':
		n.kind, n.text = booleanKind, r.word()
	case 'n':
		n.kind = nullKind
		r.word()
	default:
		n.kind, n.text = numberKind, r.word()
		if _, err := strconv.ParseFloat(n.text, 64); err != nil {
			return fmt.Errorf("%.40s is a number beyond what can be counted with", n.text)
		}
	}
	return err
}

func (r *treeReader) object(n *node) error {
	n.below = make([]node, 0, 8)
	for r.at++; r.next() != '}'; {
		name, err := r.name()
		if err != nil {
			return err
		}
		n.below = append(n.below, node{name: name})
		if err := r.value(&n.below[len(n.below)-1]); err != nil {
			return err
		}
	}
	r.at++
	slices.SortFunc(n.below, func(a, b node) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(n.below); i++ {
		if name := n.below[i].name; name == n.below[i-1].name {
			return fmt.Errorf("key %q is there twice", name)
		}
	}
	return nil
}

// name reads the name of a member. One that the input has needs no memory of its own.
func (r *treeReader) name() (string, error) {
	if end := bytes.IndexByte(r.content[r.at+1:], '"'); end >= 0 {
		if known, ok := names[string(r.content[r.at+1:r.at+1+end])]; ok {
			r.at += end + 2
			return string(known.Value.(ast.String)), nil
		}
	}
	return r.text()
}

// text reads a string. encoding/json reads those that are not plain.
func (r *treeReader) text() (text string, err error) {
	start, end, isPlain := r.at, r.at+1, true
	for ; r.content[end] != '"'; end++ {
		if r.content[end] == '\\' {
			isPlain = false
			end++
		}
	}
	r.at = end + 1
	quoted := r.content[start:r.at]
	if plain := quoted[1 : len(quoted)-1]; isPlain && utf8.Valid(plain) {
		return string(plain), nil
	}
	err = json.Unmarshal(quoted, &text)
	return text, err
}

// word reads a number, true, false or null.
func (r *treeReader) word() string {
	start := r.at
	for r.at < len(r.content) && strings.IndexByte(" \t\n\r,]}", r.content[r.at]) < 0 {
		r.at++
	}
	return string(r.content[start:r.at])
}

// plain returns what encoding/json would return, with numbers as they are written.
func (n *node) plain() any {
	switch n.kind {
	case stringKind:
		return n.text
	case numberKind:
		return json.Number(n.text)
	case booleanKind:
		return n.text == "true"
	case listKind:
		list := make([]any, len(n.below))
		for i := range n.below {
			list[i] = n.below[i].plain()
		}
		return list
	case objectKind:
		object := make(map[string]any, len(n.below))
		for i := range n.below {
			object[n.below[i].name] = n.below[i].plain()
		}
		return object
	}
	return nil
}

// at returns the member of an object; nil if there is none.
func (n *node) at(name string) *node {
	if n.kind != objectKind {
		return nil
	}
	i, found := slices.BinarySearchFunc(n.below, name, func(n node, name string) int { return strings.Compare(n.name, name) })
	if !found {
		return nil
	}
	return &n.below[i]
}

// list returns the items of the list at a path; nil if the list is missing.
func (n *node) list(path ...string) []node {
	for _, name := range path {
		if n = n.at(name); n == nil {
			return nil
		}
	}
	if n.kind != listKind {
		return nil
	}
	return n.below
}

// hide notes that what is at the path, if there is something, is hidden.
func (n *node) hide(path []string) {
	if len(path) == 0 {
		return
	}
	for _, part := range path {
		if n.kind == listKind {
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(n.below) {
				return
			}
			n = &n.below[i]
		} else if n = n.at(part); n == nil {
			return
		}
	}
	*n = node{name: n.name, kind: hiddenKind}
}

// term makes the value that rules see.
func (n *node) term() *ast.Term {
	switch n.kind {
	case stringKind:
		return textTerm(n.text)
	case numberKind:
		return ast.NumberTerm(json.Number(n.text))
	case booleanKind:
		return ast.InternedTerm(n.text == "true")
	case listKind:
		if len(n.below) == 0 {
			return ast.InternedEmptyArray
		}
		terms := make([]*ast.Term, len(n.below))
		for i := range n.below {
			terms[i] = n.below[i].term()
		}
		return ast.ArrayTerm(terms...)
	case objectKind:
		if len(n.below) == 0 {
			return ast.InternedEmptyObject
		}
		pairs := make([][2]*ast.Term, len(n.below))
		for i := range n.below {
			pairs[i] = pair(n.below[i].name, n.below[i].term())
		}
		return ast.ObjectTerm(pairs...)
	}
	return ast.NullTerm()
}
