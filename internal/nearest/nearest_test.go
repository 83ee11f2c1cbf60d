package nearest

import "testing"

func TestWord(t *testing.T) {
	for _, tt := range []struct {
		why, word  string
		candidates []string
		want       string
	}{
		{"a letter is missing", "startwith", []string{"endswith", "startswith"}, "startswith"},
		{"neighbours changed places", "stopgaurd.match", []string{"stopguard.match", "regex.match", "glob.match"}, "stopguard.match"},
		{"the nearest of several", "devcies", []string{"devs", "devices", "device"}, "devices"},
		{"of two that are as near, the first", "gpux", []string{"gpuz", "gpuy"}, "gpuy"},
		{"another word", "replace", []string{"regex.match", "count"}, ""},
		{"two letters say nothing", "db", []string{"vm", "d"}, ""},
		{"the word itself is not another", "count", []string{"count"}, ""},
		{"there is nothing", "count", nil, ""},
	} {
		if got := Word(tt.word, tt.candidates); got != tt.want {
			t.Errorf("Word(%q) is %q, want %q: %s", tt.word, got, tt.want, tt.why)
		}
	}
}

func TestSlips(t *testing.T) {
	for _, tt := range []struct {
		a, b        string
		limit, want int
	}{
		{"abc", "abc", 2, 0}, {"abc", "acb", 2, 1}, {"abc", "abd", 2, 1}, {"abc", "abcd", 2, 1}, {"abc", "bc", 2, 1},
		{"abc", "xyz", 2, 3}, {"abc", "abcdef", 2, 3}, {"", "ab", 2, 2}, {"ab", "", 1, 2},
	} {
		if got := Slips(tt.a, tt.b, tt.limit); got != tt.want {
			t.Errorf("Slips(%q, %q, %d) is %d, want %d", tt.a, tt.b, tt.limit, got, tt.want)
		}
	}
}
