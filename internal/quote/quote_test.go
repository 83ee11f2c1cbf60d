package quote_test

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/quote"
)

func TestText(t *testing.T) {
	tests := []struct{ text, want, why string }{
		{"billing primary", "billing primary", "plain"},
		{"Datenträger ¼, müde", "Datenträger ¼, müde", "letters, numbers and marks of every script"},
		{"a_b.c,d/e@f+g#h%i=j-k", "a_b.c,d/e@f+g#h%i=j-k", "harmless punctuation"},
		{"", `""`, "nothing"},
		{" x", `" x"`, "it begins with a blank"},
		{"x (rule none) and 2 more", `"x (rule none) and 2 more"`, "it imitates our line"},
		{`say "no"`, `"say \"no\""`, "quotes"},
		{"two\nlines", `"two\nlines"`, "a line feed"},
		{"a\u202eb", `"a\u202eb"`, "a character that turns the text around"},
		{"a\xffb", `"a\xffb"`, "not UTF-8"},
		{strings.Repeat("é", 500), strings.Repeat("é", 100), "cut"},
		{"x" + strings.Repeat("é", 500), "x" + strings.Repeat("é", 99), "cut between two characters"},
		{strings.Repeat("\xbd", 300), `""`, "not UTF-8, without a place to cut"},
		{strings.Repeat("\n", 300), `"` + strings.Repeat(`\n`, 200) + `"`, "cut before it is quoted"},
	}
	for _, tt := range tests {
		if got := quote.Text(tt.text); got != tt.want {
			t.Errorf("%s: %q is written %s, want %s", tt.why, tt.text, got, tt.want)
		}
	}
}
