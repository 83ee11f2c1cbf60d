package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/policy/internal/jsontree"
)

func ticketsOf(t *testing.T, text string) (*Tickets, error) {
	t.Helper()
	value, err := jsontree.ParseValue([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return readTickets(value)
}

func TestTicketsApply(t *testing.T) {
	const uuid = "0f3c8a52-6d0e-4c1b-9a77-3b2f4de81c05"
	for _, tt := range []struct {
		settings, name, operation string
		want                      bool
		why                       string
	}{
		{`{"approvers": 2, "who": ["user:anna"]}`, "web-01", "pause", true, "all domains and operations"},
		{`{"approvers": 2, "who": ["user:anna"], "for": ["pg-*"]}`, "pg-01", "stop", true, "by a glob"},
		{`{"approvers": 2, "who": ["user:anna"], "for": ["` + uuid + `"]}`, "web-01", "stop", true, "by its UUID"},
		{`{"approvers": 2, "who": ["user:anna"], "for": ["pg-*"]}`, "web-01", "stop", false, "another domain"},
		{`{"approvers": 2, "who": ["user:anna"], "operations": ["stop"]}`, "web-01", "stop", true, ""},
		{`{"approvers": 2, "who": ["user:anna"], "operations": ["stop"]}`, "web-01", "delete", false, "another operation"},
		{`{"approvers": 2, "who": ["user:anna"], "operations": ["tamper"]}`, "web-01", "delete", true, "the former name"},
		{`{"approvers": 2, "who": ["user:anna"], "operations": ["delete"]}`, "web-01", "tamper", true, "one of the two that the former name means"},
		{`{"approvers": 2, "who": ["user:anna"], "operations": ["tamper"]}`, "web-01", "tamper", true, "both of them"},
		{`{"approvers": 2, "who": ["user:anna"], "operations": ["stop"]}`, "web-01", "tamper", false, "none of them"},
	} {
		s, err := ticketsOf(t, tt.settings)
		if err != nil || s.Applies(tt.name, uuid, tt.operation) != tt.want {
			t.Errorf("%s: %v, %v (%s)", tt.settings, s, err, tt.why)
		}
	}
	s, err := ticketsOf(t, `{"approvers": 1, "who": ["group:ops"], "approve_within": "30m", "break_glass": true}`)
	if err != nil || s.Within != 30*time.Minute || !s.BreakGlass || s.Approvers != 1 || s.Who[0] != "group:ops" {
		t.Error(s, err)
	}
}

func TestTicketsAreReadStrictly(t *testing.T) {
	for settings, want := range map[string]string{
		`[]`:                                                                  "is a list, not an object",
		`{"approver": 2}`:                                                     "data.site.tickets.approver is unknown",
		`{"who": ["user:a"]}`:                                                 "approvers must be a number from 1 to 10",
		`{"approvers": 2, "who": 1}`:                                          "data.site.tickets.who is a number",
		`{"approvers": 0, "who": ["user:a"]}`:                                 "approvers must be",
		`{"approvers": 11, "who": ["user:a"]}`:                                "approvers must be",
		`{"approvers": 1.5, "who": ["user:a"]}`:                               "approvers must be",
		`{"approvers": 2}`:                                                    "data.site.tickets.who is null",
		`{"approvers": 2, "who": []}`:                                         "who is empty",
		`{"approvers": 2, "who": ["anna"]}`:                                   `who has "anna"; write user:NAME or group:NAME`,
		`{"approvers": 2, "who": ["user:"]}`:                                  `who has "user:"`,
		`{"approvers": 2, "who": ["user:a"], "for": ["#"]}`:                   `data.site.tickets.for has "#"`,
		`{"approvers": 2, "who": ["user:a"], "for": "pg"}`:                    "data.site.tickets.for is a string",
		`{"approvers": 2, "who": ["user:a"], "operations": ["destroy"]}`:      `data.site.tickets.operations: the operation "destroy" is unknown`,
		`{"approvers": 2, "who": ["user:a"], "approve_within": 60}`:           "approve_within must be a time",
		`{"approvers": 2, "who": ["user:a"], "approve_within": "1000h"}`:      "approve_within must be a time",
		`{"approvers": 2, "who": ["user:a"], "break_glass": "only at night"}`: "break_glass is a string",
	} {
		if _, err := ticketsOf(t, settings); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", settings, err, want)
		}
	}
}
