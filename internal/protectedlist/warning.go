package protectedlist

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/lazyregexp"
	"github.com/stopguard/stopguard/internal/uuid"
)

// A Domain is a domain that exists, running or not.
type Domain struct{ Name, UUID string }

// A Warning is about an entry that can be read but may not protect the intended domain.
type Warning struct {
	Line  int // counted from 1; 0 if the entry does not come from a file
	Entry string
	What  string // follows the entry, such as "ends with a comma, which is part of the name"
	Cure  string // in the imperative

	// Unmatched is set if the warning only means that the entry does not match any domain. The
	// domain may be on another host, or defined later.
	Unmatched bool
}

// String returns the warning in one line.
func (w Warning) String() string {
	text := fmt.Sprintf("%.100q %s; %s", w.Entry, w.What, w.Cure)
	if w.Line > 0 {
		text = fmt.Sprintf("line %d: %s", w.Line, text)
	}
	return text
}

// maxCompared bounds the entries without a match for which the nearest domain is searched.
const maxCompared = 200

// Warnings returns the warnings about the entries, in the order of the file. The domains are those
// that exist. If they are nil, they are unknown, and entries are not compared with them.
func (l *List) Warnings(domains []Domain) []Warning {
	var warnings []Warning
	known := newDomainIndex(domains)
	number, compared := 0, 0
	for line := range strings.Lines(l.text) {
		number++
		whole, before := readings(strings.TrimSuffix(line, "\n"))
		if whole == "" || known.matches(whole) && !isDressed(whole) || before != "" && known.matches(before) {
			continue
		}
		entry := whole
		if before != "" { // more often a comment than a part of the name
			entry = before
		}
		against := known
		if compared++; compared > maxCompared {
			against = against.withoutNearest()
		}
		if w, ok := against.examine(entry); ok {
			w.Line = number
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// isDressed reports whether an entry names a UUID in another form than libvirt's.
func isDressed(entry string) bool {
	_, isBare := uuid.Parse(entry)
	return !isBare && len(uuidsIn(entry)) > 0
}

// A domainIndex finds domains by entries. Its zero value is for unknown domains.
type domainIndex struct {
	domains   []Domain // nil if not known
	names     map[string]bool
	uuids     map[uuid.UUID]bool
	noNearest bool
}

func newDomainIndex(domains []Domain) domainIndex {
	k := domainIndex{domains: domains, names: map[string]bool{}, uuids: map[uuid.UUID]bool{}}
	for _, d := range domains {
		k.names[glob.Trim(d.Name)] = true
		if u, ok := uuid.Parse(d.UUID); ok {
			k.uuids[u] = true
		}
	}
	return k
}

func (k domainIndex) withoutNearest() domainIndex {
	k.noNearest = true
	return k
}

// isNamed reports whether an entry is the name of a domain.
func (k domainIndex) isNamed(entry string) bool { return k.names[entry] }

// matches reports whether an entry protects a domain of the index.
func (k domainIndex) matches(entry string) bool {
	if k.isNamed(entry) {
		return true
	}
	for _, u := range uuidsIn(entry) {
		if k.uuids[u] {
			return true
		}
	}
	if !glob.IsPattern(entry) {
		return false
	}
	return slices.ContainsFunc(k.domains, func(d Domain) bool { return glob.Match(entry, d.Name) })
}

// examine returns the warning about an entry that does not match a domain, or has a UUID in an
// unusual form. It reports false if a warning is not needed.
func (k domainIndex) examine(entry string) (Warning, bool) {
	w := Warning{Entry: entry}
	if k.isNamed(entry) {
		return w, false
	}
	w.What, w.Cure = slipIn(entry)
	if k.domains == nil || k.matches(entry) {
		return w, w.What != ""
	}
	if w.What != "" {
		w.What += "; no domain matches it"
	} else {
		w.What, w.Cure, w.Unmatched = "matches no domain", "correct or remove it", true
	}
	if d, ok := k.nearest(entry); ok {
		w.Unmatched = false
		w.What += fmt.Sprintf(", the nearest is %s", quoteBeside(d.Name, entry))
		w.Cure = "write " + asEntry(d.Name)
		if isNearUUID(entry) {
			w.Cure = "write " + strings.ToLower(d.UUID)
		}
	} else if name, ok := k.nameWithin(entry); ok {
		w.Unmatched = false
		w.What += fmt.Sprintf(", but it holds the name %.100q", name)
		w.Cure = oneAre
	} else if w.Unmatched && strings.Contains(entry, ".*") {
		w.Cure = "write * alone for any text, or remove it"
	}
	return w, true
}

// nameWithin returns the name of a domain that is one of several words of an entry.
func (k domainIndex) nameWithin(entry string) (string, bool) {
	for word := range strings.FieldsFuncSeq(entry, func(r rune) bool { return !isNameRune(r) }) {
		if k.isNamed(word) {
			return word, true
		}
	}
	return "", false
}

// quoteBeside quotes a name. If name or entry is not ASCII, it escapes both, so that a reader sees
// the difference.
func quoteBeside(name, entry string) string {
	isASCII := func(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) }
	if isASCII(name) && isASCII(entry) {
		return fmt.Sprintf("%.100q", name)
	}
	return fmt.Sprintf("%+.100q (this is %+.100q)", name, entry)
}

// asEntry returns an entry for a name. It replaces each # by ?, because a # would begin a comment.
func asEntry(name string) string { return strings.ReplaceAll(name, "#", "?") }

const (
	quotes = "\"'`´“”„‟‘’‚‛‹›«»＂＇"
	oneAre = "write one bare name, glob or UUID a line"
)

var (
	// grouped matches five groups of letters and digits with about the lengths of a UUID's groups,
	// as with an O in place of a 0.
	grouped = lazyregexp.New(`^[0-9A-Za-z]{7,9}(-[0-9A-Za-z]{3,5}){3}-[0-9A-Za-z]{11,13}$`)
	hexes   = lazyregexp.New(`^[0-9A-Fa-f-]+$`)

	braces     = lazyregexp.New(`\{[^{}]*(,|\.\.)[^{}]*\}`)
	expression = lazyregexp.New(`\.\+|^\^|\$$|\([^()]*\|[^()]*\)|\\[dsw][*+]`)
	separated  = lazyregexp.New(`^[^,;|]+([,;|][^,;|]+)+$`)
)

// slipIn returns the probable mistake in an entry, and its cure; "" if the entry looks correct.
func slipIn(entry string) (mistake, cure string) {
	if isDressed(entry) {
		uuids := uuidsIn(entry)
		if len(uuids) > 1 {
			return fmt.Sprintf("is read as %d UUIDs", len(uuids)), "write one UUID a line"
		}
		return "is read as the UUID " + uuids[0].String(), "write the UUID alone"
	}
	if isBareUUID(entry) {
		return "", ""
	}
	if r, ok := firstInvisible(entry); ok {
		return fmt.Sprintf("holds %U, which cannot be seen and is part of the name", r), "retype it"
	}
	if mistake := almostUUID(entry); mistake != "" {
		return mistake, "copy the UUID from virsh domuuid"
	}
	last := entry[len(entry)-1]
	switch {
	case strings.Trim(entry, quotes) != entry:
		return "is quoted, and the quotes are part of the name", "write it without quotes"
	case strings.HasPrefix(entry, "!"):
		return "leaves nothing out: the mark is part of the name", "write what is protected, not what is not"
	case strings.HasPrefix(entry, "- "), strings.HasPrefix(entry, "* "), strings.HasPrefix(entry, "+ "):
		return "begins with a mark, which is part of the name", oneAre
	case last == ',' || last == ';':
		return "ends with a mark, which is part of the name", oneAre
	case last == '\\':
		return "ends with a backslash, which is part of the name", oneAre
	case braces().MatchString(entry):
		return "has braces, which are part of the name", "write one name a line, or a glob such as web-0[12]"
	case expression().MatchString(entry):
		return "looks like a regular expression and is read as a name or a glob", "write * for any text and ? for any character"
	case separated().MatchString(entry) && !strings.Contains(entry, "["):
		return "looks like several entries and is one", oneAre
	}
	return "", ""
}

func firstInvisible(entry string) (rune, bool) {
	for _, r := range entry {
		if isInvisible(r) {
			return r, true
		}
	}
	return 0, false
}

// almostUUID returns the difference between an entry and a UUID; "" if the entry does not resemble
// one.
func almostUUID(entry string) string {
	bare := bareUUID(entry)
	digits := len(bare) - strings.Count(bare, "-")
	switch {
	case hexes().MatchString(bare) && 28 <= digits && digits <= 36 && digits != 32:
		return fmt.Sprintf("is almost a UUID, with %d digits in place of 32", digits)
	case grouped().MatchString(bare) && countHex(bare) > 24:
		return "is almost a UUID"
	}
	return ""
}

func isNearUUID(entry string) bool { return almostUUID(entry) != "" }

// bareUUID returns an entry without the characters and prefixes that people write around a UUID.
func bareUUID(entry string) string {
	entry = strings.TrimFunc(plainDashes(entry), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	lower := strings.ToLower(entry)
	for _, prefix := range []string{"urn:uuid:", "uuid:", "uuid="} {
		if rest, ok := strings.CutPrefix(lower, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
	return entry
}
