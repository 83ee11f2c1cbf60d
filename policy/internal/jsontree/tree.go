// Package jsontree reads JSON into a tree, strictly and in one pass.
package jsontree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// A Node is a value of JSON. An agent reads thousands of documents a second, and maps of interfaces
// take twice as long.
type Node struct {
	Name    string // in the object that holds it
	Kind    Kind
	Text    string // of a string, a number, or a boolean
	Members []Node // the items of a list, or the members of an object: sorted by name, and no name twice
}

// A Kind is the kind of a value, as errors name it.
type Kind string

const (
	Object  Kind = "an object"
	List    Kind = "a list"
	String  Kind = "a string"
	Number  Kind = "a number"
	Boolean Kind = "a boolean"
	Null    Kind = "null"
	Hidden  Kind = "hidden" // a record masked it
)

// Parse reads one JSON value. It refuses an object with two equal keys, of which encoding/json
// would drop the first, and a number that a float64 cannot represent.
func Parse(content []byte) (Node, error) {
	// This validates the JSON, and bounds the nesting, on which the reader recurses.
	if err := json.Unmarshal(content, new(json.RawMessage)); err != nil {
		return Node{}, err
	}
	r := treeReader{content: content}
	var root Node
	if err := r.value(&root); err != nil {
		return Node{}, fmt.Errorf("byte %d: %w", r.at, err)
	}
	return root, nil
}

// A treeReader reads text that has been validated as JSON.
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
func (r *treeReader) value(n *Node) (err error) {
	switch c := r.next(); c {
	case '{':
		n.Kind = Object
		return r.object(n)
	case '[':
		n.Kind = List
		for r.at++; r.next() != ']'; {
			n.Members = append(n.Members, Node{})
			if err := r.value(&n.Members[len(n.Members)-1]); err != nil {
				return err
			}
		}
		r.at++
	case '"':
		n.Kind = String
		n.Text, err = r.text()
	case 't', 'f':
		n.Kind, n.Text = Boolean, r.word()
	case 'n':
		n.Kind = Null
		r.word()
	default:
		n.Kind, n.Text = Number, r.word()
		if _, err := strconv.ParseFloat(n.Text, 64); err != nil {
			return fmt.Errorf("%.40s is a number beyond what can be counted with", n.Text)
		}
	}
	return err
}

func (r *treeReader) object(n *Node) error {
	n.Members = make([]Node, 0, 8)
	for r.at++; r.next() != '}'; {
		name, err := r.name()
		if err != nil {
			return err
		}
		n.Members = append(n.Members, Node{Name: name})
		if err := r.value(&n.Members[len(n.Members)-1]); err != nil {
			return err
		}
	}
	r.at++
	slices.SortFunc(n.Members, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(n.Members); i++ {
		if name := n.Members[i].Name; name == n.Members[i-1].Name {
			return fmt.Errorf("key %q is there twice", name)
		}
	}
	return nil
}

// name reads the name of a member. One that the input has needs no memory of its own.
func (r *treeReader) name() (string, error) {
	if end := bytes.IndexByte(r.content[r.at+1:], '"'); end >= 0 {
		if known, ok := regovalue.KnownName(r.content[r.at+1 : r.at+1+end]); ok {
			r.at += end + 2
			return known, nil
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

// plain returns the value in the types of encoding/json, with numbers as they are written.
func (n *Node) plain() any {
	switch n.Kind {
	case String:
		return n.Text
	case Number:
		return json.Number(n.Text)
	case Boolean:
		return n.Text == "true"
	case List:
		list := make([]any, len(n.Members))
		for i := range n.Members {
			list[i] = n.Members[i].plain()
		}
		return list
	case Object:
		object := make(map[string]any, len(n.Members))
		for i := range n.Members {
			object[n.Members[i].Name] = n.Members[i].plain()
		}
		return object
	}
	return nil
}

// At returns the member of an object; nil if n is not an object with that member.
func (n *Node) At(name string) *Node {
	if n.Kind != Object {
		return nil
	}
	i, found := slices.BinarySearchFunc(n.Members, name, func(n Node, name string) int { return strings.Compare(n.Name, name) })
	if !found {
		return nil
	}
	return &n.Members[i]
}

// List returns the items of the list at a path; nil if the list is missing.
func (n *Node) List(path ...string) []Node {
	for _, name := range path {
		if n = n.At(name); n == nil {
			return nil
		}
	}
	if n.Kind != List {
		return nil
	}
	return n.Members
}

// Hide replaces the value at the path, if there is one, by a hidden one.
func (n *Node) Hide(path []string) {
	if len(path) == 0 {
		return
	}
	for _, part := range path {
		if n.Kind == List {
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(n.Members) {
				return
			}
			n = &n.Members[i]
		} else if n = n.At(part); n == nil {
			return
		}
	}
	*n = Node{Name: n.Name, Kind: Hidden}
}

// Term makes the value that rules see.
func (n *Node) Term() *ast.Term {
	switch n.Kind {
	case String:
		return regovalue.Text(n.Text)
	case Number:
		return ast.NumberTerm(json.Number(n.Text))
	case Boolean:
		return ast.InternedTerm(n.Text == "true")
	case List:
		if len(n.Members) == 0 {
			return ast.InternedEmptyArray
		}
		terms := make([]*ast.Term, len(n.Members))
		for i := range n.Members {
			terms[i] = n.Members[i].Term()
		}
		return ast.ArrayTerm(terms...)
	case Object:
		if len(n.Members) == 0 {
			return ast.InternedEmptyObject
		}
		pairs := make([][2]*ast.Term, len(n.Members))
		for i := range n.Members {
			pairs[i] = regovalue.Pair(n.Members[i].Name, n.Members[i].Term())
		}
		return ast.ObjectTerm(pairs...)
	}
	return ast.NullTerm()
}

// TextAt returns the value of a member that is a string, and "" for any other.
func (n *Node) TextAt(name string) string {
	if at := n.At(name); at != nil && at.Kind == String {
		return at.Text
	}
	return ""
}

// ParseValue reads one JSON value as [Parse] does, into the types of encoding/json with
// [json.Number].
func ParseValue(content []byte) (any, error) {
	root, err := Parse(content)
	return root.plain(), err
}

// KindOf returns the name in errors of the kind of a value that [ParseValue] read.
func KindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "an object"
}
