// Package glob matches domains with the entries that name them, in the protected list and in
// settings alike.
//
// An entry is a name, or a pattern as of [path.Match]: * is any text, ? is any character, [a-z] is
// one of these, [^a-z] is any other character, and \ makes the next character an ordinary one. An
// entry also matches the name that it spells, character for character.
package glob

import (
	"errors"
	"path"
	"strings"
)

// The errors of [Check] have the correct spelling in their text.
var (
	// ErrNegation is returned for a class such as [!a]. Only a shell takes that for any character
	// but a.
	ErrNegation = errors.New(`would match what it seems to leave out; write [^...] for none of these, and \[! for a literal bracket`)
	errPattern  = errors.New(`is not a valid pattern; write \[ for a literal bracket, and \\ for a literal backslash`)
)

// IsPattern reports whether an entry may match names other than the one that it spells.
func IsPattern(entry string) bool { return strings.ContainsAny(entry, `*?[\`) }

// Check returns an error if an entry contains *, ? or [ and is not a valid pattern. A backslash
// alone is not an error, because names may contain one.
func Check(entry string) error {
	if !strings.ContainsAny(entry, "*?[") {
		return nil
	}
	if negates(entry) {
		return ErrNegation
	}
	if _, err := path.Match(entry, ""); err != nil {
		return errPattern
	}
	return nil
}

// negates reports whether a class of a pattern begins with an exclamation mark.
func negates(pattern string) bool {
	isInClass := false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
		case isInClass:
			isInClass = c != ']'
		case c == '[':
			if strings.HasPrefix(pattern[i+1:], "!") {
				return true
			}
			isInClass = true
		}
	}
	return false
}

// Match reports whether an entry matches a name. Blanks around either are ignored. An entry that
// [Check] refuses matches only the name that it spells.
func Match(entry, name string) bool {
	entry = Trim(entry)
	trimmed := Trim(name)
	return entry == trimmed || IsPattern(entry) && (match(entry, trimmed) || name != trimmed && match(entry, name))
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// Trim returns text without the blanks around it.
func Trim(text string) string { return strings.Trim(text, " \t\n\v\f\r") }
