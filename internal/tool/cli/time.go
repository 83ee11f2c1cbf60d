package cli

import (
	"strings"
	"time"
)

const timeForms = "write 2027-06-30, which is that day's end in UTC, or 2027-06-30T12:00:00Z"

// ParseUntil parses a future time for a mark or a ticket. The returned text is the form for a mark.
func ParseUntil(option, s string, now time.Time) (time.Time, string, error) {
	at, err := time.Parse(time.DateOnly, s)
	text := s
	if err == nil {
		at = at.AddDate(0, 0, 1)
	} else {
		if at, err = time.Parse(time.RFC3339, s); err != nil || strings.Contains(s, ",") {
			return time.Time{}, "", Usage("%s %q is not a time; %s", option, s, timeForms)
		}
		at = at.UTC().Truncate(time.Second)
		text = at.Format(time.RFC3339)
	}
	switch {
	case at.Year() < 1970:
		return time.Time{}, "", Usage("%s %s is too early; %s", option, s, timeForms)
	case !at.After(now):
		return time.Time{}, "", Usage("%s %s has passed; give a time in the future", option, s)
	}
	return at, text, nil
}

// ParseSince reads a time gone by, or how long ago it was.
func ParseSince(s string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(form, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, Usage("--since %q is not a time; write 2h, 2026-11-22, which is its beginning in UTC, or 2026-11-22T12:00:00Z", s)
}

// ShownTime is a time in a table. A mark's 2027-06-30 ends at 2027-07-01T00:00Z.
func ShownTime(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02T15:04Z")
}
