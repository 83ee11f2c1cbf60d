package hookproto

import (
	"encoding/xml"
	"errors"
	"strings"
)

// plainTokens returns the same tokens as encoding/xml, for XML in the form in which libvirt writes
// a status file, in less than half of the time. Every decision parses one such file, and a rule
// that counts domains parses one for each running domain. For any other XML, right or wrong, Token
// returns an error, and the caller uses encoding/xml.
type plainTokens struct {
	text string
	pos  int
	open []string
	self bool // the last element is an empty-element tag
}

var errNotPlain = errors.New("it is not plain")

// InputOffset returns the offset of the next token.
func (p *plainTokens) InputOffset() int64 { return int64(p.pos) }

// Token returns the next token.
func (p *plainTokens) Token() (xml.Token, error) {
	if p.self {
		p.self = false
		return p.end(p.open[len(p.open)-1])
	}
	rest := p.text[p.pos:]
	switch {
	case strings.HasPrefix(rest, "<!--"):
		comment, _, closed := strings.Cut(rest[len("<!--"):], "-->")
		if !closed || strings.Contains(comment+"-", "--") || plainRun(comment, '<') < len(comment) {
			return nil, errNotPlain
		}
		p.pos += len("<!--") + len(comment) + len("-->")
		return xml.Comment(comment), nil
	case strings.HasPrefix(rest, "</"):
		name := rest[2 : 2+nameSize(rest[2:])]
		if !strings.HasPrefix(rest[2+len(name):], ">") {
			return nil, errNotPlain
		}
		p.pos += len("</") + len(name) + len(">")
		return p.end(name)
	case strings.HasPrefix(rest, "<"):
		return p.start(rest)
	}
	size := plainRun(rest, '<')
	if size == len(rest) || rest[size] != '<' || strings.Contains(rest[:size], "]") {
		return nil, errNotPlain
	}
	p.pos += size
	return xml.CharData(rest[:size]), nil
}

func (p *plainTokens) end(name string) (xml.Token, error) {
	last := len(p.open) - 1
	if last < 0 || p.open[last] != name {
		return nil, errNotPlain
	}
	p.open = p.open[:last]
	return xml.EndElement{Name: xml.Name{Local: name}}, nil
}

func (p *plainTokens) start(tag string) (xml.Token, error) {
	at := 1 + nameSize(tag[1:])
	e := xml.StartElement{Name: xml.Name{Local: tag[1:at]}}
	if at == 1 {
		return nil, errNotPlain
	}
	for {
		rest := strings.TrimLeft(tag[at:], " \n")
		blank := len(tag) - len(rest) - at
		at += blank
		switch {
		case strings.HasPrefix(rest, ">"), strings.HasPrefix(rest, "/>"):
			if p.self = rest[0] == '/'; p.self {
				at++
			}
			p.pos += at + 1
			p.open = append(p.open, e.Name.Local)
			return e, nil
		case blank == 0:
			return nil, errNotPlain
		}
		a, size := plainAttribute(rest)
		if size == 0 {
			return nil, errNotPlain
		}
		e.Attr = append(e.Attr, a)
		at += size
	}
}

// plainAttribute parses an attribute. The size is 0 if it is not plain. Namespace prefixes may only
// be declared, not used.
func plainAttribute(s string) (a xml.Attr, size int) {
	if prefix, ok := strings.CutPrefix(s, "xmlns:"); ok {
		a.Name.Space, size = "xmlns", len(s)-len(prefix)
	}
	n := nameSize(s[size:])
	a.Name.Local = s[size : size+n]
	size += n
	if n == 0 || a.Name.Local == "xmlns" || len(s) < size+2 || s[size] != '=' || s[size+1] != '\'' && s[size+1] != '"' {
		return a, 0
	}
	value := s[size+2:]
	n = plainRun(value, s[size+1])
	if n == len(value) || value[n] != s[size+1] {
		return a, 0
	}
	a.Value = value[:n]
	return a, size + len("=''") + n
}

// nameSize returns the length of the name at the beginning of s, without a prefix and in ASCII; 0
// if there is none.
func nameSize(s string) int {
	n := 0
	for n < len(s) && (isLetter(s[n]) || n > 0 && ('0' <= s[n] && s[n] <= '9' || s[n] == '-' || s[n] == '.')) {
		n++
	}
	if n < len(s) && (s[n] == ':' || s[n] >= 0x80) {
		return 0
	}
	return n
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

// plainRun returns the length of the text at the beginning of s: printable ASCII and line ends,
// without ends or a reference.
func plainRun(s string, ends byte) int {
	for i := range len(s) {
		if c := s[i]; c == ends || c == '&' || c == '<' || c < ' ' && c != '\n' || c > '~' {
			return i
		}
	}
	return len(s)
}
