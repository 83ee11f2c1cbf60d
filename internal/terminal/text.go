package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Names, titles and reasons come from a domain's owner. Otherwise they could move a terminal's
// cursor or pass for other text.

// Width is the width of help texts, and of a terminal whose width is unknown.
const Width = 80

// Printable reports whether a terminal shows a character as it is: neither a control character nor
// an invisible one.
func Printable(r rune) bool {
	return unicode.IsPrint(r) && r != '\u2800' &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Clean replaces every character that is not printable.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if Printable(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// OneLine returns the text of an error on one line, with printable characters only.
func OneLine(s string) string { return Clean(strings.Join(strings.Fields(s), " ")) }

// columns returns the number of columns of a printable character: 0 for a combining mark, and 2 for
// a wide character of East Asia.
func columns(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xa960 && r <= 0xa97c || r >= 0xac00 && r <= 0xd7a3 ||
		r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0xffe0 && r <= 0xffe6 ||
		r >= 0x16fe0 && r <= 0x18d08 || r >= 0x1b000 && r <= 0x1b2fb || r >= 0x1f000 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd):
		return 2
	case r >= 0x231a && r <= 0x27bf && unicode.Is(unicode.So, r):
		return 2 // only some are wide, and a column too few is harmless
	}
	return 1
}

// TextWidth returns the number of columns of a text.
func TextWidth(s string) int {
	n := 0
	for _, r := range s {
		n += columns(r)
	}
	return n
}

// Cut returns text in printable characters and at most n columns. An ellipsis replaces a missing
// rest.
func Cut(s string, n int) string {
	s = Clean(s)
	most := 3 * n // characters, because any number of marks may combine with one
	if TextWidth(s) <= n && utf8.RuneCountInString(s) <= most {
		return s
	}
	var b strings.Builder
	room := n - 1
	for _, r := range s {
		if room -= columns(r); room < 0 || most == 0 {
			break
		}
		most--
		b.WriteRune(r)
	}
	return b.String() + "…"
}

// Cell returns text cut or filled to n columns.
func Cell(s string, n int) string {
	s = Cut(s, n)
	return s + strings.Repeat(" ", n-TextWidth(s))
}

// Counted returns a number with a noun, whose plural ends with s.
func Counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Wrap breaks text into lines of a given width, at blanks if possible. A character that is wider
// has its own line.
func Wrap(s string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(Clean(s)) {
		for TextWidth(word) > n {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			end, room := 0, n
			for i, r := range word {
				if room -= columns(r); room < 0 && i > 0 {
					break
				}
				end = i + utf8.RuneLen(r)
			}
			lines, word = append(lines, word[:end]), word[end:]
		}
		switch {
		case word == "":
		case line == "":
			line = word
		case TextWidth(line)+1+TextWidth(word) <= n:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// WriteJSON writes v indented, and escapes characters that are not printable.
func WriteJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, EscapeJSON(b.String()))
	return err
}

// EscapeJSON returns JSON with escapes for characters that are not printable. They are only in
// strings, whose values stay the same.
func EscapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || Printable(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9/._+@%:,=~-]+$`)

// ShellWord returns a path that a person can paste into a shell.
func ShellWord(path string) string {
	if plainWord.MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
