package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// A slip is a policy that Rego or YAML would take without a word, and that would not protect what
// it was written for.
type slip struct {
	why   string
	files []string // pairs of name and content
	want  string   // the fault
}

// given makes a slip of a rule and the settings, in YAML, of the rule.
func given(why, settings, rule, want string) slip {
	yaml := "site:\n  freeze:\n    " + strings.ReplaceAll(settings, "\n", "\n    ") + "\n"
	return slip{why, []string{"freeze.rego", head + rule, "data.yaml", yaml}, want}
}

func testSlips(t *testing.T, slips []slip) {
	t.Helper()
	for _, tt := range slips {
		t.Run(tt.why, func(t *testing.T) {
			_, err := New(context.Background(), Config{Sites: site(tt.files...)})
			testhost.WantError(t, err, tt.want, "; ")
			if err != nil && strings.Contains(err.Error(), "__local") {
				t.Errorf("%v shows a name that the compiler made up", err)
			}
		})
	}
}

func TestTheLibrarysSchemasStay(t *testing.T) {
	open := `{"type": "object"}`
	for _, rule := range library.Rules() {
		for _, name := range []string{rule + library.SchemaEnding, "a/b/" + rule + library.SchemaEnding} {
			_, err := New(context.Background(), Config{Sites: site(name, open)})
			testhost.WantError(t, err, "site/"+name+": rule "+rule+" is the library's", "; remove")
		}
	}
	_, err := New(context.Background(), Config{Sites: site("Calendar.schema.json", open)})
	testhost.WantError(t, err, "there is no rule Calendar")
}

func TestFilesThatAreReadInHalf(t *testing.T) {
	good := head + `veto contains "x"`
	const read = `veto contains "x" if data.site.freeze.on`
	testSlips(t, []slip{
		{"carriage returns alone, behind a comment", []string{"freeze.rego", "# why\r" + strings.ReplaceAll(good, "\n", "\r")}, "site/freeze.rego:1: the line ends with U+000D"},
		{"one carriage return behind a comment", []string{"freeze.rego", good + "\n# more\rveto contains \"y\"\n"}, "site/freeze.rego:4: the line ends with U+000D"},
		{"a line separator", []string{"freeze.rego", good + "\n# more\u2028veto contains \"y\"\n"}, "site/freeze.rego:4: the line ends with U+2028"},
		{"carriage returns in a file of tests", []string{"freeze.rego", good, "freeze_test.rego", "package stopguard.rules.freeze_test\r"}, "site/freeze_test.rego:1"},
		{"a mark at the beginning of a rule", []string{"freeze.rego", "\ufeff" + good}, "site/freeze.rego begins with a byte order mark"},
		{"a mark at the beginning of settings", []string{"data.json", "\ufeff{}"}, "site/data.json begins with a byte order mark"},
		{"a mark at the beginning of YAML", []string{"data.yaml", "\ufeffsite: {}"}, "site/data.yaml begins with a byte order mark"},
		{"a mark at the beginning of a schema", []string{"freeze.rego", good, "freeze.schema.json", "\ufeff{}"}, "site/freeze.schema.json begins with a byte order mark"},
		{"UTF-16", []string{"freeze.rego", "\xff\xfep\x00a\x00"}, "site/freeze.rego begins with a byte order mark"},
		{"a hidden rule", []string{".g.rego", good}, "site/.g.rego begins with a dot and is not read"},
		{"a hidden rule in a folder", []string{"a/.g.rego", good}, "site/a/.g.rego begins with a dot and is not read"},
		given("yes", "on: yes", read, "line 3: yes may mean a text"),
		given("no", "on: no", read, "line 3: no may mean a text"),
		given("On", "on: On", read, "line 3: On may mean a text"),
		given("OFF", "on: OFF", read, "line 3: OFF may mean a text"),
		given("y", "on: y", read, "line 3: y may mean a text"),
		given("N", "on: N", read, "line 3: N may mean a text"),
		given("no in a list", "on: [no, dk]", read, "line 3: no may mean a text"),
		given("010", "on: 010", read, "line 3: 010 may be an octal number"),
		given("08", "on: 08", read, "line 3: 08 may be an octal number"),
		given("0o17", "on: 0o17", read, "line 3: 0o17 may be an octal number"),
		given("-07", "on: -07", read, "line 3: -07 may be an octal number"),
		given("nothing behind a key", "on:", read, "line 3: there is a key without a value"),
		given("nothing behind a dash", "on:\n  - a\n  -", read, "line 5: there is a key without a value"),
	})
	newEngine(t, Config{Sites: site("freeze.rego", head+"veto contains \"x\" if {\n\tdata.site.freeze.on == \"yes\"\n\tdata.site.freeze.n == \"010\"\n}\n", "data.yaml", strings.ReplaceAll(`site:
  freeze:
    on: "yes"
    "no": true
    n: '010'
    zero: 0
    half: 0.5
    nothing: null
    words: [nowhere, "off", !!str yes]
`, "\n", "\r\n"), ".git/a.rego", "x", ".#freeze.rego", "x")})
}
