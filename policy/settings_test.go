package policy

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/source"
)

const freezeSchema = `{
  "type": "object", "additionalProperties": false,
  "properties": {
    "on": {"type": "boolean"},
    "owners": {"type": "array", "items": {"type": "string", "minLength": 1}}
  }
}`

func TestASettingOfTheWrongShapeIsRefusedAtLoad(t *testing.T) {
	rule := head + `veto contains "freeze" if data.site.freeze.on`
	tests := []struct {
		name, why string
		files     []string
		want      []string // file, path, what was expected
	}{
		{"a misspelt key", "the rule would not see it",
			[]string{"data.json", `{"site": {"freeze": {"on": true, "owner": []}}}`},
			[]string{"site/data.json", "data.site.freeze", "owner", "not allowed (these are known: on, owners)"}},
		{"a wrong type", "a string is always true",
			[]string{"data.yaml", "site:\n  freeze:\n    on: \"no\"\n"},
			[]string{"site/data.yaml", "data.site.freeze.on", "boolean"}},
		{"a wrong type deep down", "",
			[]string{"data.yaml", "site:\n  freeze:\n    on: true\n    owners: [ops, 7]\n"},
			[]string{"site/data.yaml", "data.site.freeze.owners.1", "string"}},
		{"no object", "",
			[]string{"data.json", `{"site": {"freeze": true}}`},
			[]string{"site/data.json", "data.site.freeze is a boolean"}},
		{"null", "it would be true",
			[]string{"data.json", `{"site": {"freeze": null}}`},
			[]string{"site/data.json", "data.site.freeze is null"}},
		{"a key of no rule", "somebody misspelt a rule's name",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "calender": {}}}`},
			[]string{"site/data.json", "data.site.calender belongs to no loaded rule", "block_job, calendar, cluster_managed, freeze, hold, min_running, monitor, notify, protected_list, protection_mark"}},
		{"a monitored rule that does not exist", "somebody believes that it is only monitored",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "monitor": ["frezee"]}}`},
			[]string{"site/data.json", "data.site.monitor", "frezee", "freeze, hold, protected_list, protection_mark"}},
		{"a monitored rule of the library that is off", "it must be told how it is put on",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "monitor": ["calendar"]}}`},
			[]string{"site/data.json", `data.site.monitor names "calendar"`, "off until data.site.calendar is set"}},
		{"monitor that is no list", "",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "monitor": "*"}}`},
			[]string{"site/data.json", "data.site.monitor is a string"}},
		{"monitor with a number", "",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "monitor": [1]}}`},
			[]string{"site/data.json", "data.site.monitor holds a number"}},
		{"cluster_managed that is no list", "",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "cluster_managed": {"web-1": true}}}`},
			[]string{"site/data.json", "data.site.cluster_managed is an object"}},
		{"cluster_managed with a bad glob", "it would match nothing",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "cluster_managed": ["web-["]}}`},
			[]string{"site/data.json", "data.site.cluster_managed", "line 1"}},
		{"cluster_managed with a comment", "it is a list of JSON, not of lines",
			[]string{"data.json", `{"site": {"freeze": {"on": true}, "cluster_managed": ["web-1 # the shop"]}}`},
			[]string{"site/data.json", "data.site.cluster_managed"}},
		{"a schema of no rule", "it would check nothing",
			[]string{"data.json", `{"site": {"freeze": {"on": true}}}`, "frezee.schema.json", `{}`},
			[]string{"site/frezee.schema.json", "no rule frezee"}},
		{"a schema that is none", "likewise",
			[]string{"data.json", `{"site": {"freeze": {"on": true}}}`, "sub/freeze.schema.json", `{"type": "objct"}`},
			[]string{"sub/freeze.schema.json"}},
		{"a schema that is no object", "likewise",
			[]string{"data.json", `{"site": {"freeze": {"on": true}}}`, "sub/freeze.schema.json", `true`},
			[]string{"sub/freeze.schema.json", "a boolean, not a JSON Schema"}},
		{"a schema that fetches another", "a decision may not depend on the network",
			[]string{"data.json", `{"site": {"freeze": {"on": true}}}`, "sub/freeze.schema.json", `{"$ref": "http://127.0.0.1:1/schema"}`},
			[]string{"sub/freeze.schema.json"}},
		{"two schemas of one rule", "which of them?",
			[]string{"data.json", `{"site": {"freeze": {"on": true}}}`, "sub/freeze.schema.json", `{}`},
			[]string{"freeze.schema.json", "already"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := append([]string{"freeze.rego", rule}, tt.files...)
			if tt.name != "a schema that is none" && tt.name != "a schema that is no object" && tt.name != "a schema that fetches another" {
				files = append(files, "freeze.schema.json", freezeSchema)
			}
			_, err := New(context.Background(), Config{Sites: site(files...)})
			testhost.WantError(t, err, append(tt.want, "; ")...)
		})
	}
}

// Settings of the library's own rules with typical mistakes.
func TestASettingOfALibraryRuleSaysWhatWasExpected(t *testing.T) {
	tests := []struct {
		name, data string
		want       []string
	}{
		{"a day that is none", "calendar: {windows: [{days: [monday], start: '22:00', end: '06:00'}]}", []string{`data.site.calendar.windows.0.days.0: must be one of the following: "mon", `}},
		{"a time that is none", "calendar: {windows: [{start: '25:00', end: '06:00'}]}", []string{"data.site.calendar.windows.0.start: is not of this form: Local time at which it opens, such as `22:00`; correct"}},
		{"a time zone that is none", "calendar: {time_zone: Europe/Berln, windows: []}", []string{"data.site.calendar.time_zone", "Europe/Berln", "IANA"}},
		{"a time zone of a window", "calendar: {windows: [{start: '22:00', end: '06:00', time_zone: CEST}]}", []string{"data.site.calendar.windows.0.time_zone", "CEST"}},
		{"a rule's name and nothing else", "calendar: {}", []string{"data.site.calendar: at least one of these is required: freezes, windows; "}},
		{"a group without members", "min_running: {groups: [{name: web, min: 1}]}", []string{"data.site.min_running.groups.0: at least one of these is required: members, metadata; "}},
		{"a number that is too small", "min_running: {groups: [{name: web, min: 0, members: [a]}]}", []string{"data.site.min_running.groups.0.min: must be greater than or equal to 1"}},
		{"a misspelt key", "min_running: {group: []}", []string{"data.site.min_running: additional property group is not allowed (these are known: groups, operations)"}},
		{"a misspelt key of a group, for one that is required", "min_running: {groups: [{name: web, mim: 1, members: [a]}]}", []string{"data.site.min_running.groups.0: additional property mim is not allowed (these are known: members, metadata, min, name, scope)"}},
		{"a setting of a rule without any", "protected_list: {on: true}", []string{"data.site.protected_list", "on", "not allowed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(context.Background(), Config{Sites: site("data.yaml", "site:\n  "+tt.data+"\n")})
			testhost.WantError(t, err, append(tt.want, "site/data.yaml", "; ")...)
		})
	}
}

func TestSettingsThatFitAreTaken(t *testing.T) {
	e := newEngine(t, Config{Sites: site(
		"freeze.rego", head+`veto contains sprintf("ask %s", [data.site.freeze.owners[0]]) if data.site.freeze.on`,
		"freeze.schema.json", freezeSchema,
		"data.yaml", "# ours\nsite:\n  freeze: {on: true, owners: [ops]}\n",
	)})
	d := decide(t, e, ask(parseDomain(t, plainDomain)))
	if diff := cmp.Diff([]Reason{{Rule: "freeze", Message: "ask ops"}}, d.Reasons); diff != "" {
		t.Error(diff)
	}
}

func TestTwoSitesAreOnePolicy(t *testing.T) {
	folder, bundle := site("a.rego", "package stopguard.rules.a\n\nveto contains \"a\""), site("b.rego", "package stopguard.rules.b\n\nveto contains \"b\"")
	bundle[0].Name, bundle[0].Revision = "bundle", "r7"
	e := newEngine(t, Config{Sites: append(folder, bundle...)})
	d := decide(t, e, ask(parseDomain(t, plainDomain)))
	want := []Reason{{Rule: "a", Message: "a"}, {Rule: "b", Message: "b"}}
	if diff := cmp.Diff(want, d.Reasons); diff != "" {
		t.Error(diff)
	}
	if want := source.Revision([]source.File{{Path: "a.rego", Content: []byte("package stopguard.rules.a\n\nveto contains \"a\"")}}) + "+r7"; d.Revision != want {
		t.Errorf("revision %q, want %q", d.Revision, want)
	}
	bundle = site("other.rego", "package stopguard.rules.a\n\nveto contains \"b\"")
	bundle[0].Name = "bundle"
	_, err := New(context.Background(), Config{Sites: append(folder, bundle...)})
	testhost.WantError(t, err, "site/a.rego:1", "is in bundle/other.rego already")
	_, err = New(context.Background(), Config{Sites: append(site("a.rego", "package a"), site("a.rego", "package b")...)})
	testhost.WantError(t, err, "site/a.rego", "two trees")
	one, two := site("data.json", `{"site": {"monitor": ["*"]}}`), site("data.json", `{"site": {"monitor": []}}`)
	two[0].Name = "bundle"
	_, err = New(context.Background(), Config{Sites: append(one, two...)})
	testhost.WantError(t, err, "bundle/data.json", "data.site.monitor is set by another file")
}

// Whether a reason is enforced or only monitored, it is the same reason.
func TestASiteWithoutATreeIsRefused(t *testing.T) {
	_, err := New(context.Background(), Config{Sites: []Site{{Name: "fleet"}}})
	testhost.WantError(t, err, "policy: fleet has no FS; ")
}

func TestWhatIsMonitoredRefusesNothingAndIsReported(t *testing.T) {
	rules := []string{"a.rego", "package stopguard.rules.a\n\nveto contains \"a\"", "b.rego", "package stopguard.rules.b\n\nveto contains 7"}
	a, b := Reason{Rule: "a", Message: "a"}, Reason{Rule: "b", Message: wrongShape}
	tests := []struct {
		name, why, data string
		shuttingDown    bool
		want            Decision
	}{
		{"enforced", "nothing says otherwise", `{}`, false,
			Decision{Outcome: Veto, Reasons: []Reason{a, b}}},
		{"one rule", "the other is still enforced", `{"site": {"monitor": ["a"]}}`, false,
			Decision{Outcome: Veto, Reasons: []Reason{b}, Monitored: []Reason{a}}},
		{"a rule that fails", "its failure is its veto, and monitored with it", `{"site": {"monitor": ["b"]}}`, false,
			Decision{Outcome: Veto, Reasons: []Reason{a}, Monitored: []Reason{b}}},
		{"all rules", "", `{"site": {"monitor": ["*"]}}`, false,
			Decision{Outcome: Allow, Monitored: []Reason{a, b}}},
		{"no rule", "", `{"site": {"monitor": []}}`, false,
			Decision{Outcome: Veto, Reasons: []Reason{a, b}}},
		{"a cluster's domain by its name", "", `{"site": {"cluster_managed": ["web-01"]}}`, false,
			Decision{Outcome: Allow, Monitored: []Reason{a, b}, Unenforced: ClusterManaged}},
		{"a cluster's domain by a glob", "", `{"site": {"cluster_managed": ["db-*", "web-*"]}}`, false,
			Decision{Outcome: Allow, Monitored: []Reason{a, b}, Unenforced: ClusterManaged}},
		{"a cluster's domain by its UUID", "", `{"site": {"cluster_managed": ["16E14A01-2B11-40DE-A128-75E3F4A5FE12"]}}`, false,
			Decision{Outcome: Allow, Monitored: []Reason{a, b}, Unenforced: ClusterManaged}},
		{"another domain of a cluster", "", `{"site": {"cluster_managed": ["web-02"]}}`, false,
			Decision{Outcome: Veto, Reasons: []Reason{a, b}}},
		{"a host that shuts down", "a veto ends in a power cut", `{}`, true,
			Decision{Outcome: Allow, Monitored: []Reason{a, b}, Unenforced: ShuttingDown}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site(append(rules, "data.json", tt.data)...)})
			in := ask(parseDomain(t, plainDomain))
			in.ShuttingDown = tt.shuttingDown
			got := decide(t, e, in)
			tt.want.Revision = got.Revision
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUntilIsWhenTheLastReasonLapses(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2027, 1, n, 0, 0, 0, 0, time.UTC) }
	tests := []struct {
		name, why string
		reasons   []Reason
		want      time.Time
	}{
		{"no reason", "it passes now", nil, time.Time{}},
		{"one reason", "", []Reason{{Until: day(1)}}, day(1)},
		{"several reasons", "all must have lapsed", []Reason{{Until: day(1)}, {Until: day(3)}, {Until: day(2)}}, day(3)},
		{"one that does not lapse", "nobody can say", []Reason{{Until: day(1)}, {}}, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (Decision{Outcome: Veto, Reasons: tt.reasons}).Until(); !got.Equal(tt.want) {
				t.Errorf("%v, want %v: %s", got, tt.want, tt.why)
			}
		})
	}
}

func TestReadSettingsReadsWhatAnEngineReads(t *testing.T) {
	settings, err := ReadSettings(append(
		site("data.yaml", "site:\n  a:\n    day: 2026-01-01\n    n: 1\n", "site/b/data.json", `{"x": [true]}`, "a.rego", "not read"),
		site(".hidden/data.yaml", "site: {c: {}}", "site/a/data.yaml", "m: text # a comment\n")...))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": map[string]any{"day": "2026-01-01", "n": json.Number("1"), "m": "text"},
		"b": map[string]any{"x": []any{true}},
	}
	if diff := cmp.Diff(want, settings); diff != "" {
		t.Error(diff)
	}
	_, err = ReadSettings(append(site("data.yaml", "site: {a: 1}"), site("data.yaml", "site: {a: 2}")...))
	testhost.WantError(t, err, "data.site.a is set by another file already; ")
}
