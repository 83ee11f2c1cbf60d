package rulecheck_test

import (
	"context"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

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
		{"an import that makes a built-in function's name", []string{
			"freeze.rego", head + "import data.lib.glob\n\nveto contains \"x\" if glob.match(\"web-*\", [], input.domain.name)",
			"glob.rego", "package lib.glob\n\nmatch(_, _, _) := false",
		}, "the import makes glob.match that of lib.glob"},
		{"an import named as a built-in function", []string{
			"freeze.rego", head + "import data.lib.lower\n\nveto contains \"x\" if lower.x",
			"lower.rego", "package lib.lower\n\nx := true",
		}, "the import lower has the name of a built-in function"},
	})
	t.Run("in two sites", func(t *testing.T) {
		folder := site("freeze.rego", rule, "helpers.rego", victim)
		bundle := site("other.rego", "package lib\n\nhelpers.drained if true")
		folder[0].Name, bundle[0].Name = "/etc/stopguard/policy", "bundle.tar.gz"
		_, err := policy.New(context.Background(), policy.Config{Sites: append(folder, bundle...)})
		testhost.WantError(t, err, "bundle.tar.gz/other.rego:3", "of /etc/stopguard/policy/helpers.rego")
	})
	t.Run("neighbours may share a name", func(t *testing.T) {
		newEngine(t, policy.Config{Sites: site("freeze.rego", rule, "helpers.rego", victim,
			"lib.rego", "package lib\n\nhelper.drained := true\n\nyes if helper.drained",
			"time.rego", "package lib.time\n\nis_late if input.time > \"2027\"",
			"late.rego", "package stopguard.rules.late\n\nimport data.lib.time\n\nveto contains \"x\" if time.is_late",
			"more.rego", "package stopguard.rules.more\n\nimport data.lib\n\nveto contains \"x\" if lib.yes")})
	})
}
