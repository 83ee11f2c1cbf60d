package terminal

import (
	"strings"
	"testing"
)

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
		why  string
	}{
		{"short", 5, "short", "it fits"},
		{"longer", 5, "long…", "one column is the ellipsis's"},
		{"日本語日本語", 6, "日本…", "wide characters take two"},
		{"日本語", 6, "日本語", "and fit so"},
		{"e\u0301e\u0301", 2, "e\u0301e\u0301", "an accent takes none"},
		{"a\x1bb\nc", 5, "a\uFFFDb\uFFFDc", "nothing moves the cursor"},
		{"a" + strings.Repeat("\u0301", 1000), 3, "a" + strings.Repeat("\u0301", 8) + "…", "nor is one letter endless"},
	} {
		if got := Cut(tt.text, tt.n); got != tt.want {
			t.Errorf("%s: %q is %q", tt.why, tt.text, got)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
		why  string
	}{
		{"one two  three abcdefghijklm", 8, "one two|three|abcdefgh|ijklm", "what is too long is cut"},
		{"日本 a", 1, "日|本|a", "no width is too small to end"},
	} {
		if got := strings.Join(Wrap(tt.text, tt.n), "|"); got != tt.want {
			t.Errorf("%s: %q is %q", tt.why, tt.text, got)
		}
	}
}

func TestEscapeJSON_changes_no_value(t *testing.T) {
	if got := EscapeJSON("\"\u202e\U000e0001é\""); got != `"\u202e\udb40\udc01é"` {
		t.Error(got)
	}
}
