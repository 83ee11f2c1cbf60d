// Package procstat reads the text of /proc/PID/stat.
package procstat

import (
	"strconv"
	"strings"
)

// StartTime returns the start of a process, in clock ticks since the host started: the 22nd field
// of the text (proc_pid_stat(5)). The second field is a name of the process's choice, which may
// have blanks and parentheses. So the fields behind the last parenthesis are counted. StartTime
// reports false if the text is incomplete.
func StartTime(stat string) (ticks uint64, ok bool) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return ticks, err == nil && ticks != 0
}
