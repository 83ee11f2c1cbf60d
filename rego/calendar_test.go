package rego_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// zones are time zones whose clocks change at different times of day and by different amounts, at
// midnight, or twice in a month; one that has skipped a day; and one that never changes.
var zones = strings.Fields(`UTC Europe/Berlin America/New_York Australia/Lord_Howe America/St_Johns Atlantic/Azores Africa/Cairo
	Africa/Casablanca America/Havana America/Sao_Paulo Asia/Beirut Asia/Gaza Pacific/Apia Pacific/Chatham Asia/Kathmandu`)

var weekdays = strings.Fields("sun mon tue wed thu fri sat")

const minute = time.Minute

var (
	seed  = flag.Uint64("seed", 1, "of random cases")
	cases = flag.Int("cases", 60, "random cases of the calendar")
)

// The oracle does not use the rule's way to find a moment: it looks at the clock, minute by minute.
type oracleWindow struct {
	zone       *time.Location
	days       []string
	start, end string
}

func (w oracleWindow) isOpen(at time.Time) bool {
	local := at.In(w.zone)
	now := local.Format("15:04")
	today := slices.Contains(w.days, weekdays[local.Weekday()])
	yesterday := slices.Contains(w.days, weekdays[(local.Weekday()+6)%7])
	if w.start < w.end {
		return today && w.start <= now && now < w.end
	}
	return today && w.start <= now || yesterday && now < w.end
}

func isOpen(windows []oracleWindow, at time.Time) bool {
	return slices.ContainsFunc(windows, func(w oracleWindow) bool { return w.isOpen(at) })
}

func nextOpening(windows []oracleWindow, at time.Time) time.Time {
	for at = at.Truncate(minute).Add(minute); !isOpen(windows, at); at = at.Add(minute) {
	}
	return at
}

// wall returns the clock's reading as a time in UTC.
func wall(at time.Time, zone *time.Location) time.Time {
	_, distance := at.In(zone).Zone()
	return at.UTC().Add(time.Duration(distance) * time.Second)
}

// firstShown and afterLastBefore look at every minute within hours of the same reading in UTC.
func firstShown(shown time.Time, zone *time.Location) time.Time {
	at := shown.Add(-40 * time.Hour)
	for wall(at, zone).Before(shown) {
		at = at.Add(minute)
	}
	return at
}

func afterLastBefore(shown time.Time, zone *time.Location) time.Time {
	at := shown.Add(40 * time.Hour)
	for !wall(at.Add(-minute), zone).Before(shown) {
		at = at.Add(-minute)
	}
	return at
}

func mustParse(text string) time.Time {
	if isDate(text) {
		text += "T00:00"
	}
	at, err := time.Parse("2006-01-02T15:04", text)
	if err != nil {
		panic(err)
	}
	return at
}

func isDate(text string) bool { return len(text) == len("2006-01-02") }

func TestCalendarAgreesWithALookAtTheClock(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 0))
	q := newQuery(t, askCalendar)
	for i := range *cases {
		zone := pick(random, zones)
		near := someChange(random, zone)
		windows := someWindows(random, zone, near)
		freezes := someFreezes(random, zone, near)
		settings := map[string]any{"windows": settingsOf(windows), "freezes": freezes}
		at := near.Add(time.Duration(random.Int64N(int64(60*time.Hour)) - int64(30*time.Hour))).Truncate(time.Second)
		for _, at := range []time.Time{at, near.Add(-time.Second), near} {
			if !agrees(t, q, settings, windows, freezes, at) {
				t.Fatalf("case %d of seed %d", i, *seed)
			}
		}
	}
}

// agrees compares all reasons at a moment, and those at each until and a second before.
func agrees(t *testing.T, q query, settings map[string]any, windows []oracleWindow, freezes []any, at time.Time) bool {
	t.Helper()
	want := oracle(windows, freezes, at)
	moments := []time.Time{at}
	for _, reason := range want {
		_, until, lapsing := strings.Cut(reason, " ")
		if !lapsing {
			continue
		}
		lapses, err := time.Parse(time.RFC3339, until)
		if err != nil {
			t.Fatal(err)
		}
		moments = append(moments, lapses.Add(-time.Second), lapses)
	}
	for _, moment := range moments {
		got, err := q.ask(t, map[string]any{"request": requestAt(moment), "settings": settings})
		if err != nil {
			t.Errorf("%v at %s: %v", settings, moment, err)
			return false
		}
		if diff := cmp.Diff(oracle(windows, freezes, moment), untils(got)); diff != "" {
			t.Errorf("%v at %s: the clock (-) and the rule (+):\n%s", settings, moment.Format(time.RFC3339), diff)
			return false
		}
	}
	return true
}

// oracle returns the vetoes, each with the moment until which it lasts.
func oracle(windows []oracleWindow, freezes []any, at time.Time) []string {
	reasons := []string{}
	if len(windows) > 0 && !isOpen(windows, at) {
		reasons = append(reasons, "outside "+nextOpening(windows, at).UTC().Format(time.RFC3339))
	}
	for _, item := range freezes {
		freeze := item.(map[string]any)
		zone, err := time.LoadLocation(freeze["time_zone"].(string))
		if err != nil {
			panic(err)
		}
		start := firstShown(mustParse(freeze["from"].(string)), zone)
		until := mustParse(freeze["until"].(string))
		if isDate(freeze["until"].(string)) {
			until = until.AddDate(0, 0, 1)
		}
		end := afterLastBefore(until, zone)
		switch {
		case !start.Before(end):
			reasons = append(reasons, "mistake")
		case !at.Before(start) && at.Before(end):
			reasons = append(reasons, "freeze "+end.UTC().Format(time.RFC3339))
		}
	}
	slices.Sort(reasons)
	return slices.Compact(reasons)
}

func untils(vetoes any) []string {
	reasons := []string{}
	for _, reason := range vetoes.([]any) {
		object, ok := reason.(map[string]any)
		switch {
		case !ok:
			reasons = append(reasons, "mistake")
		case strings.HasPrefix(object["message"].(string), "change freeze"):
			reasons = append(reasons, "freeze "+object["until"].(string))
		default:
			reasons = append(reasons, "outside "+object["until"].(string))
		}
	}
	slices.Sort(reasons)
	return slices.Compact(reasons)
}

func requestAt(at time.Time) map[string]any {
	return map[string]any{
		"operation": "stop",
		"time":      at.UTC().Format(time.RFC3339),
		"domain": map[string]any{
			"name": "pg-primary-01", "uuid": "d19e7151-4c02-4aa7-a443-59213be70aba", "state": "running", "reason": "booted",
		},
	}
}

func pick[T any](random *rand.Rand, from []T) T { return from[random.IntN(len(from))] }

// someChange returns a moment at which the zone's clocks change, or any moment if they do not
// change in that year.
func someChange(random *rand.Rand, name string) time.Time {
	zone, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	at := time.Date(2005+random.IntN(45), 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(random.IntN(365*24)) * time.Hour)
	if _, end := at.In(zone).ZoneBounds(); !end.IsZero() && end.Sub(at) < 365*24*time.Hour {
		return end.UTC()
	}
	return at
}

// someWindows returns windows with bounds within hours of the clock's reading at the change, where
// errors would show.
func someWindows(random *rand.Rand, name string, near time.Time) []oracleWindow {
	windows := make([]oracleWindow, random.IntN(3))
	for i := range windows {
		if random.IntN(4) == 0 {
			name = pick(random, zones)
		}
		zone, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		days := slices.Clone(weekdays)
		random.Shuffle(len(days), func(i, j int) { days[i], days[j] = days[j], days[i] })
		start := someTime(random, near.In(zone)).Format("15:04")
		end := someTime(random, near.In(zone)).Format("15:04")
		switch random.IntN(8) {
		case 0:
			end = start
		case 1:
			end = "24:00"
		}
		windows[i] = oracleWindow{zone, days[:1+random.IntN(7)], start, end}
	}
	return windows
}

func someTime(random *rand.Rand, near time.Time) time.Time {
	spread := pick(random, []int{90, 600})
	step := pick(random, []int{1, 15, 30})
	return near.Truncate(minute).Add(time.Duration((random.IntN(2*spread)-spread)/step*step) * minute)
}

func settingsOf(windows []oracleWindow) []any {
	settings := []any{}
	for _, w := range windows {
		days := []any{}
		for _, day := range w.days {
			days = append(days, day)
		}
		settings = append(settings, map[string]any{"days": days, "start": w.start, "end": w.end, "time_zone": w.zone.String()})
	}
	return settings
}

func someFreezes(random *rand.Rand, name string, near time.Time) []any {
	zone, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	freezes := []any{}
	for i := range random.IntN(3) {
		// Not a time of the zone, but a reading of its clocks before the change, moved on as in
		// UTC: it may be skipped.
		from := someTime(random, wall(near.Add(-minute), zone))
		until := from.Add(time.Duration(random.IntN(240)-20) * minute)
		layout := pick(random, []string{"2006-01-02", "2006-01-02T15:04"})
		freezes = append(freezes, map[string]any{
			"name": fmt.Sprint("freeze ", i), "from": from.Format(layout), "until": until.Format(layout), "time_zone": name,
		})
	}
	return freezes
}

func TestAZoneThatIsNotKnownIsNamedInTheError(t *testing.T) {
	settings := map[string]any{"time_zone": "Europe/Berln", "windows": []any{map[string]any{"start": "22:00", "end": "06:00"}}}
	_, err := newQuery(t, askCalendar).ask(t, map[string]any{"request": requestAt(time.Unix(1790000000, 0)), "settings": settings})
	if err == nil || !strings.Contains(err.Error(), "there is no time zone \"Europe/Berln\"") {
		t.Errorf("got error %v", err)
	}
}

func BenchmarkCalendarOutsideTenWindows(b *testing.B) {
	q := newQuery(b, askCalendar)
	windows := []any{}
	for range 10 {
		windows = append(windows, map[string]any{"start": "02:00", "end": "04:00", "time_zone": "Europe/Berlin"})
	}
	in := map[string]any{"request": requestAt(time.Unix(1790000000, 0)), "settings": map[string]any{"windows": windows}}
	for b.Loop() {
		if _, err := q.ask(b, in); err != nil {
			b.Fatal(err)
		}
	}
}
