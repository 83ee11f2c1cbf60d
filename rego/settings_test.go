package rego_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/rego"
)

func schemaOf(t testing.TB, rule string) []byte {
	t.Helper()
	content, err := fs.ReadFile(rego.FS, rule+"/"+rule+".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func decode(t testing.TB, content []byte) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(content, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// rules returns the name of every rule of the library and the settings that its metadata lists.
func rules(t *testing.T) map[string][]string {
	all := map[string][]string{}
	for name, module := range library(t) {
		rule, ok := strings.CutPrefix(module.Package.Path.String(), "data.stopguard.rules.")
		if !ok || strings.HasSuffix(name, "_test.rego") {
			continue
		}
		all[rule] = []string{}
		for _, setting := range module.Annotations[0].Custom["reads"].([]any) {
			all[rule] = append(all[rule], setting.(string))
		}
	}
	return all
}

func TestEveryRuleHasASchemaOfWhatItReads(t *testing.T) {
	for rule, reads := range rules(t) {
		schema := readSchema(t, rule)
		settings := []string{}
		for _, p := range pairs(at(schema, "properties")) {
			settings = append(settings, "data.site."+rule+"."+p.key)
		}
		if diff := cmp.Diff(settings, reads); diff != "" {
			t.Errorf("%s: its schema (-) and its METADATA (+):\n%s", rule, diff)
		}
		if want := "data.site." + rule; text(schema, "title") != want {
			t.Errorf("%s: its schema's title is not %s", rule, want)
		}
		checkSchema(t, rule, schema)
	}
}

// An unknown setting must be refused, and a known one must be documented.
func checkSchema(t *testing.T, where string, schema *yaml.Node) {
	t.Helper()
	if text(schema, "type") == "object" && at(schema, "additionalProperties") == nil {
		t.Errorf("%s: additionalProperties is not set", where)
	}
	for _, p := range pairs(at(schema, "properties")) {
		if description := text(p.value, "description"); !strings.HasSuffix(description, ".") || strings.Contains(description, "|") {
			t.Errorf("%s.%s: its description is no sentence that fits into a table: %q", where, p.key, description)
		}
		checkSchema(t, where+"."+p.key, p.value)
	}
	if items := at(schema, "items"); items != nil {
		checkSchema(t, where+"[]", items)
	}
}

// settingsErrors returns the errors of OPA's validator, which the engine also uses, for settings.
func settingsErrors(t testing.TB, q query, schema map[string]any, settings any) []string {
	t.Helper()
	value, err := q.ask(t, map[string]any{"schema": schema, "settings": settings})
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, e := range value.([]any)[1].([]any) {
		found = append(found, fmt.Sprint(e.(map[string]any)["desc"]))
	}
	if value.([]any)[0] == true {
		return nil
	}
	return found
}

func TestEveryExampleOfSettingsIsValid(t *testing.T) {
	q := newQuery(t, askSchema)
	for rule, reads := range rules(t) {
		schema := decode(t, schemaOf(t, rule))
		examples, _ := schema["examples"].([]any)
		if len(examples) == 0 && len(reads) > 0 {
			t.Errorf("%s: its schema has no example", rule)
		}
		for i, shown := range nodes(at(readSchema(t, rule), "examples")) {
			var read any
			if err := yaml.Unmarshal([]byte("x:"+indented(shown)), &read); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(examples[i], asText(read).(map[string]any)["x"]); diff != "" {
				t.Errorf("%s: example %d (-) and what its page shows (+):\n%s", rule, i, diff)
			}
		}
		for i, example := range examples {
			if errs := settingsErrors(t, q, schema, example); errs != nil {
				t.Errorf("%s: example %d: %v", rule, i, errs)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	freeze := func(from, until string) string {
		return fmt.Sprintf(`freezes: [{name: a, from: "%s", until: "%s"}]`, from, until)
	}
	window := func(start, end string) string { return fmt.Sprintf(`windows: [{start: "%s", end: "%s"}]`, start, end) }
	zone := func(name string) string { return fmt.Sprintf("{windows: [], time_zone: %q}", name) }
	tests := []struct {
		rule, settings string
		valid          bool
		why            string
	}{
		{"calendar", `{}`, false, "it would do nothing, which nobody means"},
		{"calendar", `{domains: ["*"]}`, false, "likewise"},
		{"calendar", `windows: []`, true, "no restriction"},
		{"calendar", `freezes: []`, true, "what is left when the last freeze is taken out"},
		{"calendar", `{windows: [], freeze: []}`, false, "a misspelt key"},
		{"calendar", freeze("2026-12-24", "2027-01-03"), true, "dates"},
		{"calendar", freeze("2026-12-24T18:00", "2026-12-24 19:00:30"), true, "local times"},
		{"calendar", freeze("2026-12-24T18:00+01:00", "2026-12-24T18:00:00Z"), true, "times with their distance from UTC"},
		{"calendar", freeze("2028-02-29", "2028-02-29"), true, "a leap day"},
		{"calendar", freeze("2026-02-29", "2026-03-01"), false, "no leap year"},
		{"calendar", freeze("2026-06-31", "2026-07-01"), false, "June has 30 days"},
		{"calendar", freeze("2026-12-24T24:00", "2026-12-25"), false, "no time of day"},
		{"calendar", freeze("2026-12-24T18", "2026-12-25"), false, "no minutes"},
		{"calendar", freeze("24.12.2026", "2026-12-25"), false, "another way to write a date"},
		{"calendar", freeze("2026-12-24", "9999-12-31"), false, "nanoseconds end before that"},
		{"calendar", freeze("2026-12-24 ", "2026-12-25"), false, "a blank"},
		{"calendar", freeze("2026-12-24\\n", "2026-12-25"), false, "a line feed at the end"},
		{"calendar", `freezes: [{from: 2026-12-24, until: 2026-12-25}]`, false, "no name"},
		{"calendar", `freezes: [{name: a, from: 2026-12-24}]`, false, "no end"},
		{"calendar", `freezes: [{name: a, from: 2026-12-24, until: 2026-12-25, domains: []}]`, false, "it would be for none"},
		{"calendar", window("22:00", "06:00"), true, "over midnight"},
		{"calendar", window("00:00", "24:00"), true, "a whole day"},
		{"calendar", window("24:00", "06:00"), false, "a day does not start at its end"},
		{"calendar", window("9:00", "10:00"), false, "two digits"},
		{"calendar", window("22:00", "22:60"), false, "no time of day"},
		{"calendar", `windows: [{start: "22:00", end: "06:00", days: [mon, sun]}]`, true, "days"},
		{"calendar", `windows: [{start: "22:00", end: "06:00", days: [Monday]}]`, false, "days have short names"},
		{"calendar", `windows: [{start: "22:00", end: "06:00", days: []}]`, false, "it would never open"},
		{"calendar", `windows: [{start: "22:00"}]`, false, "no end"},
		{"calendar", `windows: [{start: 2200, end: 600}]`, false, "numbers"},
		{"calendar", zone("America/Argentina/Buenos_Aires"), true, "three parts"},
		{"calendar", zone("Etc/GMT+1"), true, "a sign"},
		{"calendar", zone("Local"), false, "another on each host"},
		{"calendar", zone(""), false, "empty"},
		{"calendar", zone("../UTC"), false, "a path"},
		{"calendar", zone("Europe/Berlin "), false, "a blank"},
		{"min_running", `{}`, false, "it would do nothing"},
		{"min_running", `groups: []`, false, "likewise"},
		{"min_running", `groups: [{name: a, min: 1, members: [dns-*]}]`, true, "members by name"},
		{"min_running", `groups: [{name: a, min: 1, metadata: {namespace: "urn:a"}}]`, true, "members by metadata"},
		{"min_running", `groups: [{name: a, min: 1, members: [a], metadata: {namespace: "urn:a", name: b, text: "", attributes: {c: d}}}]`, true, "both"},
		{"min_running", `groups: [{name: a, min: 1}]`, false, "no members"},
		{"min_running", `groups: [{name: a, members: [a]}]`, false, "no minimum"},
		{"min_running", `groups: [{min: 1, members: [a]}]`, false, "no name"},
		{"min_running", `groups: [{name: a, min: 0, members: [a]}]`, false, "it would do nothing"},
		{"min_running", `groups: [{name: a, min: 1.5, members: [a]}]`, false, "no whole number"},
		{"min_running", `groups: [{name: a, min: "1", members: [a]}]`, false, "no number"},
		{"min_running", `groups: [{name: a, min: 1, metadata: {name: b}}]`, false, "no namespace"},
		{"min_running", `groups: [{name: a, min: 1, metadata: {namespace: "urn:a", attributes: {c: 1}}}]`, false, "attributes are text"},
		{"block_job", `{}`, true, "on for all"},
		{"block_job", `{domains: [pg-*], jobs: [copy, active-commit, commit, pull, backup]}`, true, "every job"},
		{"block_job", `jobs: [mirror]`, false, "no job of libvirt's"},
		{"block_job", `jobs: []`, false, "it would do nothing"},
		{"block_job", `enabled: false`, false, "to switch it off, take the settings out"},
		{"protected_list", `{}`, true, "what it is without"},
		{"protected_list", `{file: /etc/list}`, false, "no setting of it"},
		{"protected_list", `operations: [stop, reset, modify]`, true, "what else the list protects against"},
		{"protected_list", `operations: [stop]`, true, "as without it"},
		{"protected_list", `operations: [reset]`, false, "nobody means to let go what is on the list"},
		{"protected_list", `operations: []`, false, "likewise"},
		{"protected_list", `operations: [stop, rest]`, false, "a misspelt operation"},
		{"protected_list", `operations: stop`, false, "no list"},
		{"calendar", `{freezes: [], operations: [stop, modify]}`, true, "a freeze may be of changes, too"},
		{"calendar", `{freezes: [], operations: [move]}`, false, "a stop is always among them"},
		{"calendar", `operations: [stop]`, false, "it would do nothing"},
		{"min_running", `{operations: [stop, move], groups: [{name: a, min: 1, members: [a]}]}`, true, "a move takes it from this host"},
		{"min_running", `{operations: [stop, modify], groups: [{name: a, min: 1, members: [a]}]}`, false, "to change it leaves it running"},
		{"min_running", `{operations: [move], groups: [{name: a, min: 1, members: [a]}]}`, false, "a stop is always among them"},
		{"block_job", `{operations: [stop, reset]}`, true, "as for stop"},
		{"block_job", `{operations: [stop, modify]}`, false, "a job outlives a change"},
		{"block_job", `{operations: [pause]}`, false, "a stop is always among them"},
		{"protection_mark", `{namespace: "urn:a"}`, false, "it has no settings"},
	}
	q := newQuery(t, askSchema)
	for _, tt := range tests {
		t.Run(tt.rule+"/"+tt.settings, func(t *testing.T) {
			var settings any
			if err := yaml.Unmarshal([]byte(tt.settings), &settings); err != nil {
				t.Fatal(err)
			}
			errs := settingsErrors(t, q, decode(t, schemaOf(t, tt.rule)), asText(settings))
			if (errs == nil) != tt.valid {
				t.Errorf("valid: want %t (%s), got %v", tt.valid, tt.why, errs)
			}
		})
	}
}

// asText leaves dates as they are written, as the engine does, and numbers as encoding/json has
// them.
func asText(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = asText(v[key])
		}
	case []any:
		for i := range v {
			v[i] = asText(v[i])
		}
	case int:
		return float64(v)
	case interface{ Format(string) string }:
		return v.Format("2006-01-02")
	}
	return value
}

// domainPattern returns the pattern of every schema for the name, UUID or glob of a domain.
func domainPattern(t testing.TB) *regexp.Regexp {
	t.Helper()
	patterns := map[string]bool{}
	for _, rule := range []string{"calendar", "min_running", "block_job"} {
		definition := decode(t, schemaOf(t, rule))["definitions"].(map[string]any)["domain"].(map[string]any)
		patterns[definition["pattern"].(string)] = true
	}
	if len(patterns) != 1 {
		t.Fatalf("the schemas differ in what a domain may be: %v", slices.Collect(maps.Keys(patterns)))
	}
	for pattern := range patterns {
		return regexp.MustCompile(pattern)
	}
	return nil
}

// A value that the schemas accept never makes stopguard.match fail, and matches as the protected
// list does. A domain's name contains neither a slash nor the character 0.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"pg-*", "pg-primary-01"}, {"?[a-c]", "éb"}, {"[^a-]*", "b"}, {`\[x]*`, "[x]y"}, {"{a,b}*", "a"}, {"db[1]", "db[1]"},
		{"[z-a]*", "b"}, {"[^z-a]?", "bc"}, {`[\]\-\d]`, "d"}, {"[[:alpha:]]", ":]"}, {"[^^]", "^"}, {"[!a]", "!"}, {"a**?", "abc"},
		{"[", "["}, {`*\`, "x"}, {"[]a]", "a"}, {"[-a]", "-"}, {"[a-]", "-"}, {"[^]", "a"}, {"[\\\n-é]*", "a\n"}, {"(?i)A*", "a"},
		{`\[!]*`, "[!]x"}, {"[[!]", "!"},
	} {
		f.Add(seed[0], seed[1])
	}
	q := newQuery(f, askMatch)
	accepted := domainPattern(f)
	f.Fuzz(func(t *testing.T, entry, name string) {
		if strings.ContainsAny(name, "/\x00") || name == "" || glob.Trim(entry) == "" || !isText(entry) || !isText(name) {
			t.Skip()
		}
		value, err := q.ask(t, []any{map[string]any{"entry": entry, "name": name}})
		if err != nil {
			if accepted.MatchString(entry) {
				t.Fatalf("%q, %q: the schemas accept it, and it fails: %v", entry, name, err)
			}
			return
		}
		if got, want := len(value.([]any)) == 1, glob.Match(entry, name); got != want {
			t.Errorf("%q matches %q: want %t, got %t", entry, name, want, got)
		}
	})
}

func isText(s string) bool { return s == strings.ToValidUTF8(s, "") && !strings.Contains(s, "\ufffd") }
