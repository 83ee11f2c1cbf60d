// Package procstat reads the text of /proc/PID/stat.
package procstat

import (
	"strconv"
	"strings"
)

// StartTime returns when a process started, in clock ticks since the host did: the 22nd field of
// the text (proc_pid_stat(5)). The second field is a name that the process chose, which may hold
// blanks and parentheses, so that the rest is counted from the last one. StartTime returns false if
// the text is not whole.
func StartTime(stat string) (ticks uint64, ok bool) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return ticks, err == nil && ticks != 0
}
