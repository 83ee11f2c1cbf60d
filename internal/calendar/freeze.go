package calendar

import "time"

// A Freeze is a stretch of time.
type Freeze struct{ From, Until time.Time }

// ParseFreeze reads the bounds of a freeze. A date means the whole of that day. A freeze lasts from
// the first moment at which clocks in the zone show from to the last at which they show a time
// before until.
func ParseFreeze(from, until string, zone *time.Location) (Freeze, error) {
	start, err := parseBound(from)
	if err != nil {
		return Freeze{}, err
	}
	end, err := parseBound(until)
	if err != nil {
		return Freeze{}, err
	}
	f := Freeze{start.wall, end.wall}
	if start.isLocal {
		f.From = first(start.wall, zone)
	}
	if end.isDate {
		end.wall = end.wall.AddDate(0, 0, 1)
	}
	if end.isLocal {
		f.Until = last(end.wall, zone)
	}
	return f, nil
}

// IsEmpty reports whether the freeze does not end after it starts.
func (f Freeze) IsEmpty() bool { return !f.Until.After(f.From) }

// Contains reports whether the freeze is in force at a moment.
func (f Freeze) Contains(at time.Time) bool { return !at.Before(f.From) && at.Before(f.Until) }
