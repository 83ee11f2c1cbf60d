// Package quote makes text that a domain's owner wrote fit for a reason.
package quote

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxBytes is the length of the longest text that is quoted whole.
const maxBytes = 200

// Text returns text as it is if it cannot be taken for our own words, else in quotes. It is cut to
// 200 bytes.
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

// isHarmless reports whether text begins with a letter or digit and holds no punctuation that ours
// has.
func isHarmless(text string) bool {
	for i, r := range text {
		if unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) || i > 0 && strings.ContainsRune(" _.,/@+#%=-", r) {
			continue
		}
		return false
	}
	return text != ""
}
