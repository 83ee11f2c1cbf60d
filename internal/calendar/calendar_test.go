package calendar

import (
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment.UTC()
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestAZoneMeansTheSameOnEveryHost(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+1"} {
		if _, err := Zone(name); err != nil {
			t.Error(err)
		}
	}
	for name, why := range map[string]string{
		"right/Europe/Berlin": "counts leap seconds", "right/UTC": "counts leap seconds", "posix/UTC": "is not there on every host",
		"Local": "is the host's own", "localtime": "is the host's own", "posixrules": "is the host's own", "Factory": "means that none is set",
		"": "is empty", "Europe//Berlin": "is a path", "../UTC": "is a path", "./right/UTC": "is a path", "/UTC": "is a path",
		"Europe/Berln": "is not there", "europe/berlin ": "has a blank", "Europe": "is a folder",
	} {
		if _, err := Zone(name); err == nil {
			t.Errorf("%q is taken for a zone: it %s", name, why)
		}
	}
}

func TestFirstAndLast(t *testing.T) {
	tests := []struct{ wall, zone, first, last, why string }{
		{"2026-07-01T17:45:00Z", "Asia/Kathmandu", "2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z", "shown once"},
		{"2026-03-29T03:00:00Z", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "the end of an hour that is skipped"},
		{"2026-03-29T02:00:00Z", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "skipped"},
		{"2026-03-29T02:59:59Z", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "skipped"},
		{"2026-10-25T02:30:00Z", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "shown twice"},
		{"2026-10-25T03:00:00Z", "Europe/Berlin", "2026-10-25T02:00:00Z", "2026-10-25T02:00:00Z", "after an hour that is shown twice"},
		{"2011-12-30T12:00:00Z", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "a day that is skipped"},
	}
	for _, tt := range tests {
		wall, z := at(t, tt.wall), zone(t, tt.zone)
		if got := first(wall, z); !got.Equal(at(t, tt.first)) {
			t.Errorf("%s: first(%s, %s) = %s", tt.why, tt.wall, tt.zone, got)
		}
		if got := last(wall, z); !got.Equal(at(t, tt.last)) {
			t.Errorf("%s: last(%s, %s) = %s", tt.why, tt.wall, tt.zone, got)
		}
	}
}

func TestParseMoment(t *testing.T) {
	tests := []struct{ text, at, shown, why string }{
		{"2026-12-24", "2026-12-25T00:00:00Z", "2026-12-24", "a date lasts until its end"},
		{"9999-12-31", "9999-12-31T23:59:59Z", "9999-12-31", "for good, and not in the year 10000, which JSON does not have"},
		{"9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59Z", "nor by its offset"},
		{"2026-12-24T00:00:00Z", "2026-12-24T00:00:00Z", "2026-12-24T00:00Z", "midnight is not a date, which would be a day later"},
		{"2026-12-24T20:30:00+01:00", "2026-12-24T19:30:00Z", "2026-12-24T19:30Z", "shown in UTC"},
		{"2026-12-24T18:00:00.123Z", "2026-12-24T18:00:00.123Z", "2026-12-24T18:00Z", "fractions"},
	}
	for _, tt := range tests {
		m, ok := ParseMoment(tt.text)
		if !ok || m.String() != tt.shown || !m.At.Equal(at(t, tt.at)) {
			t.Errorf("%s: %s is %v (%s), %v", tt.why, tt.text, m.At, m, ok)
		}
	}
	for _, text := range strings.Split("|soon|2026-02-30|2026-12-24 |2026-12-24T18:00|2026-12-24T24:00:00Z|2026-12-24T5:00:00Z|2026-12-24T05:00:00,5Z|2026-12-24 18:00:00Z|"+
		"2026-12-24T18:00:00+24:00|2026-12-24T18:00:00+01:60|1969-12-31|20261224|2026-12-24t18:00:00z|2026-12-24T18:00:60Z|１９９９-01-01", "|") {
		if m, ok := ParseMoment(text); ok {
			t.Errorf("%q is read as %s", text, m)
		}
	}
}

func TestPassed(t *testing.T) {
	for _, tt := range []struct {
		until, now string
		want       bool
	}{
		{"2026-12-24", "2026-12-24T23:59:59Z", false},
		{"2026-12-24", "2026-12-25T00:00:00Z", true},
		{"2026-12-24T18:00:00Z", "2026-12-24T17:59:59Z", false},
		{"2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z", true},
		{"9999-12-31", "2026-12-24T18:00:00Z", false},
	} {
		if m, _ := ParseMoment(tt.until); m.Passed(at(t, tt.now)) != tt.want {
			t.Errorf("%s at %s: not %v", tt.until, tt.now, tt.want)
		}
	}
}

func TestParseNow(t *testing.T) {
	for text, want := range map[string]bool{
		"2026-12-24T18:00:00Z": true, "2026-12-24T18:00:00.5Z": true,
		"": false, "2026-12-24": false, "2026-12-24T18:00:00+01:00": false, "2026-12-24T18:00:00+00:00": false, "now": false,
	} {
		if _, err := ParseNow(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestBoundsAndWindowsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "2026-02-29", "2026-12-24T24:00", "2026-12-24T18", "24.12.2026", "2026-12-24 ", "2026-12-24T5:000", "2026-12-24T18:00:00.5Z", "2026-12-24T18:00:0a"} {
		if _, err := ParseFreeze(text, "2026-12-25", time.UTC); err == nil {
			t.Errorf("%q is read as a bound", text)
		}
	}
	for _, w := range [][3]string{{"mon", "24:00", "06:00"}, {"mon", "9:00", "10:00"}, {"mon", "22:00", "22:60"}, {"Mon", "22:00", "23:00"}, {"mon", "", "23:00"}, {"mon", "22:00", "2300 "}, {"mon", "2200", "06:00"}} {
		if _, err := ParseWindow(w[:1], w[1], w[2], time.UTC); err == nil {
			t.Errorf("%v is read as a window", w)
		}
	}
}

// The oracle knows nothing of how an opening is found: it looks at the window minute by minute.
func TestNextOpeningIsTheFirstMinuteAtWhichTheWindowIsOpen(t *testing.T) {
	for _, tt := range []struct{ zone, days, start, end, now string }{
		{"Europe/Berlin", "sun", "02:10", "02:50", "2026-03-29T00:59:00Z"}, // skipped
		{"Europe/Berlin", "sun", "02:15", "02:45", "2026-10-25T00:45:00Z"}, // comes twice
		{"Europe/Berlin", "sun", "01:00", "02:30", "2026-10-25T00:30:00Z"}, // opens again at the change
		{"America/Havana", "sun sat", "00:30", "01:00", "2026-03-08T04:00:00Z"},
		{"Australia/Lord_Howe", "sun", "01:45", "02:15", "2026-10-03T14:00:00Z"},
		{"Pacific/Apia", "fri", "12:00", "13:00", "2011-12-29T12:00:00Z"}, // the day is skipped
		{"UTC", "mon", "22:00", "22:00", "2026-06-10T12:00:00Z"},
		{"Pacific/Chatham", "tue", "23:30", "24:00", "2026-04-05T12:00:00Z"},
	} {
		w, err := ParseWindow(strings.Fields(tt.days), tt.start, tt.end, zone(t, tt.zone))
		if err != nil {
			t.Fatal(err)
		}
		want := at(t, tt.now)
		for !w.IsOpen(want) {
			want = want.Add(time.Minute)
		}
		if got := w.NextOpening(at(t, tt.now)); !got.Equal(want) {
			t.Errorf("%v: opens at %s, want %s", tt, got, want)
		}
	}
	if w, err := ParseWindow(nil, "22:00", "23:00", time.UTC); err != nil || !w.NextOpening(time.Now()).IsZero() {
		t.Error("a window without days opens")
	}
}
