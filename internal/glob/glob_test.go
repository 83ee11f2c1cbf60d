package glob_test

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/glob"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		entry, name string
		want        bool
		why         string
	}{
		{"pg-01", "pg-01", true, "a name"},
		{"pg-01", "pg-010", false, "the whole name counts"},
		{"pg-01", "PG-01", false, "so does case"},
		{"*", "pg-01", true, "any text"},
		{"*", "two\nlines", true, "a line feed is text"},
		{"pg-*", "xpg-1", false, "from the beginning"},
		{"pg-??", "pg-01", true, "two characters"},
		{"?", "é", true, "a character of two bytes"},
		{"pg-?", "pg-01", false, "one character"},
		{"pg-[0-3]", "pg-2", true, "a range"},
		{"pg-[^0-3]", "pg-2", false, "a range that is left out"},
		{"pg-[z-ab]", "pg-b", true, "a range that runs backwards holds nothing"},
		{"db[1]", "db[1]", true, "what it spells"},
		{"db[1", "db[1", true, "what it spells, though it is no pattern"},
		{"db[1*", "db[1x", false, "no pattern"},
		{`a\*b*`, "a*bc", true, "an ordinary asterisk"},
		{`a\*b*`, "axbc", false, "an ordinary asterisk"},
		{`My\ Windows\ VM`, "My Windows VM", true, "as a shell is told"},
		{`My\ Windows\ VM`, `My\ Windows\ VM`, true, "a name may hold backslashes"},
		{`a\b`, `a\b`, true, "what it spells"},
		{`a\`, `a\`, true, "a backslash at the end"},
		{`a\`, "a", false, "no pattern"},
		{`[\]\-]`, "-", true, "a class with escapes"},
		{"web-01 ", "web-01", true, "blanks around an entry"},
		{"web-*", " web-01", true, "blanks around a name"},
		{"? web-01", "x web-01", true, "blanks within"},
		{"{a,b}", "a", false, "braces are ordinary"},
		{"a.c*", "abc", false, "a dot is ordinary"},
	}
	for _, tt := range tests {
		if got := glob.Match(tt.entry, tt.name); got != tt.want {
			t.Errorf("Match(%q, %q) = %v: %s", tt.entry, tt.name, got, tt.why)
		}
	}
}

func TestCheck(t *testing.T) {
	for entry, want := range map[string]string{
		"pg-*": "", `My\ VM`: "", `a\`: "", "[a-z]": "", `\[!`: "", `\[!]*`: "", "[[!]": "",
		"[!a]": "would match", "[a][!b]": "would match", `\\[!a]`: "would match", "db[1": "not a valid pattern", `*\`: "not a valid pattern", "[]": "not a valid pattern",
	} {
		err := glob.Check(entry)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(strings.TrimPrefix(err.Error(), "is "), want) {
			t.Errorf("Check(%q) = %v, want %q", entry, err, want)
		}
	}
}
