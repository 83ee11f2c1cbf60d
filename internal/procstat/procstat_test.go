package procstat

import (
	"strings"
	"testing"
)

func TestStartTime(t *testing.T) {
	rest := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	for _, tt := range []struct {
		stat string
		want uint64
		why  string
	}{
		{"7 (qemu)" + rest, 4242, ""},
		{"7 (a) S 1 2 (b)" + rest, 4242, "a process chooses its own name"},
		{"7 (qemu) S 1 2", 0, "cut"},
		{"", 0, "empty"},
		{"7 (qemu)" + strings.Replace(rest, "4242", "x", 1), 0, "not a number"},
	} {
		if got, ok := StartTime(tt.stat); got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%q: %d %v, want %d (%s)", tt.stat, got, ok, tt.want, tt.why)
		}
	}
}
