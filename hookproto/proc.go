package hookproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// exiting is PF_EXITING in the kernel's flag word: the process is past the point of no
// return, and may stay there for long while it frees a guest's memory.
const exiting = 0x4

const maxCommandLine = 8 << 20 // bytes; the kernel's own limit is 6 MiB with default stack limits

var errNoProcess = errors.New("no such process")

type stat struct {
	state byte
	flags uint64
	start uint64
}

// ending says in which way the process is on its way out, or "".
func (s stat) ending() string {
	switch {
	case s.state == 'Z':
		return "is a zombie"
	case s.state == 'X' || s.state == 'x':
		return "is dead"
	case s.flags&exiting != 0:
		return "is exiting"
	}
	return ""
}

// readStat returns errNoProcess only if there is surely none: with /proc not mounted, or
// mounted with hidepid, the entry of a living process is missing too.
func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		if _, self := os.Stat("/proc/self/stat"); self == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return stat{}, errNoProcess
		}
	}
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// parseStat counts from the last parenthesis: the field before it is a name that the
// process chose, and may hold blanks and parentheses itself (proc_pid_stat(5)).
func parseStat(data []byte) (stat, error) {
	const state, flags, start = 3, 9, 22 // fields, counted from 1 as the manual does
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	field := func(n int) string { return string(fields[n-state]) }
	if len(fields) <= start-state || len(field(state)) != 1 {
		return stat{}, errors.New("its stat entry has an unknown form")
	}
	s := stat{state: field(state)[0]}
	var errFlags, errStart error
	s.flags, errFlags = strconv.ParseUint(field(flags), 10, 64)
	s.start, errStart = strconv.ParseUint(field(start), 10, 64)
	if errFlags != nil || errStart != nil {
		return stat{}, errors.New("its stat entry has an unknown form")
	}
	return s, nil
}

// commandLine returns a process's arguments; none, without an error, if it has given up
// its memory or is the kernel's.
func commandLine(pid int) ([]string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxCommandLine+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxCommandLine {
		return nil, errors.New("its command line is too long")
	}
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(string(bytes.TrimSuffix(data, []byte{0})), "\x00"), nil
}

func hasArgument(args []string, want string) bool {
	for _, arg := range args {
		if strings.EqualFold(arg, want) {
			return true
		}
	}
	return false
}
