package protectedlist

import (
	"strings"
	"unicode"

	"github.com/stopguard/stopguard/internal/uuid"
)

// uuidsIn returns the UUIDs that an entry names. If the entry is a UUID as libvirt reads it, that
// is the only one. Otherwise each UUID in it that stands apart from letters and digits counts: {U},
// urn:uuid:U, "U", <uuid>U</uuid>, and the first column of "U web-01". The name instance-U does not
// name a UUID.
func uuidsIn(entry string) []uuid.UUID {
	const digits = 32
	if n := countHex(entry); n < digits {
		return nil
	}
	if u, ok := uuid.Parse(entry); ok {
		return []uuid.UUID{u}
	}
	clean := plainDashes(entry)
	if u, ok := onlyUUID(clean); ok {
		return []uuid.UUID{u}
	}
	var found []uuid.UUID
	for word := range strings.FieldsFuncSeq(clean, func(r rune) bool { return !isNameRune(r) }) {
		word = strings.Trim(word, "._")
		if strings.HasPrefix(word, "-") || strings.HasSuffix(word, "-") {
			continue // the rest of a pattern, such as web-*-U
		}
		if u, ok := uuid.Parse(word); ok {
			found = append(found, u)
		}
	}
	return found
}

// isBareUUID reports whether an entry is a UUID as libvirt reads it. Such an entry does not need a
// warning.
func isBareUUID(entry string) bool {
	_, ok := uuid.Parse(entry)
	return ok
}

// onlyUUID returns the UUID of an entry without other letters or digits; any other characters may
// separate its groups. With two brackets an entry is a pattern, such as [0-9a-f][0-9a-f].
func onlyUUID(entry string) (uuid.UUID, bool) {
	if strings.ContainsAny(entry, `*?\`) || strings.Count(entry, "[") > 1 {
		return uuid.UUID{}, false
	}
	return uuid.Parse(strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, entry))
}

func countHex(s string) int {
	n := 0
	for i := range len(s) {
		if c := s[i]; '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' {
			n++
		}
	}
	return n
}

// plainDashes returns text with a hyphen for each of Unicode's dashes, which word processors write,
// and without invisible characters.
func plainDashes(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x80:
			return r
		case unicode.Is(unicode.Pd, r), r == '\u2212':
			return '-'
		case isInvisible(r) && !unicode.IsSpace(r):
			return -1
		}
		return r
	}, text)
}

// isNameRune reports whether a character is part of a word.
func isNameRune(r rune) bool {
	return r == '-' || r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

// isInvisible reports whether a character looks like nothing or like a blank, and yet makes another
// name. [unicode.IsPrint] reports true for some of these (Unicode's property
// Default_Ignorable_Code_Point, and the Braille blank).
func isInvisible(r rune) bool {
	switch {
	case r < 0x80:
		return false
	case unicode.In(r, unicode.Cf, unicode.Zs, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return true
	}
	return r == '\u2800'
}
