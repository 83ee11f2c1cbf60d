// Package quote makes text of a domain's owner safe to use in a reason.
package quote

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxBytes bounds the text that is quoted.
const maxBytes = 200

// Text returns text in quotes, or unquoted if it cannot be taken for stopguard's own words. It is
// cut to 200 bytes.
func Text(text string) string {
	text = cut(text)
	if isHarmless(text) {
		return text
	}
	return strconv.Quote(text)
}

// cut returns the longest beginning of text of at most maxBytes that ends between two characters.
func cut(text string) string {
	if len(text) <= maxBytes {
		return text
	}
	n := maxBytes
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// isHarmless reports whether text begins with a letter or digit and does not have the punctuation
// of stopguard's reasons.
func isHarmless(text string) bool {
	for i, r := range text {
		if unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) || i > 0 && strings.ContainsRune(" _.,/@+#%=-", r) {
			continue
		}
		return false
	}
	return text != ""
}
