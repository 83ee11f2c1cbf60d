package policy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/fallback"
	"github.com/stopguard/stopguard/policy/internal/library"
)

// A slip is a policy that Rego or YAML would take without a word, and that would not protect what
// it was written for.
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
		_, err := New(context.Background(), Config{Sites: append(folder, bundle...)})
		wantError(t, err, "bundle.tar.gz/other.rego:3", "of /etc/stopguard/policy/helpers.rego")
	})
	t.Run("neighbours may share a name", func(t *testing.T) {
		newEngine(t, Config{Sites: site("freeze.rego", rule, "helpers.rego", victim,
			"lib.rego", "package lib\n\nhelper.drained := true\n\nyes if helper.drained",
			"time.rego", "package lib.time\n\nis_late if input.time > \"2027\"",
			"late.rego", "package stopguard.rules.late\n\nimport data.lib.time\n\nveto contains \"x\" if time.is_late",
			"more.rego", "package stopguard.rules.more\n\nimport data.lib\n\nveto contains \"x\" if lib.yes")})
	})
}

func TestTheLibrarysSchemasStay(t *testing.T) {
	open := `{"type": "object"}`
	for _, rule := range library.Rules() {
		for _, name := range []string{rule + library.SchemaEnding, "a/b/" + rule + library.SchemaEnding} {
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

func TestComparisonsThatAreNeverTrue(t *testing.T) {
	const v = "veto contains \"x\" if "
	const some = "veto contains \"x\" if {\n\tsome d in input.domain."
	hostdev := func(field, is, want string) slip {
		return file("a hostdev's "+field+" "+is, some+"hostdevs\n\td."+field+" == \""+is+"\"\n}", want)
	}
	disk := func(field, is, want string) slip {
		return file("a disk's "+field+" "+is, some+"disks\n\td."+field+" == \""+is+"\"\n}", want)
	}
	testSlips(t, []slip{
		// values that a field never has
		file("a UUID in upper case", v+`input.domain.uuid == "16E14A01-2B11-40DE-A128-75E3F4A5FE12"`, "input.domain.uuid is never"),
		file("a UUID without hyphens", v+`input.domain.uuid == "16e14a012b1140dea12875e3f4a5fe12"`, "lower case, with hyphens"),
		file("a UUID in braces", v+`input.domain.uuid == "{16e14a01-2b11-40de-a128-75e3f4a5fe12}"`, "input.domain.uuid is never"),
		file("a UUID in upper case in a set", v+`input.domain.uuid in {"16E14A01-2B11-40DE-A128-75E3F4A5FE12"}`, "input.domain.uuid is never"),
		file("a UUID in upper case by its beginning", v+`startswith(input.domain.uuid, "16E1")`, "it is in lower case"),
		given("UUIDs in upper case in the settings", `ids: ["16E14A01-2B11-40DE-A128-75E3F4A5FE12"]`, v+`input.domain.uuid in data.site.freeze.ids`, "input.domain.uuid is never"),
		given("a UUID in upper case among objects in the settings", "vms:\n  - id: 16E14A01-2B11-40DE-A128-75E3F4A5FE12", "veto contains \"x\" if {\n\tsome vm in data.site.freeze.vms\n\tvm.id == input.domain.uuid\n}", "input.domain.uuid is never"),
		file("another domain's UUID", some[:len(some)-len("domain.")]+"host.domains\n\td.uuid == \"X\"\n}", "input.host.domains.uuid is never"),
		given("UUIDs in upper case among names", `vms: [web-01, "16E14A01-2B11-40DE-A128-75E3F4A5FE12"]`, "_is if input.domain.name in data.site.freeze.vms\n\n_is if input.domain.uuid in data.site.freeze.vms\n\nveto contains \"x\" if _is", "input.domain.uuid is never"),
		given("a glob that another list's pattern is", "names: [\"web-*\"]\npatterns: [\"db-*\"]", "veto contains \"x\" if input.domain.name in data.site.freeze.names\n\nveto contains \"y\" if stopguard.match(data.site.freeze.patterns, input.domain.name, input.domain.uuid)", "letter for letter"),
		file("a state in capitals", v+`input.domain.state == "Running"`, `input.domain.state is never "Running"; it is one of`),
		file("a state of virsh", v+`input.domain.state == "shut off"`, "input.domain.state is never"),
		file("a state that is not", v+`input.domain.state != "Running"`, "input.domain.state is never"),
		file("another domain's state", some[:len(some)-len("domain.")]+"host.domains\n\td.state == \"active\"\n}", "input.host.domains.state is never"),
		file("a type in capitals", v+`input.domain.type == "KVM"`, "input.domain.type is never"),
		file("an architecture in capitals", v+`input.domain.arch == "X86_64"`, "input.domain.arch is never"),
		file("a glob for a name", v+`input.domain.name == "web-*"`, "letter for letter; for a pattern, write glob.match or stopguard.match"),
		file("a glob with a question mark", v+`input.domain.name == "web-0?"`, "letter for letter"),
		file("a glob with a range", v+`input.domain.name == "web-0[1-9]"`, "letter for letter"),
		file("a glob of words", v+`input.domain.name == "web-{01,02}"`, "letter for letter"),
		file("a glob among names", v+`input.domain.name in {"db", "web-*"}`, "letter for letter"),
		file("a glob for a machine", v+`input.domain.machine == "pc-q35-*"`, "letter for letter"),
		given("a glob in the settings", `names: ["web-*"]`, v+`input.domain.name in data.site.freeze.names`, "letter for letter"),
		given("a glob as a key", `names: {"web-*": ops}`, "veto contains \"x\" if {\n\tsome name in object.keys(data.site.freeze.names)\n\tname == \"\"\n}\n\nveto contains \"y\" if startswith(input.domain.name, \"web-*\")", "startswith looks for"),
		file("a blank behind a name", v+`input.domain.name == "web-01 "`, "with a blank or a line feed around it"),
		file("a blank before a name", v+`input.domain.name == " web-01"`, "with a blank or a line feed around it"),
		given("a line feed of YAML behind a name", "name: |\n  web-01", v+`input.domain.name == data.site.freeze.name`, "in YAML, write |-"),
		given("a line feed of YAML behind a beginning", "name: |\n  web-", v+`startswith(input.domain.name, data.site.freeze.name)`, "in YAML, write |-"),
		given("a line feed of YAML behind a pattern", "name: |\n  ^web-", v+`regex.match(data.site.freeze.name, input.domain.name)`, "in YAML, write |-"),
		given("a folded text of YAML in a list", "names:\n  - >\n    web-01", v+`input.domain.name in data.site.freeze.names`, "in YAML, write |-"),
		file("a name that was put into lower case", v+`lower(input.domain.name) == "Web-01"`, "lower(...) is never"),
		file("a name that was put into upper case", v+`upper(input.domain.name) == "Web-01"`, "upper(...) is never"),
		file("a weekday in lower case", v+`time.weekday(time.parse_rfc3339_ns(input.time)) == "saturday"`, "time.weekday(...) is never"),
		file("a short weekday in a set", v+`time.weekday(time.parse_rfc3339_ns(input.time)) in {"Sat", "Sun"}`, "time.weekday(...) is never"),
		file("a type's name", v+`type_name(input.domain.name) == "text"`, "type_name(...) is never"),
		hostdev("mode", "subsys", "it is one of subsystem, capabilities"),
		hostdev("type", "PCI", "it is one of pci, usb"),
		hostdev("type", "gpu", "it is one of pci, usb"),
		hostdev("source", "01:00.0", "as 0000:3b:00.0 for PCI"),
		hostdev("source", "0000:3B:00.0", "as 0000:3b:00.0 for PCI"),
		disk("device", "hdd", "it is one of disk, cdrom, floppy, lun"),
		disk("device", "CDROM", "it is one of disk, cdrom, floppy, lun"),
		disk("job", "active_commit", "active-commit"),
		disk("type", "Block", "input.domain.disks.type is never"),
		disk("bus", "VirtIO", "input.domain.disks.bus is never"),
		disk("target", "vda ", "with a blank"),
		file("a MAC address in capitals", some+"interfaces\n\td.mac == \"52:54:00:AB:CD:EF\"\n}", "lower case, with colons"),
		file("an element's name with a prefix", some+"metadata\n\td.name == \"nova:instance\"\n}", "without a prefix"),
		file("an element's name with a prefix, deeper", some+"metadata\n\tsome c in d.children\n\tc.name == \"nova:owner\"\n}", "without a prefix"),
		file("a job of virsh", v+`input.domain.job == "Migration"`, "input.domain.job is never"),
		file("a time that is none", v+`input.time == "2026-12-24"`, "input.time is never"),
		// operations
		file("an operation through a variable", "veto contains \"x\" if {\n\top := \"destroy\"\n\tinput.operation == op\n}", "input.operation is never \"destroy\"; it is one of stop"),
		file("an operation through a variable of its own", "veto contains \"x\" if {\n\top := input.operation\n\top == \"destroy\"\n}", "input.operation is never"),
		file("an operation through a helper", "_op := \"shutdown\"\n\nveto contains \"x\" if input.operation == _op", "input.operation is never"),
		file("an operation through a helper's set", "_ops := {\"stop\", \"destroy\"}\n\nveto contains \"x\" if input.operation in _ops", "input.operation is never"),
		file("an operation through a partial set", "_ops contains \"destroy\"\n\n_ops contains \"stop\"\n\nveto contains \"x\" if input.operation in _ops", "input.operation is never"),
		file("an operation through a partial set in brackets", "_ops contains \"destroy\"\n\nveto contains \"x\" if _ops[input.operation]", "input.operation is never"),
		file("an operation through a set in brackets", "veto contains \"x\" if {\"destroy\"}[input.operation]", "input.operation is never"),
		file("an operation through a function's argument", "_is(op) if input.operation == op\n\nveto contains \"x\" if _is(\"destroy\")", "input.operation is never"),
		file("an operation through a function's argument in a set", "_is(ops) if input.operation in ops\n\nveto contains \"x\" if _is({\"stop\", \"reboot\"})", "input.operation is never \"reboot\""),
		file("an operation through a function's result", "_word(_) := \"destroy\"\n\nveto contains \"x\" if input.operation == _word(1)", "input.operation is never"),
		file("an operation as a function's argument", "_is(op) if op == \"destroy\"\n\nveto contains \"x\" if _is(input.operation)", "input.operation is never"),
		file("an operation through two functions", "_is(op) if _also(op)\n\n_also(op) if op == \"destroy\"\n\nveto contains \"x\" if _is(input.operation)", "input.operation is never"),
		file("an operation through a comprehension", "veto contains \"x\" if {\n\tops := {op | some op in [\"destroy\"]}\n\tinput.operation in ops\n}", "input.operation is never"),
		file("an operation in a list that is gone through", "veto contains \"x\" if {\n\tsome op in [\"destroy\"]\n\tinput.operation == op\n}", "input.operation is never"),
		file("an operation in every", "veto contains \"x\" if {\n\tevery op in [\"destroy\"] { input.operation != op }\n}", "input.operation is never"),
		file("an operation in a comprehension", "veto contains \"x\" if count([1 | input.operation == \"destroy\"]) == 1", "input.operation is never"),
		file("an operation behind not", v+`not input.operation == "destroy"`, "input.operation is never"),
		file("an operation in an else", "_a if input.operation == \"stop\"\n\nelse if input.operation == \"destroy\"\n\nveto contains \"x\" if _a", "input.operation is never"),
		file("an operation by its beginning", v+`startswith(input.operation, "shut")`, "input.operation never has"),
		given("an operation in the settings", "op: destroy", v+`input.operation == data.site.freeze.op`, "input.operation is never"),
		given("an operation in the settings' list", "ops: [stop, destroy]", v+`input.operation in data.site.freeze.ops`, "input.operation is never"),
		given("an operation in the settings' list, gone through", "ops: [stop, destroy]", v+`input.operation == data.site.freeze.ops[_]`, "input.operation is never"),
		file("an operation in an intersection", v+`count({"destroy", "shutdown"} & {input.operation}) > 0`, "input.operation is never"),
		file("an operation as a function's constant argument", "_why(\"destroy\") := \"x\"\n\nveto contains _why(input.operation)", "input.operation is never \"destroy\""),
		file("an operation as one of a function's constant arguments", "_why(\"stop\") := \"x\"\n\n_why(\"undefine\") := \"y\"\n\nveto contains _why(input.operation)", "input.operation is never \"undefine\""),
		file("an operation as a glob", v+`glob.match("destroy*", [], input.operation)`, "input.operation never matches"),
		file("a state as a glob", v+`glob.match("Run*", [], input.domain.state)`, "input.domain.state never matches"),
		file("a UUID in upper case as a glob", v+`glob.match("D19E7151*", [], input.domain.uuid)`, "it is in lower case"),
		file("an operation as a pattern", v+`regex.match("^destroy", input.operation)`, "input.operation never matches"),
		file("a state as a pattern", v+`regex.match("^Run", input.domain.state)`, "input.domain.state never matches"),
		file("a MAC address in capitals by its beginning", some+"interfaces\n\tstartswith(d.mac, \"52:54:00:AB\")\n}", "it is in lower case"),
		file("a time by a German date", v+`startswith(input.time, "24.12.")`, "input.time never begins with"),
		given("an operation among the settings' keys", "messages: {destroy: ask, shutdown: wait}", `veto contains data.site.freeze.messages[input.operation]`, "input.operation is never"),
		given("an operation among the settings' switches", "ops: {destroy: true}", v+`data.site.freeze.ops[input.operation]`, "input.operation is never"),
		given("a UUID in upper case among the settings' keys", "vms: {16E14A01-2B11-40DE-A128-75E3F4A5FE12: true, other: true}", v+`data.site.freeze.vms[input.domain.uuid]`, "input.domain.uuid is never"),
		file("an operation among a helper's keys", "_why := {\"destroy\": \"x\"}\n\nveto contains _why[input.operation]", "input.operation is never"),
		file("an operation among a partial object's keys", "_why[\"destroy\"] := \"x\"\n\nveto contains _why[input.operation]", "input.operation is never"),
		{"an operation in another package", []string{
			"freeze.rego", head + "import data.lib.ops\n\n" + v + "input.operation in ops.all",
			"lib.rego", "package lib.ops\n\nall := [\"stop\", \"undefine\"]",
		}, "input.operation is never \"undefine\""},
	})
}

func TestComparisonsAcrossTypes(t *testing.T) {
	const v = "veto contains \"x\" if "
	testSlips(t, []slip{
		file("in a text", v+`input.domain.name in "web-01"`, "in looks for a member of a text"),
		file("in a text of the input", v+`"web" in input.domain.name`, "in looks for a member of a text"),
		file("in null", v+`input.domain.name in null`, "in looks for a member of null"),
		file("in a number", v+`input.domain.name in input.domain.vcpus`, "in looks for a member of a number"),
		file("in true", v+`input.domain.name in true`, "in looks for a member of a boolean"),
		file("in a text behind not", v+`not input.domain.name in "ci-01"`, "in looks for a member of a text"),
		file("in a helper's text", "_names := \"a, b\"\n\n"+v+"input.domain.name in _names", "in looks for a member of a text"),
		file("in an object", v+`input.domain.name in {"web-01": "ops"}`, "write x in object.keys(...)"),
		file("in an object of truths", v+`input.domain.name in {"web-01": true}`, "never the same"),
		file("in attributes", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\t\"owner\" in e.attributes\n}", "write x in object.keys(...)"),
		file("in numbers", v+`input.domain.name in [1, 2]`, "never the same"),
		file("in a list of lists", v+`input.domain.name in [["web-01"]]`, "never the same"),
		file("in what a function is given", "_has(list) if input.domain.name in list\n\n"+v+"_has(\"web-01\")", "in looks for a member of a text"),
		given("in a text of the settings", "names: web-01", v+`input.domain.name in data.site.freeze.names`, "in looks for a member of a text"),
		given("in null of the settings", "names: null", v+`input.domain.name in data.site.freeze.names`, "in looks for a member of null"),
		given("in an object of the settings", "names: {web-01: ops}", v+`input.domain.name in data.site.freeze.names`, "write x in object.keys(...)"),
		given("in an object of truths in the settings", "names: {web-01: true}", v+`input.domain.name in data.site.freeze.names`, "write x in object.keys(...)"),
		given("in numbers of the settings", "names: [1, 2]", v+`input.domain.name in data.site.freeze.names`, "never the same"),
		given("in objects of the settings", "names: [{name: web-01}]", v+`input.domain.name in data.site.freeze.names`, "never the same"),
		given("in truths of the settings", "names: [true]", v+`input.domain.name in data.site.freeze.names`, "never the same"),
		given("in the settings, not through", "names: web-01", v+`not input.domain.name in data.site.freeze.names`, "in looks for a member of a text"),
		given("a number as a text in the settings", "n: \"4\"", v+`input.domain.vcpus > data.site.freeze.n`, "a number and a text"),
		given("a number as a text in the settings, the same", "n: \"4\"", v+`input.domain.vcpus == data.site.freeze.n`, "never the same"),
		given("yes as a text in the settings", "on: \"yes\"", v+`data.site.freeze.on == true`, "never the same"),
		given("true as a text in the settings", "on: true", v+`data.site.freeze.on == "true"`, "never the same"),
		given("a number deeper in the settings", "teams:\n  - max: \"4\"", "veto contains \"x\" if {\n\tsome team in data.site.freeze.teams\n\tinput.domain.vcpus >= team.max\n}", "a number and a text"),
		file("less than a text", v+`input.domain.vcpus < "4"`, "a number and a text"),
		file("at least a text", v+`input.domain.vcpus >= "4"`, "a number and a text"),
		file("more than a number", v+`input.domain.name > 4`, "a text and a number"),
		file("not a number", v+`input.domain.name != 4`, "always different"),
		file("not a text", v+`input.domain.vcpus != "2"`, "always different"),
		file("not null", v+`input.domain.title != null`, "a text and null"),
		file("a list and a number", v+`input.domain.disks > 1`, "a list and a number"),
		file("a list and no text", v+`input.domain.disks != ""`, "a list and a text"),
		file("a count and a text", v+`count(input.domain.disks) > "1"`, "a number and a text"),
		file("a truth and a text", "veto contains \"x\" if {\n\tsome d in input.domain.disks\n\td.shareable != \"yes\"\n}", "always different"),
		file("an attribute and a number", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\te.attributes.level > 3\n}", "a text and a number"),
		file("through a variable", "veto contains \"x\" if {\n\tn := input.domain.vcpus\n\tlimit := \"4\"\n\tn > limit\n}", "a number and a text"),
		file("through a function", "_more(a, b) if a > b\n\n"+v+"_more(input.domain.vcpus, \"4\")", "a number and a text"),
		file("through a function's result", "_limit(_) := \"4\"\n\n"+v+"input.domain.vcpus > _limit(1)", "a number and a text"),
		file("in a comprehension", v+`count([d | some d in input.domain.disks; d.source > 4]) > 0`, "a text and a number"),
		file("in every", "veto contains \"x\" if {\n\tevery d in input.domain.disks { d.source > 4 }\n}", "a text and a number"),
		file("a time and a year", v+`input.time > 2026`, "a text and a number"),
		file("a time and nanoseconds", v+`input.time >= time.parse_rfc3339_ns("2026-01-01T00:00:00Z")`, "a text and a number"),
		file("a time and a German date", v+`input.time > "24.12.2026"`, "letter for letter"),
		file("a time and an American date", v+`input.time > "12/24/2026"`, "letter for letter"),
		file("a time and a blank in it", v+`input.time > "2026-12-24 18:00"`, "letter for letter"),
		file("a time and another zone's", v+`input.time > "2026-12-24T18:00:00+01:00"`, "letter for letter"),
		given("a time and a date of the settings", "until: 24.12.2026", v+`input.time < data.site.freeze.until`, "letter for letter"),
		file("every of a text", "veto contains \"x\" if {\n\tevery x in input.domain.name { x == \"w\" }\n}", "every goes through a text"),
		given("every of a text of the settings", "names: web-01", "veto contains \"x\" if {\n\tevery x in data.site.freeze.names { x != input.domain.name }\n}", "every goes through a text"),
		given("a text of the settings in brackets", "names: web-01", v+`data.site.freeze.names[input.domain.name]`, "is a string"),
		given("a list of the settings by a name", "names: [web-01]", v+`data.site.freeze.names[input.domain.name]`, "has members and no names"),
		// nanoseconds
		file("a time in seconds", v+`time.parse_rfc3339_ns(input.time) > 1767225600`, "too small for nanoseconds"),
		file("a time in milliseconds", v+`time.parse_rfc3339_ns(input.time) > 1767225600000`, "too small for nanoseconds"),
		file("an hour in seconds", v+`time.parse_rfc3339_ns(input.time) + 3600 > time.parse_rfc3339_ns("2026-12-24T18:00:00Z")`, "too small for nanoseconds"),
		file("an hour in seconds, counted", v+`time.parse_rfc3339_ns(input.time) - (60 * 60) > time.parse_rfc3339_ns("2026-12-24T18:00:00Z")`, "too small for nanoseconds"),
		file("a difference in seconds", v+`time.parse_rfc3339_ns("2026-12-24T18:00:00Z") - time.parse_rfc3339_ns(input.time) < 86400`, "too small for nanoseconds"),
		file("a difference in seconds through variables", "veto contains \"x\" if {\n\tnow := time.parse_rfc3339_ns(input.time)\n\tthen := time.parse_rfc3339_ns(\"2026-12-24T18:00:00Z\")\n\tleft := then - now\n\tday := 86400\n\tleft < day\n}", "too small for nanoseconds"),
		file("a duration in seconds", v+`time.parse_duration_ns("1h") > 60`, "too small for nanoseconds"),
		given("a difference and seconds of the settings", "grace: 3600", v+`time.parse_rfc3339_ns("2026-12-24T18:00:00Z") - time.parse_rfc3339_ns(input.time) < data.site.freeze.grace`, "too small for nanoseconds"),
		file("a time and a duration", v+`time.parse_rfc3339_ns(input.time) > time.parse_duration_ns("1h")`, "compared with a duration"),
	})
}

func TestNotOfWhatIsAlwaysTrue(t *testing.T) {
	const v = "veto contains \"x\" if "
	testSlips(t, []slip{
		file("a count", v+`not count(input.domain.disks)`, "count returns a number"),
		file("a count in a variable", "veto contains \"x\" if {\n\tn := count(input.domain.disks)\n\tnot n\n}", "always there, and a number"),
		file("a comprehension", v+`not [d | some d in input.domain.disks; d.shareable]`, "always there, and a list"),
		file("a set comprehension", v+`not {d.bus | some d in input.domain.disks}`, "always there, and a set"),
		file("a comprehension in a variable", "veto contains \"x\" if {\n\tshared := [d | some d in input.domain.disks; d.shareable]\n\tnot shared\n}", "always there, and a list"),
		file("a text", v+`not "web"`, "always there, and a text"),
		file("a text of the input", v+`not input.domain.title`, "input.domain.title is always there, and a text"),
		file("a list of the input", v+`not input.domain.listed`, "input.domain.listed is always there, and a list"),
		file("a number of the input", v+`not input.domain.id`, "input.domain.id is always there, and a number"),
		file("an object of the input", v+`not input.caller`, "input.caller is always there"),
		file("a field in a variable", "veto contains \"x\" if {\n\ttitle := input.domain.title\n\tnot title\n}", "input.domain.title is always there"),
		file("a field of a disk", "veto contains \"x\" if {\n\tsome d in input.domain.disks\n\tnot d.serial\n}", "input.domain.disks.serial is always there"),
		file("a field through a function", "_bare(d) if not d.serial\n\nveto contains \"x\" if {\n\tsome d in input.domain.disks\n\t_bare(d)\n}", "always there"),
		file("a partial set", "_shared contains d.source if {\n\tsome d in input.domain.disks\n\td.shareable\n}\n\n"+v+"not _shared", "is always there, and a set"),
		file("a helper's comprehension", "_shared := [d | some d in input.domain.disks; d.shareable]\n\n"+v+"not _shared", "is always there, and a list"),
		file("a helper that holds for every count", "_any if count(input.domain.disks)\n\n"+v+"not _any", "_any is always true"),
		file("a helper that holds for a text", "_any if \"x\"\n\n"+v+"not _any", "_any is always true"),
		file("a helper that holds for a list", "_any if [d | some d in input.domain.disks; d.shareable]\n\n"+v+"not _any", "_any is always true"),
		file("a helper with a default", "default _team := \"\"\n\n_team := input.domain.title if input.domain.title != \"x\"\n\n"+v+"not _team", "is always there, and a text"),
		file("a function with a default", "default _team(_) := \"\"\n\n_team(x) := \"ops\" if x != \"\"\n\n"+v+"not _team(input.domain.title)", "which is never false"),
		file("a split", v+`not split(input.domain.name, "-")`, "split returns a list"),
		file("an index", v+`not indexof(input.domain.name, "x")`, "indexof returns a number"),
		file("a text that was put into lower case", v+`not lower(input.domain.title)`, "lower returns a text"),
		file("a sprintf", v+`not sprintf("%s", [input.domain.title])`, "sprintf returns a text"),
		given("a text of the settings", "on: \"false\"", v+`not data.site.freeze.on`, "data.site.freeze.on is always there, and a text"),
		given("a number of the settings", "on: 0", v+`not data.site.freeze.on`, "data.site.freeze.on is always there, and a number"),
	})
}

func TestArgumentsThatAreSwapped(t *testing.T) {
	const v = "veto contains \"x\" if "
	const want = "the arguments are swapped: input.domain.name is looked for in a constant"
	testSlips(t, []slip{
		file("startswith", v+`startswith("web-", input.domain.name)`, want),
		file("endswith", v+`endswith("-db", input.domain.name)`, want),
		file("contains", v+`contains("web", input.domain.name)`, want),
		file("contains in a list's text", v+`contains("web-01,web-02", input.domain.name)`, want),
		file("regex.match", v+`regex.match(input.domain.name, "^web-")`, want),
		file("glob.match", v+`glob.match(input.domain.name, [], "web-*")`, want),
		file("indexof", v+`indexof("web-", input.domain.name) >= 0`, want),
		file("strings.count", v+`strings.count("web-01,web-02", input.domain.name) > 0`, want),
		file("stopguard.match", v+`stopguard.match([input.domain.name], "web-*", input.domain.uuid)`, want),
		file("any_prefix_match", v+`strings.any_prefix_match(["web-"], input.domain.name)`, want),
		file("any_suffix_match", v+`strings.any_suffix_match("web-", [input.domain.name])`, want),
		file("not startswith", v+`not startswith("ci-", input.domain.name)`, want),
		file("through a variable", "veto contains \"x\" if {\n\tname := input.domain.name\n\tstartswith(\"web-\", name)\n}", want),
		file("through a helper", "_prefix := \"web-\"\n\n"+v+"startswith(_prefix, input.domain.name)", want),
		file("through a function", "_is(a, b) if startswith(a, b)\n\n"+v+"_is(\"web-\", input.domain.name)", want),
		given("startswith of the settings", "prefix: web-", v+`startswith(data.site.freeze.prefix, input.domain.name)`, want),
		given("startswith of the settings' list", "prefixes: [web-, db-]", "veto contains \"x\" if {\n\tsome prefix in data.site.freeze.prefixes\n\tstartswith(prefix, input.domain.name)\n}", want),
		given("regex.match of the settings", "pattern: ^web-", v+`regex.match(input.domain.name, data.site.freeze.pattern)`, want),
		file("a glob in startswith", v+`startswith(input.domain.name, "web-*")`, "startswith looks for"),
		file("a glob in contains", v+`contains(input.domain.name, "*db*")`, "contains looks for"),
	})
}

// A reason that reads what is missing vetoes in the rule's name.
func TestAReasonThatReadsWhatIsMissingVetoes(t *testing.T) {
	const some = "veto contains message if {\n\tsome e in input.domain.metadata\n\te.namespace == \"urn:x\"\n\t"
	for _, tt := range []struct {
		why, rule string
		want      string // the reason; "" if the rule lets the domain pass
	}{
		{"an attribute in a text", some + "message := sprintf(\"ask %s\", [e.attributes.owner])\n}", fallback.Message},
		{"an attribute that is there", some + "message := sprintf(\"ask %s\", [e.attributes.team])\n}", "ask ops"},
		{"an attribute in brackets", some + "message := sprintf(\"ask %s\", [e.attributes[\"owner\"]])\n}", fallback.Message},
		{"an attribute in concat", some + "message := concat(\" \", [\"ask\", e.attributes.owner])\n}", fallback.Message},
		{"an attribute in a built-in within", some + "message := sprintf(\"ask %s\", [lower(e.attributes.owner)])\n}", fallback.Message},
		{"an attribute in the head", "veto contains sprintf(\"ask %s\", [e.attributes.owner]) if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", fallback.Message},
		{"an attribute in an object", "veto contains {\"message\": sprintf(\"ask %s\", [e.attributes.owner])} if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", fallback.Message},
		{"an attribute in an object's until", "veto contains {\"message\": sprintf(\"ask %s\", [e.name]), \"until\": e.attributes.until} if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", fallback.Message},
		{"an attribute of a child", some + "some c in e.children\n\tmessage := sprintf(\"ask %s\", [c.attributes.owner])\n}", fallback.Message},
		{"a child", some + "message := sprintf(\"ask %s\", [e.children[3].text])\n}", fallback.Message},
		{"an attribute in a function", "_text(e) := sprintf(\"ask %s\", [e.attributes.owner])\n\n" + some + "message := _text(e)\n}", fallback.Message},
		{"a function within", "_owner(e) := e.attributes.owner\n\n" + some + "message := sprintf(\"ask %s\", [_owner(e)])\n}", fallback.Message},
		{"an element", "veto contains sprintf(\"ask %s\", [input.domain.metadata[5].name]) if input.operation == \"stop\"", fallback.Message},
		{"an attribute of the document", "veto contains sprintf(\"on %s\", [input.xml.attributes.host]) if input.operation == \"stop\"", fallback.Message},
		{"a template", some + "message := $\"ask {e.attributes.team}\"\n}", "ask ops"},
		{"a default", some + "message := sprintf(\"ask %s\", [object.get(e.attributes, \"owner\", \"ops\")])\n}", "ask ops"},
		{"a table of reasons is a condition, too", "_texts := {\"move\": \"it stays\"}\n\nveto contains _texts[input.operation]", ""},
		{"a function of the operation is a condition, too", "_why(\"move\") := sprintf(\"%s stays\", [input.domain.name])\n\nveto contains _why(input.operation)", ""},
		{"an attribute in a line of its own is a condition, too", some + "owner := e.attributes.owner\n\tmessage := sprintf(\"ask %s\", [owner])\n}", ""},
		{"another condition that does not hold", some + "e.name == \"y\"\n\tmessage := sprintf(\"ask %s\", [e.attributes.owner])\n}", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e, err := New(t.Context(), Config{Sites: site("site.rego", "package stopguard.rules.site\n\n"+tt.rule+"\n")})
			if err != nil {
				t.Fatal(err)
			}
			domain, err := domainxml.Parse([]byte(`<domain type='kvm'><name>web-01</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>` +
				`<metadata><x xmlns='urn:x' team='ops'><c/></x></metadata></domain>`))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // an engine that is warm decides the same
				d, err := e.Decide(t.Context(), Input{Operation: OperationStop, Time: time.Now(), Domain: domain, State: State{Unknown: true}})
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				if len(d.Reasons) == 1 && d.Reasons[0].Rule == "site" {
					got = d.Reasons[0].Message
				}
				if got != tt.want || len(d.Reasons) > 1 {
					t.Errorf("%+v, want %q", d.Reasons, tt.want)
				}
			}
		})
	}
}

// These are ordinary rules. Each loads as it is, and lets a plain domain pass or vetoes.
func TestOrdinaryRulesLoad(t *testing.T) {
	for _, tt := range []struct {
		why, rule, settings string
		veto                bool
	}{
		{"names", `veto contains "listed" if input.domain.name in {"web-01", "vm [old]"}`, "", true},
		{"a pattern", `veto contains "a web server" if glob.match("web-*", [], input.domain.name)`, "", true},
		{"a beginning", `veto contains "a web server" if startswith(input.domain.name, "web-")`, "", true},
		{"a UUID", `veto contains "this one" if input.domain.uuid == "16e14a01-2b11-40de-a128-75e3f4a5fe12"`, "", true},
		{"a date", `veto contains "too early" if input.time < "2027-01-01"`, "", true},
		{"a moment in nanoseconds", `veto contains "too early" if time.parse_rfc3339_ns(input.time) < time.parse_rfc3339_ns("2027-01-01T00:00:00Z")`, "", true},
		{"an hour more", `veto contains "x" if time.parse_rfc3339_ns(input.time) + 3600 * 1000000000 > 0`, "", true},
		{"seconds after a division", `veto contains "x" if time.parse_rfc3339_ns(input.time) / 1000000000 > 1767225600`, "", true},
		{"a weekday", `veto contains "x" if time.weekday(time.parse_rfc3339_ns(input.time)) in {"Saturday", "Sunday"}`, "", true},
		{"a shared disk", "veto contains message if {\n\tsome d in input.domain.disks\n\td.shareable\n\tnot d.read_only\n\tmessage := sprintf(\"shares %s\", [d.source])\n}", "", false},
		{"a mark of one's own", "veto contains message if {\n\tsome e in input.domain.metadata\n\te.namespace == \"urn:x\"\n\tnot e.attributes.off\n\tmessage := sprintf(\"ask %s\", [object.get(e.attributes, \"owner\", \"ops\")])\n}", "", false},
		{"an attribute that is asked for", "veto contains message if {\n\tsome e in input.domain.metadata\n\te.attributes.owner != \"\"\n\tmessage := sprintf(\"ask %s\", [e.attributes.owner])\n}", "", false},
		{"an attribute in a line of its own", "veto contains message if {\n\tsome e in input.domain.metadata\n\towner := e.attributes.owner\n\tmessage := sprintf(\"ask %s\", [owner])\n}", "", false},
		{"an owner, or somebody", "_ask(e) := text if {\n\ttext := sprintf(\"ask %s\", [e.attributes.owner])\n} else := \"ask somebody\"\n\nveto contains _ask(e) if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", "", false},
		{"the settings' names", `veto contains "listed" if input.domain.name in data.site.freeze.names`, "names: [web-01]", true},
		{"no names yet", `veto contains "listed" if input.domain.name in data.site.freeze.names`, "names: []", false},
		{"the settings' patterns", `veto contains "listed" if stopguard.match(data.site.freeze.names, input.domain.name, input.domain.uuid)`, `names: ["web-*"]`, true},
		{"the settings' beginnings", `veto contains "listed" if strings.any_prefix_match(input.domain.name, data.site.freeze.prefixes)`, "prefixes: [web-, db-]", true},
		{"operations as a glob", `veto contains "x" if glob.match("s*", [], input.operation)`, "", true},
		{"a UUID as a glob", `veto contains "x" if glob.match("16e14a01-*", [], input.domain.uuid)`, "", true},
		{"any of them", `veto contains "x" if glob.match("{stop,move}", [], input.operation)`, "", true},
		{"a switch that is a constant", "_off := true\n\nveto contains \"x\" if not _off", "", false},
		{"a helper of two conditions", "_small if {\n\tcount(input.domain.disks) < 2\n\tinput.domain.vcpus < 9\n}\n\nveto contains \"x\" if not _small", "", false},
		{"a table of teams", "veto contains sprintf(\"ask %s\", [team.contact]) if {\n\tsome team in data.site.freeze.teams\n\tstartswith(input.domain.name, team.prefix)\n}", "teams:\n  - prefix: web-\n    contact: ops\n  - prefix: db-\n    contact: dba\n    max: 4", true},
		{"teams by name", "veto contains sprintf(\"ask %s\", [contact]) if {\n\tsome prefix, contact in data.site.freeze.teams\n\tstartswith(input.domain.name, prefix)\n}", "teams: {web: ops}", true},
		{"a switch", `veto contains "frozen" if data.site.freeze.on`, "on: true", true},
		{"a switch that is off", `veto contains "frozen" if not data.site.freeze.off`, "off: false", true},
		{"a limit", `veto contains "large" if input.domain.vcpus >= data.site.freeze.limit`, "limit: 2", true},
		{"an optional setting", `veto contains "x" if input.domain.vcpus > object.get(data.site.freeze, "limit", 1)`, "other: 1", true},
		{"text of several lines", `veto contains data.site.freeze.text if input.operation == "stop"`, "text: |\n  Ask ops\n  first.", true},
		{"several operations", `veto contains "x" if input.operation in {"stop", "move"}`, "", true},
		{"a helper", "_ops := {\"stop\", \"move\"}\n\nveto contains \"x\" if input.operation in _ops", "", true},
		{"not of a helper", "_may if startswith(input.domain.name, \"ci-\")\n\nveto contains \"x\" if not _may", "", true},
		{"not of a helper with a value", "_team := \"ops\" if startswith(input.domain.name, \"ops-\")\n\nveto contains \"x\" if not _team", "", true},
		{"not of a function with a value", "_team(name) := \"ops\" if startswith(name, \"ops-\")\n\nveto contains \"x\" if not _team(input.domain.name)", "", true},
		{"not of a member", "_names contains \"ci-01\"\n\nveto contains \"x\" if not _names[input.domain.name]", "", true},
		{"not of a first disk", `veto contains "x" if not input.domain.disks[0]`, "", true},
		{"not of an attribute's table", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\tnot e.attributes.owner\n}", "", false},
		{"an empty title", `veto contains "x" if input.domain.title == ""`, "", true},
		{"a GPU", "veto contains \"x\" if {\n\tsome d in input.domain.hostdevs\n\td.type == \"pci\"\n\td.mode == \"subsystem\"\n\td.source == \"0000:65:00.0\"\n}", "", false},
		{"another host device", "veto contains \"x\" if {\n\tsome d in input.domain.hostdevs\n\td.source in {\"046d:c52b\", \"001/002\", \"scsi_host0:0:0:0\", \"/dev/sdf\", \"eth0\", \"iscsi:iqn.2026-11.example:x/0\"}\n}", "", false},
		{"neighbours", "veto contains \"the last one\" if {\n\tinput.domain.name == \"web-01\"\n\tcount([d | some d in input.host.domains; startswith(d.name, \"web-\"); d.state == \"running\"; d.uuid != input.domain.uuid]) < 1\n}", "", true},
		{"a paused guest", "veto contains \"x\" if {\n\tinput.domain.state == \"paused\"\n\tinput.domain.reason in {\"ioerror\", \"watchdog\"}\n}", "", false},
		{"a title with an asterisk", `veto contains "x" if input.domain.title == "* keep *"`, "", false},
		{"who asks", `veto contains "x" if not input.caller.user in {"root", "ops"}`, "", true},
		{"one of two fields", "veto contains \"x\" if {\n\tsome is in [input.domain.state, input.domain.name]\n\tis == \"web-01\"\n}", "", true},
		{"lower case", `veto contains "x" if lower(input.domain.name) == "web-01"`, "", true},
		{"is the name a part of the title", `veto contains "x" if contains(input.domain.title, input.domain.name)`, "", false},
		{"a state that may be unknown", `veto contains "x" if input.domain.state == ""`, "", true},
		{"names and UUIDs in one list", "veto contains \"x\" if input.domain.name in data.site.freeze.vms\n\nveto contains \"x\" if input.domain.uuid in data.site.freeze.vms", "vms: [web-01, \"d19e7151-4c02-4aa7-a443-59213be70aba\"]", true},
		{"names and patterns in one list", "_is if input.domain.name in data.site.freeze.vms\n\n_is if {\n\tsome p in data.site.freeze.vms\n\tglob.match(p, [], input.domain.name)\n}\n\nveto contains \"x\" if _is", "vms: [\"web-*\", db-01]", true},
		{"a table of names, UUIDs and patterns", "_is(e) if {\n\te.kind == \"uuid\"\n\te.value == input.domain.uuid\n}\n\n_is(e) if {\n\te.kind == \"name\"\n\te.value == input.domain.name\n}\n\n_is(e) if {\n\te.kind == \"glob\"\n\tglob.match(e.value, [], input.domain.name)\n}\n\nveto contains \"x\" if {\n\tsome e in data.site.freeze.vms\n\t_is(e)\n}", "vms:\n  - {kind: uuid, value: d19e7151-4c02-4aa7-a443-59213be70aba}\n  - {kind: name, value: db-01}\n  - {kind: glob, value: \"web-*\"}", true},
		{"names, UUIDs and patterns in one set", "_vms := {\"web-*\", \"d19e7151-4c02-4aa7-a443-59213be70aba\", \"db-01\"}\n\n_is if input.domain.name in _vms\n\n_is if input.domain.uuid in _vms\n\n_is if {\n\tsome p in _vms\n\tglob.match(p, [], input.domain.name)\n}\n\nveto contains \"x\" if _is", "", true},
		{"a word for every state", "_state(t) if t.state == \"any\"\n\n_state(t) if t.state == input.domain.state\n\nveto contains \"x\" if {\n\tsome t in data.site.freeze.teams\n\tstartswith(input.domain.name, t.prefix)\n\t_state(t)\n}", "teams:\n  - {prefix: web-, state: any}\n  - {prefix: db-, state: running}", true},
		{"a word for every operation", "veto contains \"x\" if {\n\tsome t in data.site.freeze.teams\n\tsome word in {\"all\", input.operation}\n\tword in t.operations\n}", "teams:\n  - {operations: [all]}\n  - {operations: [move]}", true},
		{"the last nanosecond of a day", "veto contains \"x\" if time.parse_rfc3339_ns(input.time) <= time.add_date(time.parse_rfc3339_ns(\"2026-11-22T00:00:00Z\"), 0, 0, 1) - 1", "", true},
		{"a limit that is not set", "veto contains \"x\" if {\n\tdata.site.freeze.limit != null\n\tinput.domain.vcpus > data.site.freeze.limit\n}", "limit: null", false},
		{"a limit that may be null, and is set", "veto contains \"x\" if {\n\tlimit := data.site.freeze.limit\n\tlimit != null\n\tinput.domain.vcpus > limit\n}", "limit: 1", true},
		{"a name with brackets", "veto contains \"x\" if input.domain.name in {\"web [eu-west]\", \"web-01\"}", "", true},
		{"a disk's address with a query", "veto contains \"x\" if {\n\tsome d in input.domain.disks\n\td.source == \"https:images/x.iso?raw=1\"\n}", "", false},
		{"tags in an intersection", `veto contains "x" if count({"keep"} & {tag | some tag in split(input.domain.title, " ")}) == 0`, "", true},
		{"operations in an intersection", `veto contains "x" if count({"stop", "move"} & {input.operation}) > 0`, "", true},
		{"texts by operation", "_why(\"stop\") := \"x\"\n\n_why(\"move\") := \"y\"\n\nveto contains _why(input.operation)", "", true},
		{"a month by the time's beginning", `veto contains "x" if startswith(input.time, "2026-1")`, "", true},
		{"states by a pattern", `veto contains "x" if regex.match("^(running|paused)?$", input.domain.state)`, "", true},
		{"not of what a table may lack", `_vm := data.site.freeze.vms[input.domain.name]

veto contains "x" if not _vm`, "vms: {db-01: {owner: dba}}", true},
		{"texts by operation, and another", "veto contains object.get(data.site.freeze.why, input.operation, data.site.freeze.why.other)", "why: {other: ask}", true},
		{"texts by operation in the settings", "veto contains data.site.freeze.why[input.operation]", "why: {stop: ask, other: x}", true},
		{"names and UUIDs as keys", "veto contains data.site.freeze.vms[input.domain.uuid]\n\nveto contains data.site.freeze.vms[input.domain.name]", "vms: {web-01: ask}", true},
		{"texts by state", "_why := {\"running\": \"is up\", \"\": \"may be up\"}\n\nveto contains _why[input.domain.state]", "", true},
		{"names, and beginnings that end with an asterisk", "_is(e) if input.domain.name == e\n\n_is(e) if {\n\tendswith(e, \"*\")\n\tstartswith(input.domain.name, trim_suffix(e, \"*\"))\n}\n\nveto contains \"x\" if {\n\tsome e in data.site.freeze.vms\n\t_is(e)\n}", "vms: [db-01, \"web-*\"]", true},
		{"names, and patterns behind a tilde", "_is(e) if input.domain.name == e\n\n_is(e) if {\n\tstartswith(e, \"~\")\n\tregex.match(substring(e, 1, -1), input.domain.name)\n}\n\nveto contains \"x\" if {\n\tsome e in data.site.freeze.vms\n\t_is(e)\n}", "vms: [db-01, \"~^web-.*\"]", true},
		{"a local variable named as a function", "veto contains \"x\" if {\n\tmax := 1\n\tinput.domain.vcpus > max\n}", "", true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := given(tt.why, tt.settings, tt.rule, "")
			if tt.settings == "" {
				s = file(tt.why, tt.rule, "")
			}
			d := decide(t, newEngine(t, Config{Sites: site(s.files...)}), ask(parseDomain(t, plainDomain)))
			if (d.Outcome == Veto) != tt.veto {
				t.Errorf("%+v", d)
			}
		})
	}
}
