package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/problem"
)

// A misspelt setting is named with the one that it was probably meant to be.
func TestAMisspeltSettingNamesTheLikelyOne(t *testing.T) {
	const schema = `{"type": "object", "additionalProperties": false, "properties": {"devices": {"type": "array"}, "contact": {"type": "string"}}}`
	reads := func(setting string) string {
		return head + "veto contains \"x\" if input.domain.name in data.site." + setting + "\n"
	}
	for _, tt := range []struct {
		why   string
		files []string
		want  string
	}{
		{"a rule reads it so", []string{"freeze.rego", reads("freeze.devcies"), "data.yaml", "site:\n  freeze:\n    devices: [a]\n"},
			"no data file sets data.site.freeze.devcies, so the rule would never fire; set it, or correct the name (data.site.freeze.devices?)"},
		{"a file sets it so", []string{"freeze.rego", reads("freeze.devices"), "freeze.schema.json", schema, "data.yaml", "site:\n  freeze:\n    devcies: [a]\n"},
			"additional property devcies is not allowed (these are known: contact, devices); correct (devices?) or remove it"},
		{"its rule is", []string{"freeze.rego", reads("freeze.devices"), "data.yaml", "site:\n  freze:\n    devices: [a]\n"}, "; correct (freeze?) or remove it"},
		{"its schema is", []string{"freeze.rego", reads("freeze.devices"), "freezes.schema.json", schema, "data.yaml", "site:\n  freeze:\n    devices: [a]\n"}, "; rename the file after its rule (freeze?)"},
	} {
		_, err := New(context.Background(), Config{Sites: site(tt.files...)})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.why, err)
		}
	}
}

// The author of a policy reads all that is wrong at once, and a line on stderr has the first.
func TestALoadErrorHasAllThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  []string // in order
	}{
		{"files that cannot be read",
			[]string{"a.rego", head + "veto contains \"x\" if {", "b.rego", "package b\n\nx if {", "data.yaml", "site:\n\tcalendar: {}\n", "freeze.txt", "", ".c.rego", ""},
			[]string{"site/.c.rego begins with a dot", "site/freeze.txt is neither", "site/a.rego:3: ", "site/b.rego:3: ",
				"site/data.yaml: line 2: it is indented with a tab, which YAML does not allow; indent with blanks"}},
		{"packages and heads",
			[]string{"a.rego", "package stopguard.rules.a\n\nveto := \"x\"\n\ncount := 1\n", "b.rego", "package stopguard.rule.b\n\nveto contains \"x\""},
			[]string{"site/a.rego:5: count has the name of a built-in function", "site/a.rego:3: veto", "site/b.rego:1: package stopguard.rule.b is read by nothing"}},
		{"types, in several files, and settings",
			[]string{"a.rego", "package stopguard.rules.a\n\nveto contains \"x\" if input.domain.nmae == \"x\"\n\nveto contains \"y\" if startwith(input.domain.name, \"x\")\n",
				"b.rego", "package stopguard.rules.b\n\nveto contains \"x\" if input.domian.name == \"x\"", "data.yaml", "site:\n  aa: {}\n  monitor: [c]\n"},
			[]string{"data.site.aa belongs to no loaded rule", "data.site.monitor names \"c\"", "site/a.rego:5: there is no function startwith"}},
		{"what is never true, in each rule once",
			[]string{"a.rego", "package stopguard.rules.a\n\nveto contains \"x\" if input.operation == \"destroy\"\n\nveto contains \"y\" if input.domain.vcpus < 0\n",
				"b.rego", "package stopguard.rules.b\n\nveto contains \"x\" if input.domain.name == data.site.b.name\n\n_x := 1"},
			[]string{"site/b.rego:5: nothing reads _x", "no data file sets data.site.b.name", "site/a.rego:3: input.operation is never \"destroy\"", "site/a.rego:5: input.domain.vcpus is a whole number"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(context.Background(), Config{Sites: site(tt.files...)})
			all := problem.All(err)
			if len(all) != len(tt.want) {
				t.Errorf("%d errors, want %d", len(all), len(tt.want))
			}
			for i, one := range all {
				if i >= len(tt.want) || !strings.HasPrefix(one.Error(), "policy: ") || !strings.Contains(one.Error(), tt.want[i]) {
					t.Errorf("error %d: %v", i, one)
				}
			}
			if err.Error() != all[0].Error() {
				t.Errorf("the text is %q", err)
			}
		})
	}
}
