package domainxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth is the maximum depth of elements, with the root: the limit of libvirt's parser, libxml2.
const maxDepth = 256

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// chunk is a range of bytes that begins at offset at of the document.
type chunk struct {
	at   int
	data string
}

// chunks reads a list of chunks as one document.
type chunks struct {
	rest []chunk
	cur  chunk
	pos  int // in cur
	read int64
}

// more moves to the next chunk at the end of one, and reports whether there are bytes left.
func (c *chunks) more() bool {
	for c.pos == len(c.cur.data) {
		if len(c.rest) == 0 {
			return false
		}
		c.cur, c.rest, c.pos = c.rest[0], c.rest[1:], 0
	}
	return true
}

// endsText reports whether text that reaches the end of this chunk ends there.
func (c *chunks) endsText() bool {
	return len(c.rest) == 0 || strings.HasPrefix(c.rest[0].data, "<")
}

func (c *chunks) ReadByte() (byte, error) {
	if !c.more() {
		return 0, io.EOF
	}
	b := c.cur.data[c.pos]
	c.pos++
	c.read++
	return b, nil
}

// Read implements io.Reader for xml.NewDecoder, which only calls ReadByte.
func (c *chunks) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := c.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

type kind int

const (
	startElement kind = iota
	endElement
	charData
	nothing // a comment or a processing instruction
)

// reader returns the tokens of encoding/xml, and refuses what encoding/xml accepts: duplicate
// attributes, prefixes that are undeclared or declared as "", directives, a misplaced XML
// declaration, and too deep a nesting.
type reader struct {
	doc string // the whole document, for positions in errors
	src chunks
	dec *xml.Decoder // nil while every token was plain

	isPlainOnly bool // a token that is not plain is an error: encoding/xml takes a second for 24 MiB

	tag     xml.StartElement // the last plain tag
	attrs   []xml.Attr       // the buffer of its attributes
	closing bool             // the last plain tag was <a/>

	at   int        // the offset of the token
	name xml.Name   // of a start or end element, its namespace resolved
	attr []xml.Attr // of a start element, resolved, without namespace declarations, until the next token
	text string     // of character data

	open []element
	ns   map[string]string // prefix to namespace, "" for the default one; nil until one is declared
	undo []binding
}

type element struct {
	raw, name xml.Name
	undo      int // the number of bindings before it
}

type binding struct {
	prefix, uri string
	bound       bool
}

func newReader(doc string, parts ...chunk) *reader {
	return &reader{doc: doc, src: chunks{rest: parts}, open: make([]element, 0, 16)}
}

// next reads a token. The error is io.EOF at the end.
func (r *reader) next() (kind, error) {
	r.at = r.offset()
	if r.dec == nil {
		switch k, ok := r.plain(); {
		case !ok && !r.src.more():
			return nothing, r.ended()
		case !ok && r.isPlainOnly:
			return 0, r.fault(r.at, "a text of more than %d bytes with a carriage return, or with a character that XML does not allow", maxMetadata)
		case !ok:
			// encoding/xml's raw tokens do not depend on earlier ones, so that it can begin here.
			r.dec, r.src.read = xml.NewDecoder(&r.src), 0
		case k == startElement:
			return k, r.start(r.tag)
		case k == endElement:
			return k, r.end(xml.EndElement{Name: r.tag.Name})
		default:
			return k, nil
		}
	}
	t, err := r.dec.RawToken()
	if err == io.EOF {
		return nothing, r.ended()
	}
	if err != nil {
		msg := strings.TrimPrefix(err.Error(), "xml: ")
		if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
			msg = syntax.Msg // without its line, which is not that of the document
		}
		return 0, r.fault(r.offset(), "%s", msg)
	}
	switch t := t.(type) {
	case xml.StartElement:
		return startElement, r.start(t)
	case xml.EndElement:
		return endElement, r.end(t)
	case xml.CharData:
		r.text = string(t)
		return charData, nil
	case xml.Comment:
		return nothing, r.characters(t)
	case xml.ProcInst:
		if strings.EqualFold(t.Target, "xml") {
			return nothing, r.fault(r.at, "an XML declaration that is not at the start of the document")
		}
		return nothing, r.characters(t.Inst)
	default:
		return nothing, r.fault(r.at, "a document type or another directive; libvirt writes none, so take it out")
	}
}

// ended returns io.EOF, or an error if an element is still open.
func (r *reader) ended() error {
	if len(r.open) > 0 {
		return r.fault(r.at, "the document ends early")
	}
	return io.EOF
}

func (r *reader) depth() int { return len(r.open) }

func (r *reader) start(t xml.StartElement) error {
	if len(r.open) == maxDepth {
		return r.fault(r.at, "elements nested deeper than %d", maxDepth)
	}
	e := element{raw: t.Name, undo: len(r.undo)}
	attr, err := r.declare(t.Attr)
	if err != nil {
		return err
	}
	if e.name, err = r.resolve(t.Name, true); err != nil {
		return err
	}
	for i := range attr {
		if attr[i].Name, err = r.resolve(attr[i].Name, false); err != nil {
			return err
		}
	}
	if twice, ok := duplicate(attr); ok {
		return r.fault(r.at, "<%s> has a second attribute %s", e.name.Local, twice.Local)
	}
	r.open = append(r.open, e)
	r.name, r.attr = e.name, attr
	return nil
}

func (r *reader) end(t xml.EndElement) error {
	if len(r.open) == 0 {
		return r.fault(r.at, "</%s> closes nothing", t.Name.Local)
	}
	e := r.open[len(r.open)-1]
	if e.raw != t.Name {
		return r.fault(r.at, "</%s> where </%s> is due", t.Name.Local, e.raw.Local)
	}
	r.open = r.open[:len(r.open)-1]
	for len(r.undo) > e.undo {
		b := r.undo[len(r.undo)-1]
		r.undo = r.undo[:len(r.undo)-1]
		if b.bound {
			r.ns[b.prefix] = b.uri
		} else {
			delete(r.ns, b.prefix)
		}
	}
	r.name = e.name
	return nil
}

// declare binds the namespaces that a start tag declares, and returns its other attributes.
func (r *reader) declare(attr []xml.Attr) ([]xml.Attr, error) {
	declared := 0
	for _, a := range attr {
		if isDeclaration(a.Name) {
			declared++
		}
	}
	if declared == 0 {
		return attr, nil
	}
	if twice, ok := duplicate(attr); ok {
		return nil, r.fault(r.at, "a second attribute %s", twice.Local)
	}
	if r.ns == nil {
		r.ns = make(map[string]string)
	}
	others := attr[:0]
	for _, a := range attr {
		if !isDeclaration(a.Name) {
			others = append(others, a)
			continue
		}
		prefix := ""
		if a.Name.Space != "" {
			prefix = a.Name.Local
			// Otherwise encoding/xml would take <p:name> for <name>.
			if a.Value == "" {
				return nil, r.fault(r.at, "prefix %s is declared as the empty namespace", prefix)
			}
		}
		if prefix == "xmlns" || a.Value == xmlnsSpace || (prefix == "xml") != (a.Value == xmlSpace) {
			return nil, r.fault(r.at, "prefix %.60q cannot be declared as %.60q", prefix, a.Value)
		}
		old, bound := r.ns[prefix]
		r.undo = append(r.undo, binding{prefix, old, bound})
		r.ns[prefix] = a.Value
	}
	return others, nil
}

func isDeclaration(n xml.Name) bool {
	return n.Space == "xmlns" || n.Space == "" && n.Local == "xmlns"
}

// resolve replaces a prefix by its namespace.
func (r *reader) resolve(n xml.Name, isElement bool) (xml.Name, error) {
	if strings.IndexByte(n.Local, ':') >= 0 {
		return n, r.fault(r.at, "%.60q has a colon that separates no prefix from a name", n.Local)
	}
	switch n.Space {
	case "":
		if isElement {
			n.Space = r.ns[""]
		}
	case "xml":
		n.Space = xmlSpace
	default:
		uri, ok := r.ns[n.Space]
		if !ok {
			return n, r.fault(r.at, "prefix %s of %s is not declared; add xmlns:%s", n.Space, n.Local, n.Space)
		}
		n.Space = uri
	}
	return n, nil
}

// duplicate returns a name that occurs twice.
func duplicate(attr []xml.Attr) (xml.Name, bool) {
	if len(attr) > 16 { // an owner may write tens of thousands; comparing all pairs would take a second
		seen := make(map[xml.Name]bool, len(attr))
		for _, a := range attr {
			if seen[a.Name] {
				return a.Name, true
			}
			seen[a.Name] = true
		}
		return xml.Name{}, false
	}
	for i, a := range attr {
		for _, b := range attr[:i] {
			if a.Name == b.Name {
				return a.Name, true
			}
		}
	}
	return xml.Name{}, false
}

// characters validates the content of comments and processing instructions, which encoding/xml does
// not.
func (r *reader) characters(text []byte) error {
	if !utf8.Valid(text) {
		return r.fault(r.at, "invalid UTF-8")
	}
	if i := bytes.IndexFunc(text, func(c rune) bool {
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == '\uFFFE' || c == '\uFFFF'
	}); i >= 0 {
		return r.fault(r.at, "a character that XML does not allow")
	}
	return nil
}

// offset returns the offset of the next token in the document.
func (r *reader) offset() int {
	ahead := 0 // bytes that the decoder has read and unread
	if r.dec != nil {
		ahead = int(r.src.read - r.dec.InputOffset())
	}
	if ahead == 0 && r.src.pos == len(r.src.cur.data) && len(r.src.rest) > 0 {
		return r.src.rest[0].at
	}
	return r.src.cur.at + r.src.pos - ahead
}

func (r *reader) path() string {
	var path strings.Builder
	for _, e := range r.open {
		path.WriteByte('/')
		path.WriteString(e.name.Local)
	}
	return path.String()
}

func (r *reader) fault(at int, format string, args ...any) error {
	return fault(r.doc, at, r.path(), format, args...)
}

// fault returns an error with its position. Columns count bytes from 1.
func fault(doc string, at int, path, format string, args ...any) error {
	before := doc[:min(at, len(doc))]
	line := 1 + strings.Count(before, "\n")
	column := len(before) - strings.LastIndexByte(before, '\n')
	if path == "" {
		path = "/"
	}
	return fmt.Errorf("domainxml: line %d, column %d: %s: %s", line, column, path, fmt.Sprintf(format, args...))
}
