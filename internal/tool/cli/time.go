package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
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

// ParseSince parses a past time, or a duration before now.
func ParseSince(s string, now time.Time) (time.Time, error) {
	if ago, err := parseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(form, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, Usage("--since %q is not a time; write 2h, 7d, 2026-11-22, which is its beginning in UTC, or 2026-11-22T12:00:00Z", s)
}

// parseDuration reads a duration, such as 90d, 1d12h or 30m. A day has 24 hours.
func parseDuration(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, Usage("%q is not a duration; write 90d, 12h or 30m", s)
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}

// DurationVar adds an option for a duration in days, hours or minutes.
func DurationVar(c *cobra.Command, value *time.Duration, name string, otherwise time.Duration, usage string) {
	*value = otherwise
	c.Flags().Var((*durationValue)(value), name, usage)
}

type durationValue time.Duration

func (d *durationValue) Set(s string) error {
	parsed, err := parseDuration(s)
	*d = durationValue(parsed)
	return err
}

// String returns "0" for a zero duration, which help texts leave out.
func (d *durationValue) String() string {
	if *d == 0 {
		return "0"
	}
	return time.Duration(*d).String()
}

func (*durationValue) Type() string { return "duration" }

// ShownTime returns a time in the form of a table. A mark until 2027-06-30 ends at
// 2027-07-01T00:00Z.
func ShownTime(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02T15:04Z")
}
