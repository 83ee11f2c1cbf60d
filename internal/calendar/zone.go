package calendar

import (
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a host may not have the database
)

// zones caches the loaded time zones. There are some 600 names.
var zones sync.Map // *time.Location by name

// Zone returns the time zone of a name of the IANA database. It returns an error for names that
// differ between hosts, or that count leap seconds.
func Zone(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	if isZoneName(name) {
		if zone, err := time.LoadLocation(name); err == nil {
			zones.Store(strings.Clone(name), zone)
			return zone, nil
		}
	}
	return nil, fmt.Errorf("there is no time zone %.60q; write an IANA name such as Europe/Berlin", name)
}

// isZoneName reports whether a name can be one of the database. A host's zoneinfo folder has other
// files, too.
func isZoneName(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case "right", "posix", "Local", "localtime", "posixrules", "Factory":
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			return false
		}
		for _, c := range []byte(part) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '+' || c == '-') {
				return false
			}
		}
	}
	return true
}

// clock returns the time that clocks show at a moment, as a time in UTC.
func clock(at time.Time, zone *time.Location) time.Time {
	return at.UTC().Add(offset(at, zone))
}

// offset returns the offset of clocks from UTC at a moment.
func offset(at time.Time, zone *time.Location) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// nextChange returns the first moment after at when clocks change; limit if they do not change
// before. It does not use Time.ZoneBounds, whose bounds do not contain the moment in some zones.
// Clocks do not change twice within step.
func nextChange(at, limit time.Time, zone *time.Location) time.Time {
	const step = 12 * time.Hour
	at = at.Truncate(time.Second)
	before := offset(at, zone)
	for at.Before(limit) {
		next := at.Add(step)
		if offset(next, zone) == before {
			at = next
			continue
		}
		for next.Sub(at) > time.Second {
			middle := at.Add(next.Sub(at) / 2).Truncate(time.Second)
			if offset(middle, zone) == before {
				at = middle
			} else {
				next = middle
			}
		}
		return next
	}
	return limit
}

// far is more than any zone's offset from UTC, and more than any change of clocks.
const far = 48 * time.Hour

// first returns the first moment at which clocks show wall or a later time. If clocks skip wall,
// that is the moment of the change.
func first(wall time.Time, zone *time.Location) time.Time {
	at, limit := wall.Add(-far), wall.Add(far)
	for at.Before(limit) {
		moment, change := wall.Add(-offset(at, zone)), nextChange(at, limit, zone)
		switch {
		case moment.Before(at):
			return at
		case moment.Before(change):
			return moment
		}
		at = change
	}
	return at
}

// last returns the moment after which clocks never show a time before wall. If they show wall
// twice, that is later than first.
func last(wall time.Time, zone *time.Location) time.Time {
	var moment time.Time
	for at, limit := wall.Add(-far), wall.Add(far); at.Before(limit); {
		reached, change := wall.Add(-offset(at, zone)), nextChange(at, limit, zone)
		if at.Before(reached) {
			moment = reached
			if change.Before(reached) {
				moment = change
			}
		}
		at = change
	}
	return moment
}
