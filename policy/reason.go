package policy

import (
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// wrongShape is the message of a reason that cannot be read. Such a reason vetoes all the same.
const wrongShape = "reason has the wrong shape"

// readReason reads a member of a rule's veto set: a non-empty string or exactly {message, until?}.
func readReason(rule string, term *ast.Term) Reason {
	wrong := Reason{Rule: rule, Message: wrongShape}
	switch v := term.Value.(type) {
	case ast.String:
		if strings.TrimSpace(string(v)) == "" {
			return wrong
		}
		return Reason{Rule: rule, Message: string(v)}
	case ast.Object:
		message, hasMessage := regovalue.MemberText(v, "message")
		until, hasUntil := regovalue.MemberText(v, "until")
		if !hasMessage || strings.TrimSpace(message) == "" {
			return wrong
		}
		if !hasUntil {
			if v.Len() != 1 {
				return wrong
			}
			return Reason{Rule: rule, Message: message}
		}
		at, ok := parseUntil(until)
		if !ok || v.Len() != 2 {
			return wrong
		}
		return Reason{Rule: rule, Message: message, Until: at}
	}
	return wrong
}

// lastTime is the last time that RFC 3339 can represent. The end of a mark until 9999-12-31 would
// be later.
var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// parseUntil reads an RFC 3339 time, or a date, which means that day's end in UTC.
func parseUntil(s string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339, s)
	if day, dayErr := time.Parse(time.DateOnly, s); dayErr == nil {
		at, err = day.AddDate(0, 0, 1), nil
	}
	at = at.UTC()
	if at.After(lastTime) {
		at = lastTime
	}
	return at, err == nil && at.Year() > 0
}
