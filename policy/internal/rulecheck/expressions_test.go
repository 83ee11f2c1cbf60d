package rulecheck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/internal/rulecheck"
)

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

// A function, a list or a walk must not hide which field is compared.
func TestFieldsBehindFunctionsAndLists(t *testing.T) {
	const v = "veto contains \"x\" if "
	const walk = "veto contains \"x\" if {\n\twalk("
	const unknown = `is never "destroy"; it is one of`
	testSlips(t, []slip{
		file("trim_space", v+`trim_space(input.operation) == "destroy"`, "trim_space(input.operation) "+unknown),
		file("trim", v+`trim(input.operation, " ") == "destroy"`, unknown),
		file("trim_prefix", v+`trim_prefix(input.operation, "domain_") == "destroy"`, unknown),
		file("lower", v+`lower(input.operation) == "destroy"`, unknown),
		file("upper", v+`upper(input.operation) == "DESTROY"`, `is never "DESTROY"; it is one of`),
		file("concat", v+`concat("", [input.operation]) == "destroy"`, unknown),
		file("concat of two fields", v+`concat("/", [input.operation, input.domain.state]) == "destroy/running"`, `is never "destroy/running"`),
		file("sprintf", v+`sprintf("%s", [input.operation]) == "destroy"`, unknown),
		file("a template", v+`$"{input.operation}" == "destroy"`, unknown),
		file("replace", v+`replace(input.operation, "-", "_") == "destroy"`, unknown),
		file("substring", v+`substring(input.operation, 0, -1) == "destroy"`, unknown),
		file("split", v+`split(input.operation, "-")[0] == "destroy"`, unknown),
		file("a function in a function", v+`lower(trim_space(input.operation)) == "destroy"`, unknown),
		file("a function of the site's own", "_clean(x) := trim_space(lower(x))\n\n"+v+`_clean(input.operation) == "destroy"`, unknown),
		file("in a set", v+`trim_space(input.operation) in {"destroy", "halt"}`, "is one of"),
		file("a state", v+`trim_space(input.domain.state) == "Running"`, `is never "Running"`),
		file("a UUID", v+`trim_space(input.domain.uuid) == "D19E7151-4C02-4AA7-A443-59213BE70ABA"`, "is never"),
		file("a UUID in lower case", v+`lower(input.domain.uuid) == "d19e71514c024aa7a44359213be70aba"`, "is never"),
		file("a list", v+`[input.operation, input.domain.state] == ["destroy", "running"]`, "input.operation "+unknown),
		file("a list that is unified", v+`[input.operation, input.domain.name] = ["destroy", "web-01"]`, "input.operation "+unknown),
		file("a list in a variable", "veto contains \"x\" if {\n\tasked := [input.operation, input.domain.state]\n\tasked == [\"destroy\", \"running\"]\n}", "input.operation "+unknown),
		file("a list in a list", v+`[[input.operation], 1] == [["destroy"], 1]`, "input.operation "+unknown),
		file("lists of two lengths", v+`[input.operation] == ["stop", "running"]`, "are never the same"),
		file("a list of lists", v+`[input.operation, input.domain.state] in [["destroy", "running"], ["halt", "paused"]]`, "is one of"),
		file("a set", v+`{input.operation} == {"destroy"}`, "input.operation "+unknown),
		file("an object", v+`{"asked": input.operation} == {"asked": "destroy"}`, "input.operation "+unknown),
		file("a walk to a path", walk+"input, [path, value])\n\tpath == [\"operation\"]\n\tvalue == \"destroy\"\n}", "input.operation "+unknown),
		file("a walk to a pattern", v+`walk(input, [["operation"], "destroy"])`, "input.operation "+unknown),
		file("a walk into a domain", walk+"input.domain, [[\"state\"], value])\n\tvalue == \"Running\"\n}", `input.domain.state is never "Running"`),
		file("a walk through one field", walk+"input.operation, [_, value])\n\tvalue == \"destroy\"\n}", "input.operation "+unknown),
		file("a walk to a misspelt path", walk+"input, [[\"domain\", \"tilte\"], value])\n\tvalue == \"x\"\n}", "there is no input.domain.tilte"),
	})
}

func TestNumbersThatAreNeverReached(t *testing.T) {
	const v = "veto contains \"x\" if "
	const want = "never holds"
	testSlips(t, []slip{
		file("a count below nothing", v+`count(input.domain.disks) < 0`, "count(...) is a whole number and at least 0, so the comparison with 0 never holds"),
		file("a count that is negative", v+`count(input.domain.disks) == -1`, want),
		file("a count of at most less than nothing", v+`count(input.domain.disks) <= -1`, want),
		file("the other way round", v+`0 > count(input.domain.disks)`, want),
		file("half a disk", v+`count(input.domain.disks) == 0.5`, want),
		file("not of what always holds", v+`not count(input.domain.disks) >= 0`, want),
		file("in a variable", "veto contains \"x\" if {\n\tn := count(input.domain.disks)\n\tn < 0\n}", want),
		file("a count of a comprehension", v+`count({d | some d in input.domain.disks; d.shareable}) < 0`, want),
		file("an index", v+`indexof(input.domain.name, "db") < -1`, want),
		file("virtual CPUs", v+`input.domain.vcpus < 0`, "input.domain.vcpus is a whole number"),
		file("memory", v+`input.domain.memory_bytes <= -1`, want),
		given("a limit of the settings", "limit: 0", v+`count(input.domain.disks) < data.site.freeze.limit`, want),
	})
}

func TestKeysAndDefaultsOfLookups(t *testing.T) {
	const v = "veto contains \"x\" if "
	const some = "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n\t"
	testSlips(t, []slip{
		file("a field that is misspelt", v+`object.get(input.domain, "tilte", "") == "keep"`, "there is no input.domain.tilte; there are: arch, "),
		file("a path that is misspelt", v+`object.get(input, ["domain", "tilte"], "") == "keep"`, "there is no input.domain.tilte"),
		file("the beginning of a path", v+`object.get(input, ["domian", "title"], "") == "keep"`, "there is no input.domian"),
		file("a field of a disk", "veto contains \"x\" if {\n\tsome d in input.domain.disks\n\tobject.get(d, \"readonly\", false)\n}", "readonly; there are: bus, "),
		file("a field through a function", "_of(o) := object.get(o, \"tilte\", \"\")\n\n"+v+`_of(input.domain) == "keep"`, "tilte"),
		given("a setting that is misspelt", "limit: 4", v+`input.domain.vcpus > object.get(data.site.freeze, "limt", 8)`, `no data file sets data.site.freeze.limt, but "limit"`),
		given("a setting with a letter too many", "limit: 4", v+`input.domain.vcpus > object.get(data.site.freeze, "limits", 8)`, `but "limit"`),
		given("a setting with two letters exchanged", "limit: 4", v+`input.domain.vcpus > object.get(data.site.freeze, "limti", 8)`, `but "limit"`),
		given("a default of another type", "other: 1", v+`input.domain.vcpus > object.get(data.site.freeze, "limit", "4")`, "a number and a text are compared by their types alone"),
		given("a default of another type, in a variable", "other: 1", "veto contains \"x\" if {\n\tlimit := object.get(data.site.freeze, \"limit\", \"4\")\n\tinput.domain.vcpus > limit\n}", "compared by their types alone"),
		given("a default that is not a list", "other: 1", v+`input.domain.name in object.get(data.site.freeze, "names", "web-01")`, "in looks for a member of a text"),
		file("a number for an attribute", some+"object.get(e.attributes, \"level\", 0) > 3\n}", "attributes.level is a text, and the default is a number"),
		file("a list for an attribute", some+"count(object.get(e.attributes, \"tags\", [])) > 0\n}", "attributes.tags is a text, and the default is a list"),
		file("a text for a number", v+`object.get(input.domain, "vcpus", "0") == 4`, "input.domain.vcpus is a number, and the default is a text"),
		file("true for an attribute's text", some+"object.get(e.attributes, \"protect\", false) == true\n}", "never true"),
		file("a number for an attribute's text", some+"object.get(e.attributes, \"level\", \"0\") == 3\n}", "never the same"),
	})
}

// A mistake beyond the bound of the checks would load without an error.
func TestAFileThatCannotBeCheckedWholeIsRefused(t *testing.T) {
	large := file("more than is checked", `veto contains "x" if input.domain.name in {"`+strings.Join(numbered(200), `", "`)+`"}`, "site/freeze.rego:1: the rules are too many to be checked; divide the file")
	newEngine(t, policy.Config{Sites: site(large.files...)})
	rulecheck.LimitSteps(t, 100)
	testSlips(t, []slip{large})
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("vm-%d", i)
	}
	return names
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
		{"a cleaned operation", `veto contains "x" if lower(trim_space(input.operation)) == "stop"`, "", true},
		{"an operation in a text", `veto contains "x" if sprintf("%s of %s", [input.operation, input.domain.name]) == "stop of web-01"`, "", true},
		{"a part of the name", `veto contains "x" if split(input.domain.name, "-")[0] == "web"`, "", true},
		{"a name without its beginning", `veto contains "x" if trim_prefix(input.domain.name, "web-") == "01"`, "", true},
		{"a title in upper case", `veto contains "x" if upper(input.domain.title) == "KEEP"`, "", false},
		{"operation and state at once", `veto contains "x" if [input.operation, input.domain.state] in [["stop", ""], ["pause", "running"], ["destroy", "x"]]`, "", true},
		{"operation and name at once", `veto contains "x" if [input.operation, input.domain.name] == ["stop", "web-01"]`, "", true},
		{"an empty list", `veto contains "x" if input.domain.disks == []`, "", true},
		{"a set of operations", `veto contains "x" if {input.operation} == {"stop"}`, "", true},
		{"a walk through the document", "veto contains \"x\" if {\n\twalk(input.xml, [path, value])\n\tpath[count(path) - 1] == \"name\"\n\tvalue == \"hostdev\"\n}", "", false},
		{"a walk for a word", "veto contains \"x\" if {\n\twalk(input.domain, [_, value])\n\tvalue == \"q35\"\n}", "", true},
		{"no disks", `veto contains "x" if count(input.domain.disks) <= 0`, "", true},
		{"at least one disk", `veto contains "x" if count(input.domain.disks) >= 1`, "", false},
		{"a text that is not there", `veto contains "x" if indexof(input.domain.name, "db") == -1`, "", true},
		{"half of the neighbours", `veto contains "x" if count(input.host.domains) / 2 < 0.5`, "", true},
		{"a caller that is not known", `veto contains "x" if input.caller.uid < 0`, "", true},
		{"a field with a default that is not needed", `veto contains "x" if object.get(input.domain, "title", "") == ""`, "", true},
		{"a setting with another one beside it", `veto contains "x" if input.domain.vcpus > object.get(data.site.freeze, "limit", 1)`, "most: 3", true},
		{"two settings of nearly one name", "veto contains \"x\" if {\n\tinput.domain.vcpus > object.get(data.site.freeze, \"limit\", 1)\n\tinput.domain.vcpus < object.get(data.site.freeze, \"limit2\", 9)\n}", "limit2: 8", true},
		{"settings by number", `veto contains "x" if input.domain.vcpus > object.get(data.site.freeze, "host3", 1)`, "host1: 4\nhost2: 8", true},
		{"a default that says that there is none", "veto contains \"x\" if {\n\tlimit := object.get(data.site.freeze, \"limit\", \"none\")\n\tlimit != \"none\"\n\tinput.domain.vcpus > limit\n}", "other: 1", false},
		{"an attribute that may be missing", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\tobject.get(e.attributes, \"owner\", null) != null\n}", "", false},
		{"an attribute that may be missing, of a list", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\tobject.get(e.attributes, \"tags\", []) != []\n}", "", false},
		{"an attribute that may be off", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\tobject.get(e.attributes, \"off\", false) == \"true\"\n}", "", false},
		{"an attribute's number", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\tlevel := object.get(e.attributes, \"level\", -1)\n\tlevel != -1\n\tto_number(level) > 3\n}", "", false},
		{"an attribute's number with a text for its default", "veto contains \"x\" if {\n\tsome e in input.domain.metadata\n\tto_number(object.get(e.attributes, \"level\", \"0\")) > 3\n}", "", false},
		{"a switch with a default", `veto contains "x" if object.get(data.site.freeze, "on", true) == true`, "other: 1", true},
		{"a switch that is set, with a default", `veto contains "x" if object.get(data.site.freeze, "on", false) == true`, "on: true", true},
		{"a list with a default", `veto contains "x" if input.domain.name in object.get(data.site.freeze, "names", [])`, "other: 1", false},
		{"a table with a default", `veto contains object.get(data.site.freeze.why, input.domain.name, "ask ops")`, "why: {db-01: ask dba}", true},
		{"a local variable named as a function", "veto contains \"x\" if {\n\tmax := 1\n\tinput.domain.vcpus > max\n}", "", true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := given(tt.why, tt.settings, tt.rule, "")
			if tt.settings == "" {
				s = file(tt.why, tt.rule, "")
			}
			d := decide(t, newEngine(t, policy.Config{Sites: site(s.files...)}))
			if (d.Outcome == policy.Veto) != tt.veto {
				t.Errorf("%+v", d)
			}
		})
	}
}
