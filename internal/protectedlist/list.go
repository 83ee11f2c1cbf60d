// Package protectedlist reads the protected list and finds the entries that protect a domain.
package protectedlist

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/uuid"
)

// A List is the protected list: the file of the libvirt patch with one name a line, and with UUIDs
// and globs, too. The zero List does not protect any domain. A List is immutable and safe for
// concurrent use.
//
// A `#` at the start of a line or after a blank begins a comment. Blanks around an entry are
// ignored, blanks inside belong to it. Inside a word a `#` may be part of the name, or begin a
// comment as in the patch's script. Such a line protects both readings, because the list cannot
// tell which one is meant.
//
// The index is built when a second domain is matched. A hook matches one domain only, and finding
// that one in the text is many times cheaper than an index of all names.
type List struct {
	text  string // checked, without a byte order mark
	uuids []uuidEntry
	globs []string

	first atomic.Pointer[listMatch]
	index listIndex
}

// A listMatch holds the entries that protect the first domain that was matched.
type listMatch struct {
	name, uuid string
	found      []string
}

type uuidEntry struct {
	uuid uuid.UUID
	text string
}

// Parse reads and checks a whole list, so that Match cannot fail. Errors name the file and the
// line.
func Parse(name string, data []byte) (*List, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if err := checkText(name, data); err != nil {
		return nil, err
	}
	l := &List{text: string(data)}
	// Most lists are plain names. One search in the whole text then saves a search in each line.
	hasSpecial := slices.ContainsFunc([]byte("*?[\\\r"), func(c byte) bool { return strings.IndexByte(l.text, c) >= 0 })
	number := 0
	for line := range strings.Lines(l.text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if len(line) < 32 && !(hasSpecial && strings.ContainsAny(line, "*?[\\\r")) { // 32: room for a UUID
			continue
		}
		whole, before := readings(line)
		// Otherwise a file whose lines end with carriage returns alone would be one entry or
		// comment, and would not protect any domain.
		if strings.IndexByte(trim(line), '\r') >= 0 {
			return nil, lineError(name, number, "a carriage return inside a line", "end each line with a line feed")
		}
		if err := glob.Check(whole); err != nil && uuidsIn(whole) == nil {
			return nil, fmt.Errorf("%s line %d: %.100q %w", name, number, whole, err)
		}
		l.add(whole, before)
	}
	return l, nil
}

// checkText returns an error unless the list is UTF-8 text that people can see. Otherwise a name
// could be compared with another one than was meant.
func checkText(name string, data []byte) error {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return lineError(name, 1, "the text is UTF-16", "save the file as UTF-8")
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return lineError(name, lineAt(data, i), "a NUL byte", "save the file as UTF-8 text without NUL bytes")
	}
	for i := bytes.IndexByte(data, '/'); i >= 0; i = indexAfter(data, i, '/') {
		if !inComment(data, i) && !lineOf(data, i).hasUUID {
			return lineError(name, lineAt(data, i), "a slash, which no domain's name has", "correct or remove it")
		}
		if i = indexAfter(data, i, '\n'); i < 0 { // the rest of the line is a comment or beside a UUID
			break
		}
	}
	var line textLine // the last line with an invisible character
	for i := 0; i < len(data); {
		if data[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size <= 1:
			return lineError(name, lineAt(data, i), "invalid UTF-8", "save the file as UTF-8")
		case !unicode.IsPrint(r):
			if i >= line.end {
				line = lineOf(data, i)
			}
			// In a comment only a character that ends the line on a screen is harmful.
			isHarmless := line.hasUUID || i > line.comment && !unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp)
			if !isHarmless {
				return lineError(name, lineAt(data, i), fmt.Sprintf("%U, which nobody can see", r), "retype the line")
			}
		}
		i += size
	}
	return nil
}

// indexAfter returns the index of the next c behind i; -1 if c does not follow.
func indexAfter(data []byte, i int, c byte) int {
	n := bytes.IndexByte(data[i+1:], c)
	if n < 0 {
		return -1
	}
	return i + 1 + n
}

// inComment reports whether a `#` stands before a place in its line.
func inComment(data []byte, i int) bool {
	line := data[bytes.LastIndexByte(data[:i], '\n')+1 : i]
	return bytes.IndexByte(line, '#') >= 0
}

// A textLine has the properties of a line that checkText uses.
type textLine struct {
	end     int  // index of the next line
	comment int  // index of the comment, or of the end of the line
	hasUUID bool // the entry names a UUID, so that its other characters do not matter
}

func lineOf(data []byte, i int) textLine {
	start := bytes.LastIndexByte(data[:i], '\n') + 1
	text, _, _ := bytes.Cut(data[start:], []byte("\n"))
	whole, _ := readings(string(text))
	return textLine{
		end:     start + len(text) + 1,
		comment: start + len(withoutComment(string(text))),
		hasUUID: uuidsIn(whole) != nil,
	}
}

func lineAt(data []byte, i int) int { return bytes.Count(data[:i], []byte("\n")) + 1 }

func lineError(name string, line int, defect, cure string) error {
	return fmt.Errorf("%s line %d: %s; %s", name, line, defect, cure)
}

// add adds the UUIDs and globs of a line's readings. Plain names are found in the text instead.
func (l *List) add(whole, before string) {
	inBefore := uuidsIn(before)
	for _, u := range uuidsIn(whole) {
		if !slices.Contains(inBefore, u) {
			l.uuids = append(l.uuids, uuidEntry{u, whole})
		}
	}
	for _, u := range inBefore {
		l.uuids = append(l.uuids, uuidEntry{u, before})
	}
	for _, entry := range []string{whole, before} {
		_, isUUID := onlyUUID(entry) // [U] is not a character class
		// The text before a `#` may be an invalid pattern, as in [a#]b. It still protects its name.
		if glob.IsPattern(entry) && !isUUID && glob.Check(entry) == nil {
			l.globs = append(l.globs, entry)
		}
	}
}

// Match returns the entries that protect a domain: first its name, then UUIDs, then globs, each
// once. UUIDs and globs are in the order of the file. The slice is never nil and must not be
// changed. Blanks around the domain's name are ignored.
func (l *List) Match(domainName, domainUUID string) []string {
	first := l.first.Load()
	if first == nil {
		// Otherwise the List would keep the whole document alive that the texts are parts of.
		first = &listMatch{name: strings.Clone(domainName), uuid: strings.Clone(domainUUID)}
		first.found = l.matchText(first.name, first.uuid)
		if l.first.CompareAndSwap(nil, first) {
			return first.found
		}
	}
	if first.name == domainName && first.uuid == domainUUID {
		return first.found
	}
	return l.matchIndexed(domainName, domainUUID)
}

// matchText does the work of Match with one pass over the text.
func (l *List) matchText(domainName, domainUUID string) []string {
	found := []string{}
	name := trim(domainName)
	if l.holds(name) {
		found = append(found, name)
	}
	if u, ok := uuid.Parse(domainUUID); ok {
		for _, e := range l.uuids {
			if e.uuid == u && !slices.Contains(found, e.text) {
				found = append(found, e.text)
			}
		}
	}
	return l.addGlobs(found, domainName)
}

// addGlobs adds the globs that match.
func (l *List) addGlobs(found []string, domainName string) []string {
	for _, g := range l.globs {
		if glob.Match(g, domainName) && !slices.Contains(found, g) {
			found = append(found, g)
		}
	}
	return found
}

// holds reports whether an entry spells the name. An entry begins its line, so only the first hit
// in a line counts. It is one pass over the text, mostly in strings.Index.
func (l *List) holds(name string) bool {
	if name == "" {
		return false
	}
	for rest := l.text; ; {
		i := strings.Index(rest, name)
		if i < 0 {
			return false
		}
		start := strings.LastIndexByte(rest[:i], '\n') + 1
		line, next, _ := strings.Cut(rest[i:], "\n")
		if trim(rest[start:i]) == "" && endsAt(line, len(name)) {
			if whole, before := readings(line); whole == name || before == name {
				return true
			}
		}
		rest = next
	}
}

// endsAt reports whether an entry may end at i. It is a cheap check that rules most lines out.
func endsAt(line string, i int) bool {
	return i >= len(line) || line[i] == '#' || isBlank(line[i])
}

// readings returns the entry of a line, and the text before the first `#` inside the entry. Either
// is "" if the line does not have it.
func readings(line string) (whole, before string) {
	line = withoutComment(line)
	if i := strings.IndexByte(line, '#'); i >= 0 {
		before = trim(line[:i])
	}
	return trim(line), before
}

// withoutComment returns a line up to its comment.
func withoutComment(line string) string {
	for i := 0; i < len(line); i++ {
		if line[i] == '#' && (i == 0 || isBlank(line[i-1])) {
			return line[:i]
		}
	}
	return line
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' && c != '\n' }

func trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// Entries returns the entries in the order of the file, without comments.
func (l *List) Entries() []string {
	var entries []string
	for line := range strings.Lines(l.text) {
		if entry := trim(withoutComment(strings.TrimSuffix(line, "\n"))); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}
