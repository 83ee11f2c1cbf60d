package policy

import (
	"context"
	"strings"
	"testing"
)

// A slip is a policy that Rego or YAML would take without a word, and that would not protect what it was written for.
type slip struct {
	why   string
	files []string // pairs of name and content
	want  string   // the fault
}

// file makes a slip of one rule's text, in site/freeze.rego behind the package.
func file(why, rule, want string) slip { return slip{why, []string{"freeze.rego", head + rule}, want} }

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
			wantError(t, err, tt.want, "; ")
			if err != nil && strings.Contains(err.Error(), "__local") {
				t.Errorf("%v shows a name that the compiler made up", err)
			}
		})
	}
}

func TestAFileTakesNothingFromAnother(t *testing.T) {
	rule := head + "import data.lib.helpers\n\nveto contains \"x\" if not helpers.drained\n"
	victim := "package lib.helpers\n\ndrained if input.domain.title == \"drained\"\n"
	both := func(why, other, want string) slip {
		return slip{why, []string{"freeze.rego", rule, "helpers.rego", victim, "other.rego", other}, want}
	}
	const names = "reaches into package lib.helpers of site/helpers.rego"
	testSlips(t, []slip{
		both("a head with a dot", "package lib\n\nhelpers.drained if true", names),
		both("a head in brackets", "package lib\n\nhelpers[\"drained\"] if true", names),
		both("a variable at the end", "package lib\n\nhelpers[x] := true if some x in [\"drained\"]", names),
		both("a default", "package lib\n\ndefault helpers.drained := true", names),
		both("a function", "package lib\n\nhelpers.drained(_) := true", names),
		both("a set", "package lib\n\nhelpers.drained contains 1", names),
		both("two names below", "package lib\n\nhelpers.drained.now := true", names),
		both("the package's own place", "package lib\n\nhelpers := {\"drained\": true}", names),
		both("the package's own place as a set", "package lib\n\nhelpers contains 1", names),
		both("an else", "package lib\n\nhelpers.drained if false else := true", names),
		both("a second name of it", "package lib\n\nhelpers.other := true", names),
		{"two levels above", []string{
			"freeze.rego", head + "import data.a.b.c\n\nveto contains \"x\" if not c.drained",
			"c.rego", "package a.b.c\n\ndrained if false",
			"a.rego", "package a\n\nb.c.drained if true",
		}, "site/a.rego:3: b.c.drained"},
		{"two levels above, by a variable in the middle", []string{
			"freeze.rego", head + "import data.a.b.c\n\nveto contains \"x\" if not c.drained",
			"c.rego", "package a.b.c\n\ndrained if false",
			"a.rego", "package a\n\nb[x].drained := true if some x in [\"c\"]",
		}, "of site/c.rego"},
		{"into a rule of the site", []string{
			"freeze.rego", head + `veto contains "x"`,
			"a.rego", "package stopguard.rules\n\nfreeze.veto contains \"y\"",
		}, "package stopguard.rules is read by nothing"},
		{"from a rule into a package below it", []string{
			"freeze.rego", head + "import data.stopguard.rules.freeze.lib\n\nveto contains \"x\" if lib.x",
			"lib.rego", "package stopguard.rules.freeze.lib\n\nx if true",
		}, "is read by nothing"},
		{"a package below one of the library's", []string{
			"a.rego", "package stopguard.when.more\n\npassed(_) := true",
		}, "package stopguard.when.more is read by nothing"},
		{"a package of the library in brackets", []string{
			"a.rego", "package stopguard[\"when\"]\n\npassed(_) := true",
		}, "stopguard.when"},
		{"settings as a package", []string{"a.rego", "package site[\"freeze\"]\n\nx := 1"}, "would replace settings"},
		{"the record's mask from above", []string{"a.rego", "package system\n\nlog.mask contains \"/input\""}, "package system is read by nothing"},
		file("a function named as a built-in one", "startswith(_, _) := true\n\nveto contains \"x\" if not startswith(input.domain.name, \"ci-\")", "startswith has the name of a built-in function"),
		file("a value named as a built-in function", "count := 1\n\nveto contains \"x\" if count == 1", "count has the name of a built-in function"),
		file("a dotted name of a built-in function", "glob.match(_, _, _) := true\n\nveto contains \"x\" if not glob.match(\"x\", [], input.domain.name)", "glob.match has the name of a built-in function"),
		file("a name of one of stopguard's functions", "stopguard.match(_, _, _) := false\n\nveto contains \"x\" if stopguard.match([\"x\"], input.domain.name, input.domain.uuid)", "stopguard.match has the name of a built-in function"),
		{"an import named as a built-in function", []string{
			"freeze.rego", head + "import data.lib.lower\n\nveto contains \"x\" if lower.x",
			"lower.rego", "package lib.lower\n\nx := true",
		}, "the import lower has the name of a built-in function"},
	})
	t.Run("in two sites", func(t *testing.T) {
		folder := site("freeze.rego", rule, "helpers.rego", victim)
		bundle := site("other.rego", "package lib\n\nhelpers.drained if true")
		folder[0].Name, bundle[0].Name = "/etc/stopguard/policy", "bundle.tar.gz"
		_, err := New(context.Background(), Config{Sites: append(folder, bundle...)})
		wantError(t, err, "bundle.tar.gz/other.rego:3", "of /etc/stopguard/policy/helpers.rego")
	})
	t.Run("neighbours may share a name", func(t *testing.T) {
		newEngine(t, Config{Sites: site("freeze.rego", rule, "helpers.rego", victim,
			"lib.rego", "package lib\n\nhelper.drained := true\n\nyes if helper.drained",
			"more.rego", "package stopguard.rules.more\n\nimport data.lib\n\nveto contains \"x\" if lib.yes")})
	})
}

func TestTheLibrarysSchemasStay(t *testing.T) {
	open := `{"type": "object"}`
	for _, rule := range libraryRules() {
		for _, name := range []string{rule + schemaEnding, "a/b/" + rule + schemaEnding} {
			_, err := New(context.Background(), Config{Sites: site(name, open)})
			wantError(t, err, "site/"+name+": rule "+rule+" is the library's", "; remove")
		}
	}
	_, err := New(context.Background(), Config{Sites: site("Calendar.schema.json", open)})
	wantError(t, err, "there is no rule Calendar")
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
