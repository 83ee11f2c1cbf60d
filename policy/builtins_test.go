package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// An argument that a built-in is not made for must not make it false: the rule would be silent.
func TestABuiltinFailsLoudly(t *testing.T) {
	const uuid = `"d19e7151-4c02-4aa7-a443-59213be70aba"`
	tests := []struct{ call, why string }{
		{`stopguard.match(null, input.domain.name, input.domain.uuid)`, "null for the entries"},
		{`stopguard.match("web-*", input.domain.name, input.domain.uuid)`, "text for the entries"},
		{`stopguard.match(7, input.domain.name, input.domain.uuid)`, "a number for the entries"},
		{`stopguard.match({"web-*": true}, input.domain.name, input.domain.uuid)`, "an object for the entries"},
		{`stopguard.match([7], input.domain.name, input.domain.uuid)`, "a number among the entries"},
		{`stopguard.match(["web-01", null], input.domain.name, input.domain.uuid)`, "null among the entries, behind one that matches"},
		{`stopguard.match([["web-*"]], input.domain.name, input.domain.uuid)`, "a list within the list"},
		{`stopguard.match([" "], input.domain.name, input.domain.uuid)`, "an empty entry"},
		{`stopguard.match(["web-["], input.domain.name, input.domain.uuid)`, "an entry that is not a pattern"},
		{`stopguard.match(["[!a]*"], input.domain.name, input.domain.uuid)`, "an entry that matches what it seems to leave out"},
		{`stopguard.match(["web-*"], input.domain.uuid, input.domain.name)`, "name and UUID swapped"},
		{`stopguard.match(input.domain.name, ["web-*"], input.domain.uuid)`, "name and entries swapped"},
		{`stopguard.match(["web-*"], input.domain.name, "")`, "no UUID"},
		{`stopguard.match(["web-*"], "", ` + uuid + `)`, "no name"},
		{`stopguard.match(["web-*"], input.domain.id, input.domain.uuid)`, "a number for the name"},
		{`stopguard.match(data.site.windowed.list, input.domain.name, input.domain.uuid)`, "a setting that is text"},
		{`stopguard.match(data.site.windowed.nothing, input.domain.name, input.domain.uuid)`, "a setting that is null"},
		{`match.one_of("web-*", input.domain.name, input.domain.uuid)`, "text for the entries, by the library's function"},
		{`match.one_of(null, input.domain.name, input.domain.uuid)`, "null, by the library's function"},
		{`match.one_of(input.domain.name, ["web-*"], input.domain.uuid)`, "swapped, by the library's function"},
		{`not match.one_of(null, input.domain.name, input.domain.uuid)`, "negated"},
		{`stopguard.passed(7, input.time)`, "a number for a time"},
		{`stopguard.passed(null, input.time)`, "null for a time"},
		{`stopguard.passed("", input.time)`, "no time"},
		{`stopguard.passed("soon", input.time)`, "no time"},
		{`stopguard.passed("2026-06-31", input.time)`, "no such day"},
		{`stopguard.passed(input.time, "2027-06-30")`, "swapped"},
		{`stopguard.passed("2027-06-30", time.parse_rfc3339_ns(input.time))`, "nanoseconds"},
		{`stopguard.passed("2027-06-30", "2027-06-30T00:00:00+01:00")`, "not as input.time has it"},
		{`when.passed(null)`, "null, by the library's function"},
		{`when.passed(20270630)`, "a number, by the library's function"},
		{`when.readable(["2027-06-30"])`, "a list, by the library's function"},
		{`when.shown(7) == "7"`, "a number, by the library's function"},
		{`stopguard.shown("soon") == "soon"`, "no time"},
		{`stopguard.freeze("2026-12-24", "UTC", input.time).in_force`, "text for the freeze"},
		{`stopguard.freeze({"from": "2026-12-24"}, "UTC", input.time).in_force`, "no end"},
		{`stopguard.freeze({"from": "2026-12-24", "until": 20261225}, "UTC", input.time).in_force`, "a number for the end"},
		{`stopguard.freeze({"from": "24.12.2026", "until": "2026-12-25"}, "UTC", input.time).in_force`, "not a date"},
		{`stopguard.freeze({"from": "2026-12-24", "until": "2026-12-25"}, "Berlin", input.time).in_force`, "no zone"},
		{`stopguard.freeze({"from": "2026-12-24", "until": "2026-12-25"}, "right/UTC", input.time).in_force`, "a zone with leap seconds"},
		{`stopguard.freeze({"from": "2026-12-24", "until": "2026-12-25", "time_zone": ""}, "UTC", input.time).in_force`, "an empty zone"},
		{`stopguard.freeze({"from": "2026-12-24", "until": "2026-12-25"}, input.time, "UTC").in_force`, "swapped"},
		{`stopguard.window([], "UTC", input.time).is_open`, "a list for the window"},
		{`stopguard.window({"start": "22:00"}, "UTC", input.time).is_open`, "no end"},
		{`stopguard.window({"start": 2200, "end": 400}, "UTC", input.time).is_open`, "numbers"},
		{`stopguard.window({"start": "9:00", "end": "10:00"}, "UTC", input.time).is_open`, "not a time of day"},
		{`stopguard.window({"start": "09:00", "end": "10:00", "days": "mon"}, "UTC", input.time).is_open`, "text for the days"},
		{`stopguard.window({"start": "09:00", "end": "10:00", "days": ["Monday"]}, "UTC", input.time).is_open`, "not a day"},
		{`stopguard.window({"start": "09:00", "end": "10:00", "days": null}, "UTC", input.time).is_open`, "null for the days"},
		{`stopguard.window({"start": "09:00", "end": "10:00"}, null, input.time).is_open`, "null for the zone"},
		{`stopguard.quoted(7) == "7"`, "a number for text"},
		{`stopguard.quoted(null) == ""`, "null for text"},
	}
	for _, tt := range tests {
		rule := "package stopguard.rules.windowed\n\n"
		for _, helper := range []string{"match", "when"} {
			if strings.Contains(tt.call, helper+".") && !strings.Contains(tt.call, "stopguard."+helper) {
				rule += "import data.stopguard." + helper + "\n\n"
			}
		}
		e, err := New(context.Background(), Config{Sites: site(
			"windowed.rego", rule+"veto contains \"fired\" if {\n\tinput.domain.name != \"\"\n\t"+tt.call+"\n}",
			"data.json", `{"site": {"windowed": {"list": "web-*", "nothing": null}}}`,
		)})
		if err != nil {
			if !strings.Contains(err.Error(), "windowed.rego:") || !strings.Contains(err.Error(), ";") {
				t.Errorf("%s: %s: %v", tt.why, tt.call, err)
			}
			continue
		}
		for range 2 { // also once the engine is warm
			d := decide(t, e, ask(parseDomain(t, plainDomain)))
			if len(d.Reasons) != 1 || !strings.HasPrefix(d.Reasons[0].Message, "rule failed: ") || d.Reasons[0].Rule != "windowed" {
				t.Errorf("%s: %s: %+v", tt.why, tt.call, d)
			}
		}
	}
}

// What the compiler can tell is an error when the rule is loaded.
func TestTheTypesOfBuiltinsAreChecked(t *testing.T) {
	for _, call := range []string{
		`stopguard.match(null, input.domain.name, input.domain.uuid)`,
		`stopguard.match("web-*", input.domain.name, input.domain.uuid)`,
		`stopguard.match(input.domain.name, ["web-*"], input.domain.uuid)`,
		`stopguard.match([7], input.domain.name, input.domain.uuid)`,
		`stopguard.passed(input.domain.id, input.time)`,
		`stopguard.passed("2027-06-30", time.parse_rfc3339_ns(input.time))`,
		`stopguard.window("22:00", "UTC", input.time).is_open`,
		`stopguard.window({"start": "22:00", "end": "23:00"}, "UTC", input.time).open`,
		`stopguard.freeze({"from": "2026-12-24", "until": "2026-12-25"}, "UTC", input.time).in_force == "yes"`,
	} {
		_, err := New(context.Background(), Config{Sites: site("freeze.rego", head+"veto contains \"x\" if "+call)})
		testhost.WantError(t, err, "freeze.rego:")
	}
}

func TestATimeZoneOfTheHostsOwnDoesNotLoad(t *testing.T) {
	for _, zone := range []string{"right/Europe/Berlin", "posix/UTC", "localtime", "Factory"} {
		_, err := New(context.Background(), Config{Sites: site("data.json", `{"site": {"calendar": {"windows": [], "time_zone": "`+zone+`"}}}`)})
		testhost.WantError(t, err, "there is no time zone", "Europe/Berlin")
	}
}
