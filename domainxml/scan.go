package domainxml

import "strings"

// span is a range of bytes of the document.
type span struct{ start, end int }

// part is a child of the root element that the owner may write: its whole extent, and the range
// between its tags.
type part struct {
	name         string
	whole, inner span
	unreadable   bool
}

// layout is the result of a scan: the end of the XML declaration, the root's start tag, and the
// owner's parts.
type layout struct {
	body    int
	rootTag span
	parts   []part
}

// scanner finds the extent of the owner's parts without parsing their content. libxml2 wrote the
// document, and accepts more than encoding/xml does, such as the names of XML 1.0's fifth edition,
// so that encoding/xml cannot find the end of such a part. All markup is a comment, a CDATA
// section, a processing instruction or a tag, and ends with the first of its own terminators. That
// holds for every document that libxml2 accepts. scanner refuses all others.
type scanner struct {
	doc   string
	pos   int
	depth int
	open  [maxDepth]span // the names of the open elements
	owner bool           // inside one of the owner's parts
	out   layout
}

func scan(doc string) (layout, error) {
	s := &scanner{doc: doc}
	if err := s.declaration(); err != nil {
		return layout{}, err
	}
	s.out.body = s.pos
	rooted := false
	for s.pos < len(doc) {
		if doc[s.pos] != '<' {
			if err := s.text(); err != nil {
				return layout{}, err
			}
			continue
		}
		rest := doc[s.pos:]
		var err error
		switch {
		case strings.HasPrefix(rest, "<!--"):
			err = s.skip(4, "-->", "a comment")
		case strings.HasPrefix(rest, "<![CDATA["):
			if s.depth == 0 {
				return layout{}, s.fault(s.pos, "a CDATA section outside of the root element")
			}
			err = s.skip(9, "]]>", "a CDATA section")
		case strings.HasPrefix(rest, "<!"):
			return layout{}, s.fault(s.pos, "a document type or another directive; libvirt writes none, so take it out")
		case strings.HasPrefix(rest, "<?"):
			err = s.skip(2, "?>", "a processing instruction")
		case strings.HasPrefix(rest, "</"):
			err = s.endTag()
		default:
			if s.depth == 0 {
				if rooted {
					return layout{}, s.fault(s.pos, "a second root element; a document holds one <domain>")
				}
				rooted = true
			}
			err = s.startTag()
		}
		if err != nil {
			return layout{}, err
		}
	}
	if s.depth > 0 {
		return layout{}, s.fault(len(doc), "the document ends before </%s>; it may have been cut short", s.name(s.open[min(s.depth, maxDepth)-1]))
	}
	if !rooted {
		return layout{}, s.fault(len(doc), "no root element; expected <domain>")
	}
	return s.out, nil
}

// declaration reads the XML declaration, which may only stand at the start.
func (s *scanner) declaration() error {
	const mark = "<?xml"
	if !strings.HasPrefix(s.doc, mark) || len(s.doc) == len(mark) || !isSpace(s.doc[len(mark)]) {
		return nil
	}
	s.pos = len(mark)
	last := -1
	for {
		spaced := s.space()
		if strings.HasPrefix(s.doc[s.pos:], "?>") {
			s.pos += 2
			break
		}
		at := s.pos
		if !spaced {
			return s.fault(at, "white space is missing in the XML declaration")
		}
		name, value, err := s.attribute()
		if err != nil {
			return err
		}
		v := s.name(value)
		var order int
		var good bool
		switch s.name(name) {
		case "version":
			order, good = 0, v == "1.0"
		case "encoding":
			order, good = 1, strings.EqualFold(v, "UTF-8")
		case "standalone":
			order, good = 2, v == "yes" || v == "no"
		default:
			return s.fault(at, "%.60q in the XML declaration; it may hold version, encoding and standalone", s.name(name))
		}
		if order <= last || last < 0 && order != 0 {
			return s.fault(at, "%s is misplaced in the XML declaration; the order is version, encoding, standalone", s.name(name))
		}
		if !good {
			return s.fault(at, "%s %.60q in the XML declaration; a domain is XML 1.0 in UTF-8", s.name(name), v)
		}
		last = order
	}
	if last < 0 {
		return s.fault(0, "no version in the XML declaration; a domain is XML 1.0 in UTF-8")
	}
	return nil
}

func (s *scanner) text() error {
	n := strings.IndexByte(s.doc[s.pos:], '<')
	if n < 0 {
		n = len(s.doc) - s.pos
	}
	if s.depth == 0 {
		for i := range n {
			if !isSpace(s.doc[s.pos+i]) {
				return s.fault(s.pos+i, "text outside of the root element; a document holds one <domain> and nothing else")
			}
		}
	}
	s.pos += n
	return nil
}

// skip skips markup that opens with n bytes and ends with the first terminator after them.
func (s *scanner) skip(n int, terminator, what string) error {
	i := strings.Index(s.doc[s.pos+n:], terminator)
	if i < 0 {
		return s.fault(s.pos, "%s that is never closed with %s", what, terminator)
	}
	s.pos += n + i + len(terminator)
	return nil
}

func (s *scanner) startTag() error {
	start := s.pos
	s.pos++
	name := s.word()
	if name.start == name.end {
		return s.fault(start, "a < that begins no element; write &lt; in text")
	}
	if s.depth >= maxDepth && !s.owner {
		return s.fault(start, "elements nested deeper than %d", maxDepth)
	}
	begins := false
	if s.depth == 1 {
		switch s.name(name) {
		case "metadata", "title", "description":
			begins, s.owner = true, true
		}
	}
	empty := false
	for {
		spaced := s.space()
		if s.pos == len(s.doc) {
			return s.fault(start, "the tag of <%s> is never closed with >", s.name(name))
		}
		if b := s.doc[s.pos]; b == '>' {
			s.pos++
			break
		} else if b == '/' {
			if !strings.HasPrefix(s.doc[s.pos:], "/>") {
				return s.fault(s.pos, "a / without > in the tag of <%s>", s.name(name))
			}
			s.pos += 2
			empty = true
			break
		}
		// encoding/xml accepts a="1"b="2". The owner's parts may have it: a tag ends where it did.
		if !spaced && !s.owner {
			return s.fault(s.pos, "white space is missing before an attribute of <%s>", s.name(name))
		}
		key, value, err := s.attribute()
		if err != nil {
			return err
		}
		if begins && value.start < value.end && s.name(key) == "xmlns" {
			begins, s.owner = false, false // an element of that name in another namespace
		}
	}
	if s.depth == 0 {
		s.out.rootTag = span{start, s.pos}
	}
	if begins {
		s.out.parts = append(s.out.parts, part{name: s.name(name), whole: span{start, s.pos}, inner: span{s.pos, s.pos}})
	}
	if !empty {
		if s.depth < maxDepth {
			s.open[s.depth] = name
		}
		s.depth++
	} else if begins {
		s.owner = false
	}
	return nil
}

func (s *scanner) endTag() error {
	start := s.pos
	s.pos += 2
	name := s.word()
	s.space()
	if name.start == name.end || s.pos == len(s.doc) || s.doc[s.pos] != '>' {
		return s.fault(start, "an end tag that is not well-formed")
	}
	s.pos++
	if s.depth == 0 {
		return s.fault(start, "</%s> closes nothing", s.name(name))
	}
	// Beyond maxDepth, which only the owner's parts reach, elements are counted but not stored:
	// such a part is unreadable whatever its end tags are.
	if s.depth <= maxDepth {
		if open := s.open[s.depth-1]; s.name(open) != s.name(name) {
			return s.fault(start, "</%s> where </%s> is due", s.name(name), s.name(open))
		}
	}
	s.depth--
	if s.owner && s.depth == 1 {
		p := &s.out.parts[len(s.out.parts)-1]
		p.whole.end, p.inner.end = s.pos, start
		s.owner = false
	}
	return nil
}

// attribute reads name="value" and returns both, the value without its quotes.
func (s *scanner) attribute() (name, value span, err error) {
	start := s.pos
	name = s.word()
	if name.start == name.end {
		return name, value, s.fault(start, "%.60q where an attribute or the end of a tag is due", s.doc[start:min(start+1, len(s.doc))])
	}
	s.space()
	if s.pos == len(s.doc) || s.doc[s.pos] != '=' {
		return name, value, s.fault(start, "attribute %s has no value", s.name(name))
	}
	s.pos++
	s.space()
	if s.pos == len(s.doc) || s.doc[s.pos] != '"' && s.doc[s.pos] != '\'' {
		return name, value, s.fault(start, "the value of attribute %s is not quoted", s.name(name))
	}
	quote := s.doc[s.pos]
	s.pos++
	n := strings.IndexByte(s.doc[s.pos:], quote)
	if n < 0 {
		return name, value, s.fault(start, "the value of attribute %s is never closed with %c", s.name(name), quote)
	}
	value = span{s.pos, s.pos + n}
	if i := strings.IndexByte(s.doc[value.start:value.end], '<'); i >= 0 {
		return name, value, s.fault(start, "a < in the value of attribute %s; write &lt;", s.name(name))
	}
	s.pos = value.end + 1
	return name, value, nil
}

// word skips a name. It accepts every character beyond ASCII: none of them is markup, so that they
// do not change where a tag ends.
func (s *scanner) word() span {
	start := s.pos
	for s.pos < len(s.doc) && wordByte[s.doc[s.pos]] {
		s.pos++
	}
	return span{start, s.pos}
}

var wordByte = func() (t [256]bool) {
	for b := range t {
		t[b] = b >= 0x80 || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.ContainsRune("_:.-", rune(b))
	}
	return t
}()

// space skips white space and reports whether there was any.
func (s *scanner) space() bool {
	start := s.pos
	for s.pos < len(s.doc) && isSpace(s.doc[s.pos]) {
		s.pos++
	}
	return s.pos > start
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

func (s *scanner) name(n span) string { return s.doc[n.start:n.end] }

func (s *scanner) fault(at int, format string, args ...any) error {
	var path strings.Builder
	for _, n := range s.open[:min(s.depth, maxDepth)] {
		path.WriteByte('/')
		path.WriteString(s.name(n))
	}
	return fault(s.doc, at, path.String(), format, args...)
}
