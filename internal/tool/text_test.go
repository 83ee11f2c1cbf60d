package tool

import (
	"strings"
	"testing"
	"time"
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
		if got := cut(tt.text, tt.n); got != tt.want {
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
		if got := strings.Join(wrap(tt.text, tt.n), "|"); got != tt.want {
			t.Errorf("%s: %q is %q", tt.why, tt.text, got)
		}
	}
}

func TestEscapeJSON_changes_no_value(t *testing.T) {
	if got := escapeJSON("\"\u202e\U000e0001é\""); got != `"\u202e\udb40\udc01é"` {
		t.Error(got)
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"2h": "2026-11-22T10:00:00Z", "2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20T01:02:03+01:00": "2026-11-20T00:02:03Z"} {
		if got, err := parseSince(text, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	if _, err := parseSince("-2h", now); err == nil {
		t.Error("a time to come is taken")
	}
}

func TestOneIsNoPlural(t *testing.T) {
	s := newStage(t)
	s.put("web.xml", domainXML("web", uuid2, ""))
	holds(t, "a file", s.tool("check", s.root+"/web.xml").is(t, 0).Stdout, "\n1 domain, 0 protected, ")
	s.run("pg", uuid1, farMark)
	holds(t, "running", s.tool("check").is(t, 0).Stdout, "\n1 running domain, 1 protected, ")
	s.run("web", uuid2, "")
	holds(t, "two", s.tool("check").is(t, 0).Stdout, "\n2 running domains, 1 protected, ")
}
