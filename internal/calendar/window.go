package calendar

import (
	"fmt"
	"slices"
	"time"
)

// Weekdays are the names of the days in settings, in the order of [time.Weekday].
var Weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// A Window is a maintenance window. It is open while clocks in its zone show a time from its start
// to just before its end. A window across midnight belongs to the day on which it starts.
type Window struct {
	days       [7]bool
	start, end time.Duration // since midnight; end is after start, and may be on the next day
	zone       *time.Location
}

// ParseWindow reads a window. If days is empty, the window never opens. If end is not after start,
// it is on the next day.
func ParseWindow(days []string, start, end string, zone *time.Location) (Window, error) {
	w := Window{zone: zone}
	for _, day := range days {
		i := slices.Index(Weekdays, day)
		if i < 0 {
			return Window{}, fmt.Errorf("%.60q is not a day; write one of mon, tue, wed, thu, fri, sat, sun", day)
		}
		w.days[i] = true
	}
	var err error
	if w.start, err = parseTimeOfDay(start); err != nil || start == endOfDay {
		return Window{}, timeOfDayError(start)
	}
	if w.end, err = parseTimeOfDay(end); err != nil {
		return Window{}, timeOfDayError(end)
	}
	if w.end <= w.start {
		w.end += day
	}
	return w, nil
}

const (
	day      = 24 * time.Hour
	endOfDay = "24:00"
)

func parseTimeOfDay(text string) (time.Duration, error) {
	if text == endOfDay {
		return day, nil
	}
	if len(text) != len("15:04") {
		return 0, timeOfDayError(text)
	}
	at, err := time.Parse("15:04", text)
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, err
}

func timeOfDayError(text string) error {
	return fmt.Errorf("%.60q is not a time of day; write it as 22:00", text)
}

// IsOpen reports whether the window is open at a moment.
func (w Window) IsOpen(at time.Time) bool { return w.shows(clock(at, w.zone)) }

// shows reports whether the window is open while clocks show wall.
func (w Window) shows(wall time.Time) bool {
	midnight := wall.Truncate(day)
	for _, midnight := range []time.Time{midnight, midnight.Add(-day)} {
		since := wall.Sub(midnight)
		if w.days[midnight.Weekday()] && w.start <= since && since < w.end {
			return true
		}
	}
	return false
}

// search bounds the time in which NextOpening searches. Clocks may skip a window of one week, which
// opens in the next.
const search = 60 * day

// NextOpening returns the first moment at or after at when the window is open; the zero time if it
// does not open.
func (w Window) NextOpening(at time.Time) time.Time {
	if w.days == [7]bool{} {
		return time.Time{}
	}
	for from, limit := at, at.Add(search); from.Before(limit); {
		ahead, change := offset(from, w.zone), nextChange(from, limit, w.zone)
		if opening := w.nextShown(from.UTC().Add(ahead)).Add(-ahead); opening.Before(change) {
			return opening
		}
		from = change
	}
	return time.Time{}
}

// nextShown returns wall if the window is open then, and otherwise its next start, as clocks that
// are never changed show it.
func (w Window) nextShown(wall time.Time) time.Time {
	if w.shows(wall) {
		return wall
	}
	for midnight := wall.Truncate(day); ; midnight = midnight.Add(day) {
		if start := midnight.Add(w.start); w.days[midnight.Weekday()] && start.After(wall) {
			return start
		}
	}
}
