package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// head begins a rule of a site.
const head = "package stopguard.rules.freeze\n\n"

// Each of these is a slip on which Rego itself says nothing, and which would be an allow.
func TestASlipIsRefusedAtLoad(t *testing.T) {
	good := head + `veto contains "freeze"`
	tests := []struct {
		name, why string
		files     []string
		want      []string // what the error holds: the place, the trouble, the cure
	}{
		{"veto as a complete rule", "it would be skipped where the sets are joined",
			[]string{"freeze.rego", head + `veto if input.operation == "stop"`},
			[]string{"site/freeze.rego:3", "no set of reasons", "write veto contains reason"}},
		{"veto as a string", "likewise",
			[]string{"freeze.rego", head + `veto := "freeze"`},
			[]string{"site/freeze.rego:3", "no set of reasons"}},
		{"veto as a partial object", "its keys would be taken for nothing",
			[]string{"freeze.rego", head + `veto[x] := true if x := "freeze"`},
			[]string{"site/freeze.rego:3", "no set of reasons"}},
		{"veto as a function", "nobody calls it",
			[]string{"freeze.rego", head + `veto(x) if x == 1`},
			[]string{"site/freeze.rego:3", "no set of reasons"}},
		{"veto below another name", "it is a set, and nobody reads it",
			[]string{"freeze.rego", head + `sub.veto contains "freeze"`},
			[]string{"site/freeze.rego:3", "no set of reasons"}},
		{"a name below veto", "likewise",
			[]string{"freeze.rego", head + `veto.now contains "freeze"`},
			[]string{"site/freeze.rego:3", "no set of reasons"}},
		{"a default veto", "it would make the rule a value",
			[]string{"freeze.rego", head + "default veto := false"},
			[]string{"site/freeze.rego:3", "no set of reasons"}},
		{"a misspelt veto", "a second spelling beside a right one is heard by nobody",
			[]string{"freeze.rego", good + "\n\nvetos contains \"more\""},
			[]string{"site/freeze.rego:5", "nothing reads vetos", "veto contains"}},
		{"deny instead of veto", "it is what other policies call it",
			[]string{"freeze.rego", head + `deny contains "freeze"`},
			[]string{"site/freeze.rego:1", "no veto"}},
		{"a file without rules", "a package that protects nothing",
			[]string{"freeze.rego", head},
			[]string{"site/freeze.rego:1", "no veto"}},
		{"an empty file", "a half-written one",
			[]string{"freeze.rego", ""},
			[]string{"site/freeze.rego is empty", "write a rule in it or remove it"}},
		{"a file of comments", "likewise",
			[]string{"freeze.rego", "# later"},
			[]string{"site/freeze.rego is empty"}},
		{"a message that nothing sets", "whoever hardly knows Rego does not know what unsafe means",
			[]string{"freeze.rego", head + `veto contains message if input.operation == "stop"`},
			[]string{"site/freeze.rego:3", "nothing gives message a value", "message := ..."}},
		{"a package one level too deep", "it would never be asked",
			[]string{"freeze.rego", "package stopguard.rules.site.freeze\n\nveto contains \"freeze\""},
			[]string{"site/freeze.rego:1", "read by nothing", "stopguard.rules.NAME"}},
		{"a package one level too high, reaching into ours", "it compiles into the library's rule",
			[]string{"freeze.rego", "package stopguard.rules\n\nprotected_list.veto contains \"freeze\""},
			[]string{"site/freeze.rego:1", "read by nothing"}},
		{"a package at the very top, reaching into ours", "likewise",
			[]string{"freeze.rego", "package stopguard\n\nrules.protected_list.veto contains \"freeze\""},
			[]string{"site/freeze.rego:1", "is read by nothing"}},
		{"a misnamed package", "it would never be asked",
			[]string{"freeze.rego", "package stopguard.rule.freeze\n\nveto contains \"freeze\""},
			[]string{"site/freeze.rego:1", "read by nothing"}},
		{"a package that no rule imports", "likewise",
			[]string{"freeze.rego", "package freeze\n\nveto contains \"freeze\""},
			[]string{"site/freeze.rego:1", "no rule reads package freeze"}},
		{"a package that replaces settings", "it would set what the site's data should",
			[]string{"freeze.rego", "package site.freeze\n\nveto contains \"freeze\""},
			[]string{"site/freeze.rego:1", "would replace settings"}},
		{"the package of one of our rules", "a helper that is used under not could be flipped",
			[]string{"freeze.rego", "package stopguard.rules.protection_mark\n\n_of_another_domain(_) := true"},
			[]string{"site/freeze.rego:1", "is the library's"}},
		{"the package of one of our rules that is off", "its settings would be the other's",
			[]string{"freeze.rego", "package stopguard.rules.calendar\n\nveto contains \"x\""},
			[]string{"site/freeze.rego:1", "is the library's"}},
		{"the package of one of our helpers", "likewise",
			[]string{"freeze.rego", "package stopguard.when\n\npassed(_) := true"},
			[]string{"site/freeze.rego:1", "is the library's"}},
		{"two files of one package", "a forgotten copy could switch off the other's vetoes",
			[]string{"freeze.rego", good, "old.rego", good},
			[]string{"site/old.rego:1", "is in site/freeze.rego already"}},
		{"a misspelt field of the input", "undefined, so the rule never fires",
			[]string{"freeze.rego", head + `veto contains "freeze" if input.domain.nmae == "web-01"`},
			[]string{"site/freeze.rego:3: there is no input.domain.nmae; there are: arch, description, disks,"}},
		{"a misspelt field behind a local name", "likewise",
			[]string{"freeze.rego", head + "veto contains \"freeze\" if {\n\td := input.domain\n\td.nmae == \"web-01\"\n}"},
			[]string{"site/freeze.rego:5", "there is no d.nmae; there are: arch, "}},
		{"a misspelt field of a metadata element", "likewise",
			[]string{"freeze.rego", head + "veto contains \"freeze\" if {\n\tsome e in input.domain.metadata\n\te.namespce == \"x\"\n}"},
			[]string{"site/freeze.rego:5", "there is no e.namespce; there are: attributes, "}},
		{"a misspelt field deep in metadata", "likewise",
			[]string{"freeze.rego", head + "veto contains \"freeze\" if {\n\tsome e in input.domain.metadata\n\te.children[0].children[0].txt == \"x\"\n}"},
			[]string{"site/freeze.rego:5", "there is no e.children[0].children[0].txt; there are: attributes, "}},
		{"a comparison with another type", "never true",
			[]string{"freeze.rego", head + `veto contains "freeze" if input.domain.vcpus == "2"`},
			[]string{"site/freeze.rego:3: a number and a string are never the same", "; "}},
		{"an operation of virsh among others", "likewise",
			[]string{"freeze.rego", head + `veto contains "freeze" if input.operation in {"stop", "destroy"}`},
			[]string{"site/freeze.rego:3", "input.operation is never \"destroy\"", "stop, delete, pause, reset, move, modify"}},
		{"an operation of virsh in a list", "likewise",
			[]string{"freeze.rego", head + "veto contains \"freeze\" if {\n\tsome x in [1]\n\tx == 1\n\tnot input.operation in [\"start\", \"stop\"]\n}"},
			[]string{"site/freeze.rego:6", "input.operation is never \"start\""}},
		{"an operation of virsh", "input.operation is never destroy",
			[]string{"freeze.rego", head + `veto contains "freeze" if input.operation == "destroy"`},
			[]string{"site/freeze.rego:3", "never \"destroy\"", "stop, delete, pause"}},
		{"an operation of virsh, the other way round", "likewise",
			[]string{"freeze.rego", head + "veto contains \"freeze\" if {\n\tasked := input.operation\n\t\"shutdown\" == input.operation\n\tasked != \"\"\n}"},
			[]string{"site/freeze.rego:5", "never \"shutdown\""}},
		{"an input schema of its own", "it would switch the check of fields off",
			[]string{"freeze.rego", "# METADATA\n# schemas:\n#   - input: {type: object}\n" + head + `veto contains "freeze" if input.domain.nmae == "x"`},
			[]string{"site/freeze.rego:1", "METADATA", "schema for input"}},
		{"an input schema of its own for one rule", "likewise",
			[]string{"freeze.rego", head + "# METADATA\n# schemas:\n#   - input.domain: {type: object}\nveto contains \"freeze\" if input.domain.nmae == \"x\""},
			[]string{"site/freeze.rego:3", "schema for input.domain"}},
		{"a setting that nothing sets", "undefined, so the rule never fires",
			[]string{"freeze.rego", head + `veto contains "freeze" if data.site.freeze.on`},
			[]string{"site/freeze.rego:3", "no data file sets data.site.freeze.on"}},
		{"a misspelt setting in a message", "the message would be undefined, and with it the veto",
			[]string{"freeze.rego", head + `veto contains sprintf("ask %s", [data.site.freeze.owners])`, "data.json", `{"site": {"freeze": {"owner": "ops"}}}`},
			[]string{"site/freeze.rego:3", "data.site.freeze.owners"}},
		{"a setting of no rule", "somebody misspelt a rule's name",
			[]string{"freeze.rego", good, "data.json", `{"site": {"frezee": {"on": true}}}`},
			[]string{"data.site.frezee belongs to no loaded rule", "freeze"}},
		{"a misspelt import", "undefined",
			[]string{"freeze.rego", head + "import data.calender\n\nveto contains \"freeze\" if calender.frozen"},
			[]string{"site/freeze.rego:", "nothing defines data.calender"}},
		{"a misspelt helper of another package", "undefined",
			[]string{"freeze.rego", head + "import data.stopguard.when\n\nveto contains \"freeze\" if when.pased(\"2026-01-01\")"},
			[]string{"site/freeze.rego:", "there is no function"}},
		{"a rule that nothing reads", "it was meant for something",
			[]string{"freeze.rego", good + "\n\nfrozen if input.operation == \"stop\""},
			[]string{"site/freeze.rego:5", "nothing reads frozen"}},
		{"a test package in a file that is loaded", "its veto would be a rule",
			[]string{"freeze.rego", "package stopguard.rules.freeze_test\n\nveto contains \"x\""},
			[]string{"site/freeze.rego:1", "holds tests", "_test.rego"}},
		{"a rule in a file of tests", "it would not be loaded",
			[]string{"freeze_test.rego", good},
			[]string{"site/freeze_test.rego:1", "would not be loaded"}},
		{"a file of tests that cannot be parsed", "who knows what is in there",
			[]string{"freeze_test.rego", "package"},
			[]string{"site/freeze_test.rego:1"}},
		{"a rule with another ending", "it would not be loaded",
			[]string{"freeze.rego.disabled", good},
			[]string{"site/freeze.rego.disabled", "would not be read"}},
		{"a built-in that reaches the network", "a decision may not depend on it",
			[]string{"freeze.rego", head + `veto contains "x" if http.send({"method": "get", "url": "http://127.0.0.1"}).status_code == 200`},
			[]string{"site/freeze.rego:3", "rules may not call http.send"}},
		{"a built-in with a clock of its own", "replay would not give the same answer",
			[]string{"freeze.rego", head + `veto contains "x" if time.now_ns() > 0`},
			[]string{"site/freeze.rego:3", "rules may not call time.now_ns"}},
		{"a built-in that does not exist", "",
			[]string{"freeze.rego", head + `veto contains "x" if nosuch(1)`},
			[]string{"site/freeze.rego:3: there is no function nosuch; "}},
		{"a rule that reads the decision", "it would depend on itself",
			[]string{"freeze.rego", head + `veto contains "x" if count(data.stopguard.decision) > 0`},
			[]string{"nothing defines data.stopguard.decision"}},
		{"a rule named like a setting of ours", "data.site.monitor means something else",
			[]string{"freeze.rego", "package stopguard.rules.monitor\n\nveto contains \"x\""},
			[]string{"site/freeze.rego:1", "means something else"}},
		{"data outside data.site", "it could be taken for a rule",
			[]string{"data.json", `{"stopguard": {"rules": {}}}`},
			[]string{"site/data.json", "data.stopguard", "below data.site"}},
		{"data outside data.site by its folder", "likewise",
			[]string{"stopguard/data.json", `{}`},
			[]string{"site/stopguard/data.json", "data.stopguard"}},
		{"a key that is there twice", "the first would be dropped",
			[]string{"data.json", `{"site": {}, "site": {}}`},
			[]string{"site/data.json", "twice"}},
		{"a key that is there twice in YAML", "likewise",
			[]string{"data.yaml", "site: {}\nsite: {}\n"},
			[]string{"site/data.yaml", "twice"}},
		{"a setting in two files", "one would be dropped",
			[]string{"freeze.rego", good, "data.json", `{"site": {"freeze": {"a": 1}}}`, "data.yaml", "site:\n  freeze:\n    a: 2\n"},
			[]string{"data.site.freeze.a", "another file"}},
		{"half a data file", "it was cut off",
			[]string{"data.json", `{"site": {"freeze": `},
			[]string{"site/data.json", "unexpected end"}},
		{"something behind the data", "two files in one",
			[]string{"data.json", `{} {}`},
			[]string{"site/data.json", "after top-level value"}},
		{"data that is nested without end", "it would end the process",
			[]string{"data.json", strings.Repeat("[", 1<<20)},
			[]string{"site/data.json", "depth"}},
		{"a number without end", "nothing can be counted with it",
			[]string{"freeze.rego", head + `veto contains "x" if data.site.freeze.n > 1`, "data.json", `{"site": {"freeze": {"n": 1e999999999}}}`},
			[]string{"site/data.json", "1e999999999"}},
		{"an empty data file", "a half-written one",
			[]string{"data.json", ``},
			[]string{"site/data.json", "unexpected end"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(context.Background(), Config{Sites: site(tt.files...)})
			testhost.WantError(t, err, append(tt.want, "; ")...)
		})
	}
}

// What a rule does wrong only while it is evaluated vetoes in that rule's name, and no other veto
// is lost.
func TestASlipAtRunTimeVetoesInTheRulesName(t *testing.T) {
	other := "package stopguard.rules.other\n\nveto contains \"another rule's\""
	tests := []struct {
		name, why, rule, want string
	}{
		{"a reason that is a number", "", `veto contains 7`, wrongShape},
		{"a reason that is a list", "", `veto contains ["x"]`, wrongShape},
		{"a reason that is a boolean", "", `veto contains true`, wrongShape},
		{"a reason that is null", "", `veto contains null`, wrongShape},
		{"an empty reason", "it would say nothing", `veto contains ""`, wrongShape},
		{"a blank reason", "likewise", `veto contains " "`, wrongShape},
		{"an object without a message", "", `veto contains {"reason": "x"}`, wrongShape},
		{"an object with more than it may have", "a misspelt until", `veto contains {"message": "x", "untl": "2027-01-01"}`, wrongShape},
		{"a message that is a number", "", `veto contains {"message": 7}`, wrongShape},
		{"an until that is no time", "", `veto contains {"message": "x", "until": "tomorrow"}`, wrongShape},
		{"an until that is a number", "", `veto contains {"message": "x", "until": 7}`, wrongShape},
		{"a built-in that fails", "undefined by default", `veto contains "x" if regex.match("[", input.domain.name)`, "rule failed: site/freeze.rego:3: "},
		{"two values of one name", "an evaluation error", "veto contains \"x\" if _v == 1\n\n_v := 1 if input.operation == \"stop\"\n\n_v := 2 if input.domain.name != \"\"", "rule failed: site/freeze.rego:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("freeze.rego", head+tt.rule, "other.rego", other)})
			d := decide(t, e, ask(parseDomain(t, plainDomain)))
			if d.Outcome != Veto || len(d.Reasons) != 2 {
				t.Fatalf("%+v", d)
			}
			first := d.Reasons[0]
			if first.Rule != "freeze" || !strings.HasPrefix(first.Message, tt.want) || strings.ContainsAny(first.Message, "\n\t") {
				t.Errorf("%+v does not begin with %q", first, tt.want)
			}
			if diff := cmp.Diff(Reason{Rule: "other", Message: "another rule's"}, d.Reasons[1]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHelpersOfTheLibraryAreThereForWhoImportsThem(t *testing.T) {
	alone, err := source.Load(nil)
	if err == nil {
		err = alone.AddLibrary(alone.LibraryFiles())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := alone.Library["rego/match/match.rego"]; ok {
		t.Error("a helper that no rule imports is compiled")
	}
	for _, used := range []string{"rego/operation/operation.rego", "rego/state/state.rego"} {
		if _, ok := alone.Library[used]; !ok {
			t.Errorf("%s is not compiled", used)
		}
	}
	rule := head + "import data.stopguard.match\n\nveto contains \"x\" if match.one_of([\"web-*\"], input.domain.name, input.domain.uuid)"
	e := newEngine(t, Config{Sites: site("freeze.rego", rule)})
	if d := decide(t, e, ask(parseDomain(t, plainDomain))); d.Outcome != Veto {
		t.Errorf("%+v", d)
	}
}

// A message that reads a field which may be empty must not make its own veto undefined.
func TestNoFieldIsAbsent(t *testing.T) {
	rule := head + `veto contains sprintf("%s %s %d %s %d", [
	input.domain.title, input.domain.machine, input.domain.id, input.caller.user, count(input.domain.disks),
])`
	e := newEngine(t, Config{Sites: site("freeze.rego", rule)})
	xml := `<domain type="kvm"><name>bare</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid></domain>`
	d := decide(t, e, ask(parseDomain(t, xml)))
	want := []Reason{{Rule: "freeze", Message: "  0  0"}}
	if diff := cmp.Diff(want, d.Reasons); diff != "" {
		t.Error(diff)
	}
}

// OPA's texts name variables that it has made up, and point with a caret below a line that is not
// there.
func TestASlipIsSaidInWords(t *testing.T) {
	for _, tt := range []struct{ why, rule, want string }{
		{"the member has a name of OPA's own", "veto contains \"x\" if {\n\tsome d in input.domain.hostdev\n\td.mode == \"x\"\n}",
			"4: there is no input.domain.hostdev; there are: arch, description, disks, holds, hostdevs, "},
		{"", `veto contains "x" if input.domain.hostdev[_].type == "pci"`, "3: there is no input.domain.hostdev; there are: arch, "},
		{"", `veto contains "x" if input.Domain.name == "x"`, "3: there is no input.Domain; there are: caller, domain, "},
		{"", `veto contains "x" if input.host.domains[_].nam == "x"`, "3: there is no input.host.domains[_].nam; there are: metadata, name, "},
		{"one of them is meant, or all", `veto contains "x" if input.domain.disks.source == "x"`,
			"3: input.domain.disks has members and no names, so that input.domain.disks.source is nothing; write some x in input.domain.disks"},
		{"", `veto contains "x" if input.domain.disks[0].source.file == "x"`, "3: input.domain.disks[0].source is a string, so that input.domain.disks[0].source.file is nothing; correct the rule"},
		{"", `veto contains "x" if input.domain[input.domain.vcpus] == "x"`, "3: a number is no name in input.domain; there are: arch, "},
		{"", "veto contains \"x\" if {\n\tx := {}\n\tx.b == 1\n}", "5: there is no x.b, and nothing else in x; correct the rule"},
		{"", "veto contains \"x\" if {\n\tx := {k: 1 | some k in [\"a\"]}\n\tx[0] == 1\n}", "5: x has no 0; its keys are of the type string"},
		{"", "_h(x) := x\n\nveto contains \"x\" if _h == 1", "5: data.stopguard.rules.freeze._h is a function, and is not called; write data.stopguard.rules.freeze._h(...)"},
		{"", `veto contains "x" if startswith(input.domain.vcpus, "2")`, "3: startswith is given (number, string), and takes (search: string, base: string); correct the rule"},
		{"", `veto contains "x" if startswith(input.domain.name)`, "3: startswith is given (string), and takes (search: string, base: string); correct the rule"},
		{"its result is none of what it takes", `veto contains "x" if count(input.domain.vcpus) > 1`, "3: count is given (number), and takes (collection: "},
		{"", `veto contains "x" if input.domain.disks == {"a": 1}`, "3: an array and an object are never the same (match error); correct the rule"},
		{"", `veto contains "x" if startwith(input.domain.name, "x")`, "3: there is no function startwith; correct its name (startswith?), or import what has it"},
		{"", "import data.stopguard.match\n\nveto contains \"x\" if match.oneof([], \"\")", "5: there is no function data.stopguard.match.oneof; correct its name (data.stopguard.match.one_of?), or import what has it"},
		{"two letters changed places", `veto contains "x" if stopgaurd.match([], "", "")`, "3: there is no function stopgaurd.match; correct its name (stopguard.match?), or import what has it"},
		{"so they did in an import", "import data.stopgaurd.match\n\nveto contains \"x\" if match.one_of([], \"\", \"\")", "correct its name (data.stopguard.match.one_of?)"},
		{"nothing imports it", `veto contains "x" if match.one_of([], "", "")`, "3: there is no function match.one_of here; import data.stopguard.match"},
		{"no function is like it", `veto contains "x" if destroyed(input.domain.name)`, "3: there is no function destroyed; correct its name, or import what has it"},
		{"", `veto contains "x" if input.domain.name == 'web'`, `3: illegal token before "'web'"; correct the rule`},
		{"", `veto contains "x" if { input.domain.name == "web"`, `unexpected eof token behind "veto contains \"x\" if { input.domain.name == \"web\""; correct the rule`},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			_, err := New(context.Background(), Config{Sites: site("freeze.rego", "package stopguard.rules.freeze\n\n"+tt.rule+"\n")})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "__local") || strings.Contains(err.Error(), "^") {
				t.Errorf("%s: %v", tt.why, err)
			}
		})
	}
}
