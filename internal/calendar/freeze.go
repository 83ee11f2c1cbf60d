package calendar

import "time"

// A Freeze is a period of time, from From to just before Until.
type Freeze struct{ From, Until time.Time }

// ParseFreeze reads the bounds of a freeze. A date means the whole of that day. The freeze begins
// when clocks in the zone first show from. It ends when they have shown a time before until for the
// last time.
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
