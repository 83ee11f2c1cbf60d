// Package calendar computes with points in time, freezes and maintenance windows as people write
// them in marks and settings. It knows the zones of the IANA database and every change of their
// clocks.
package calendar

import (
	"fmt"
	"strings"
	"time"
)

// A Moment is a point in time as people write it in a mark or a setting.
type Moment struct {
	At   time.Time // the end of the day for a date; never later than lastTime
	date string    // the date as written; "" for a time
}

// lastTime is the last time of RFC 3339. Otherwise the end of a mark until 9999-12-31 could not be
// written as JSON.
var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func newMoment(at time.Time, date string) Moment {
	if at = at.UTC(); at.After(lastTime) {
		at = lastTime
	}
	return Moment{at, date}
}

// ParseMoment reads an RFC 3339 time, or a date, which means the end of that day in UTC. It reports
// whether text is one of these, between the years 1970 and 9999.
func ParseMoment(text string) (Moment, bool) {
	if len(text) == len(time.DateOnly) {
		day, err := time.Parse(time.DateOnly, text)
		return newMoment(day.AddDate(0, 0, 1), text), err == nil && day.Year() >= 1970
	}
	// time.Parse also accepts a comma in place of a point, and one digit for the hour.
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || text[10] != 'T' || text[13] != ':' || strings.Contains(text, ",") {
		return Moment{}, false
	}
	if offset := text[len(text)-6:]; text[len(text)-1] != 'Z' && (offset[1:3] > "23" || offset[4:] > "59") {
		return Moment{}, false
	}
	return newMoment(at, ""), at.Year() >= 1970
}

// Passed reports whether the moment is at or before now.
func (m Moment) Passed(now time.Time) bool { return !now.Before(m.At) }

// String returns the moment in the form of a reason. A date is as written, and means the end of
// that day. A time, also midnight, is in UTC, as in 2027-06-30T00:00Z. Otherwise two marks that
// lapse a day apart would look the same.
func (m Moment) String() string {
	if m.date != "" {
		return m.date
	}
	return m.At.Format("2006-01-02T15:04Z")
}

// ParseNow reads a time in the form of input.time: RFC 3339 in UTC.
func ParseNow(text string) (time.Time, error) {
	if m, ok := ParseMoment(text); ok && m.date == "" && strings.HasSuffix(text, "Z") {
		return m.At, nil
	}
	return time.Time{}, fmt.Errorf("%.60q is not the time that it is; give input.time", text)
}

// bound is the beginning or end of a freeze: a date, a local time, or a time with its offset from
// UTC.
type bound struct {
	wall    time.Time
	isDate  bool
	isLocal bool
}

// boundLayouts are the layouts of a bound, by the length of its text. Texts of different layouts
// have different lengths.
var boundLayouts = map[int]string{
	len("2006-01-02"):                "2006-01-02",
	len("2006-01-02T15:04"):          "2006-01-02T15:04",
	len("2006-01-02T15:04Z"):         "2006-01-02T15:04Z07:00",
	len("2006-01-02T15:04:05"):       "2006-01-02T15:04:05",
	len("2006-01-02T15:04:05Z"):      "2006-01-02T15:04:05Z07:00",
	len("2006-01-02T15:04+01:00"):    "2006-01-02T15:04Z07:00",
	len("2006-01-02T15:04:05+01:00"): "2006-01-02T15:04:05Z07:00",
}

func parseBound(text string) (bound, error) {
	layout := boundLayouts[len(text)]
	at, err := time.Parse(layout, strings.Replace(text, " ", "T", 1))
	if layout == "" || err != nil {
		return bound{}, fmt.Errorf("%.60q is neither a date nor a time; write it as 2026-12-24 or 2026-12-24T18:00", text)
	}
	return bound{wall: at.UTC(), isDate: len(layout) == len(time.DateOnly), isLocal: !strings.Contains(layout, "Z")}, nil
}
