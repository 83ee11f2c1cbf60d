package policy

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/valyala/fastjson"
)

// A node is a value of JSON. An agent reads thousands a second, and maps of interfaces took a third of such a decision.
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

var parsers fastjson.ParserPool

// maxPooled is the length of a document above which what it was read with is not kept for the next.
const maxPooled = 1 << 20

// parseTree is parseJSON, a few times as fast where nothing is wrong. encoding/json says what is JSON, and fastjson, which
// checks less but makes no maps, reads it. What the two might read differently, a key that is there twice, and
// a number that may be beyond counting are left to parseJSON.
func parseTree(content []byte) (node, error) {
	form, err := inputForm()
	if err != nil {
		return node{}, err
	}
	if json.Valid(content) && isPlain(content) {
		p := parsers.Get()
		value, err := p.ParseBytes(content)
		var n node
		ok := err == nil && n.read(value, form.names)
		if len(content) <= maxPooled {
			parsers.Put(p)
		}
		if ok {
			return n, nil
		}
	}
	value, err := parseJSON(content)
	if err != nil {
		return node{}, err
	}
	return treeOf("", value), nil
}

// isPlain reports whether there is neither invalid UTF-8 nor half of a surrogate pair, for each of which encoding/json puts
// U+FFFD.
func isPlain(content []byte) bool {
	return utf8.Valid(content) && !bytes.Contains(content, []byte(`\ud`)) && !bytes.Contains(content, []byte(`\uD`))
}

// maxPlainNumber is the length of the longest whole number that a document may hold. A longer one may be beyond what can be
// counted with, which parseJSON says.
const maxPlainNumber = 20

// read reads a value, whose memory is the parser's; false if a key is there twice, or a number is unusual. Names that are known need no memory of
// their own.
func (n *node) read(value *fastjson.Value, known map[string]string) bool {
	switch value.Type() {
	case fastjson.TypeString:
		n.kind, n.text = stringKind, string(value.GetStringBytes())
	case fastjson.TypeNumber:
		n.kind, n.text = numberKind, string(value.MarshalTo(nil))
		return len(n.text) <= maxPlainNumber && !strings.ContainsAny(n.text, "eE")
	case fastjson.TypeTrue:
		n.kind, n.text = booleanKind, "true"
	case fastjson.TypeFalse:
		n.kind, n.text = booleanKind, "false"
	case fastjson.TypeNull:
		n.kind = nullKind
	case fastjson.TypeArray:
		items := value.GetArray()
		n.kind, n.below = listKind, make([]node, len(items))
		for i, item := range items {
			if !n.below[i].read(item, known) {
				return false
			}
		}
	case fastjson.TypeObject:
		object := value.GetObject()
		n.kind, n.below = objectKind, make([]node, 0, object.Len())
		ok := true
		object.Visit(func(key []byte, value *fastjson.Value) {
			name, isKnown := known[string(key)]
			if !isKnown {
				name = string(key)
			}
			n.below = append(n.below, node{name: name})
			ok = ok && n.below[len(n.below)-1].read(value, known)
		})
		slices.SortFunc(n.below, byName)
		for i := 1; i < len(n.below); i++ {
			ok = ok && n.below[i-1].name != n.below[i].name
		}
		return ok
	}
	return true
}

func byName(a, b node) int { return strings.Compare(a.name, b.name) }

// treeOf makes a node of what parseJSON gave.
func treeOf(name string, value any) node {
	n := node{name: name, kind: nullKind}
	switch value := value.(type) {
	case string:
		n.kind, n.text = stringKind, value
	case json.Number:
		n.kind, n.text = numberKind, value.String()
	case bool:
		n.kind, n.text = booleanKind, strconv.FormatBool(value)
	case []any:
		n.kind = listKind
		for _, item := range value {
			n.below = append(n.below, treeOf("", item))
		}
	case map[string]any:
		n.kind = objectKind
		for _, key := range slices.Sorted(maps.Keys(value)) {
			n.below = append(n.below, treeOf(key, value[key]))
		}
	}
	return n
}

// at gives the member of an object; nil if there is none.
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

// list gives the items of the list at a path; none if there is no list.
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
