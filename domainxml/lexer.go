package domainxml

import (
	"encoding/xml"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plain reads the next token if it is written as libvirt writes: tags in ASCII with attributes
// after a blank, text without carriage returns, the five entities, and character references. For
// any other input, valid or not, it reports false and consumes nothing, and encoding/xml reads the
// rest. plain therefore need not know every rule of XML: a token that it accepts is the token that
// encoding/xml returns, which FuzzLexer checks.
//
// It is several times as fast as encoding/xml, because its tokens are substrings of the document.
func (r *reader) plain() (k kind, ok bool) {
	if r.closing {
		r.closing = false
		r.tag.Name = r.open[len(r.open)-1].raw
		return endElement, true
	}
	if !r.src.more() {
		return nothing, false
	}
	rest := r.src.cur.data[r.src.pos:]
	n := 0
	switch {
	case rest[0] != '<':
		r.text, n, ok = plainText(rest, 0)
		// Text may end with its chunk only if the next chunk begins with markup or there is none.
		if n == len(rest) && !r.src.endsText() {
			ok = false
		}
		k = charData
	case len(rest) > 1 && rest[1] == '/':
		k = endElement
		r.tag.Name, n = plainName(rest[2:])
		if ok = n > 0 && 2+n < len(rest) && rest[2+n] == '>'; ok {
			n += 3
		}
	default:
		k = startElement
		n, ok = r.plainTag(rest)
	}
	if ok {
		r.src.pos += n
	}
	return k, ok
}

// plainTag reads a start tag.
func (r *reader) plainTag(s string) (n int, ok bool) {
	name, size := plainName(s[1:])
	if size == 0 {
		return 0, false
	}
	r.tag.Name, r.tag.Attr = name, r.attrs[:0]
	for n = 1 + size; ; {
		blank := n
		for n < len(s) && isSpace(s[n]) && s[n] != '\r' {
			n++
		}
		switch rest := s[n:]; {
		case rest == "":
			return 0, false
		case rest[0] == '>':
			r.attrs = r.tag.Attr
			return n + 1, true
		case strings.HasPrefix(rest, "/>"):
			r.attrs = r.tag.Attr
			r.closing = true
			return n + 2, true
		case blank == n:
			return 0, false
		}
		key, size := plainName(s[n:])
		n += size
		if size == 0 || len(s) < n+2 || s[n] != '=' || s[n+1] != '\'' && s[n+1] != '"' {
			return 0, false
		}
		value, size, ok := plainText(s[n+2:], s[n+1])
		n += 2 + size
		if !ok || n == len(s) {
			return 0, false
		}
		n++ // the quote
		r.tag.Attr = append(r.tag.Attr, xml.Attr{Name: key, Value: value})
	}
}

// plainName reads a name with at most one colon, between two names. The size is 0 if the name is
// missing.
func plainName(s string) (name xml.Name, size int) {
	colon := 0
	for size < len(s) && nameByte[s[size]] != 0 {
		begins := size == 0 || s[size-1] == ':'
		switch {
		case begins && nameByte[s[size]] != nameBegins:
			return name, 0
		case s[size] == ':':
			if colon > 0 {
				return name, 0
			}
			colon = size
		}
		size++
	}
	switch {
	case size == 0 || s[size-1] == ':' || size < len(s) && s[size] >= utf8.RuneSelf:
		return name, 0
	case colon > 0:
		return xml.Name{Space: s[:colon], Local: s[colon+1 : size]}, size
	}
	return xml.Name{Local: s[:size]}, size
}

// plainText reads up to the quote, up to a tag if quote is 0, or to the end. The size is that of
// the input.
func plainText(s string, quote byte) (text string, size int, ok bool) {
	escaped, wide := false, false
	for ; size < len(s); size++ {
		switch textByte[s[size]] {
		case ordinary:
			continue
		case markup:
			switch b := s[size]; {
			case b == '<' && quote != 0:
				return "", 0, false
			case b == '<' || b == quote:
				return decoded(s[:size], size, escaped, wide)
			case b == '&':
				escaped = true
			case b == '>' && quote == 0 && size > 1 && s[size-1] == ']' && s[size-2] == ']':
				return "", 0, false
			}
		case beyondASCII:
			wide = true
		default:
			return "", 0, false
		}
	}
	return decoded(s, size, escaped, wide)
}

func decoded(s string, size int, escaped, wide bool) (string, int, bool) {
	if wide && (!utf8.ValidString(s) || strings.ContainsRune(s, '\uFFFE') || strings.ContainsRune(s, '\uFFFF')) {
		return "", 0, false
	}
	if !escaped {
		return s, size, true
	}
	var text strings.Builder
	text.Grow(len(s))
	for {
		before, after, found := strings.Cut(s, "&")
		text.WriteString(before)
		if !found {
			return text.String(), size, true
		}
		name, rest, ended := strings.Cut(after, ";")
		c, ok := entities[name]
		if !ok {
			c, ok = reference(name)
		}
		if !ended || !ok {
			return "", 0, false
		}
		text.WriteRune(c)
		s = rest
	}
}

var entities = map[string]rune{"lt": '<', "gt": '>', "amp": '&', "apos": '\'', "quot": '"'}

// reference parses the text between & and ; of a character reference.
func reference(name string) (rune, bool) {
	digits, ok := strings.CutPrefix(name, "#")
	base := 10
	if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
		digits, base = hex, 16
	}
	c, err := strconv.ParseUint(digits, base, 21)
	if !ok || err != nil {
		return 0, false
	}
	char := c == '\t' || c == '\n' || c == '\r' || ' ' <= c && c < 0xD800 || 0xE000 <= c && c < 0xFFFE || 0x10000 <= c && c <= utf8.MaxRune
	return rune(c), char
}

const (
	ordinary    = iota + 1 // of textByte
	markup                 // may be syntax
	beyondASCII            // must be checked
)

const nameBegins = 1 // of nameByte: may begin a name; 2: may be inside one

var textByte, nameByte = func() (text, name [256]byte) {
	for b := range 256 {
		c := byte(b)
		switch {
		case strings.IndexByte("<>&'\"", c) >= 0:
			text[b] = markup
		case ' ' <= c && c < utf8.RuneSelf || c == '\t' || c == '\n':
			text[b] = ordinary
		case c >= utf8.RuneSelf:
			text[b] = beyondASCII
		}
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_':
			name[b] = nameBegins
		case '0' <= c && c <= '9' || strings.IndexByte(":.-", c) >= 0:
			name[b] = 2
		}
	}
	return text, name
}()
