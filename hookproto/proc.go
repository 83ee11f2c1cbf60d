package hookproto

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// exiting is PF_EXITING in the kernel's flag word. The process cannot return to life, but may stay
// for long while the kernel frees a guest's memory.
const exiting = 0x4

const maxCommandLine = 8 << 20 // bytes; the kernel's own limit is 6 MiB with default stack limits

// maxStat is larger than any stat entry: 52 numbers of at most 20 digits, and a name of at most 64
// bytes (the kernel's own workers').
const maxStat = 2048

var (
	errNoProcess = errors.New("no such process")
	errStat      = errors.New("its stat entry has an unknown form")
)

type stat struct {
	state byte
	flags uint64
	start uint64
}

// ending returns the way in which the process is exiting, or "".
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

// readStat returns errNoProcess only if the process surely does not exist: if /proc is not mounted,
// or mounted with hidepid, the entry of a living process is missing too.
func readStat(pid int) (stat, error) {
	var data [maxStat]byte
	n, err := readAtOnce(fmt.Sprintf("/proc/%d/stat", pid), data[:])
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		if _, self := os.Stat("/proc/self/stat"); self == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return stat{}, errNoProcess
		}
	}
	if err != nil {
		return stat{}, err
	}
	return parseStat(data[:n])
}

// readAtOnce reads with a single read(2), which returns all of a short entry of /proc. os.ReadFile
// takes twice as long, and each decision reads several entries.
func readAtOnce(path string, data []byte) (n int, err error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Close(fd) }()
	for {
		if n, err = syscall.Read(fd, data); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// parseStat counts fields from the last parenthesis. The field before it is a name that the process
// chose, which may contain blanks and parentheses (proc_pid_stat(5)).
func parseStat(data []byte) (stat, error) {
	const state, flags, start = 3, 9, 22 // fields, counted from 1 as the manual does
	var s stat
	n := state
	for field := range bytes.FieldsSeq(data[bytes.LastIndexByte(data, ')')+1:]) {
		var err error
		switch n {
		case state:
			if s.state = field[0]; len(field) != 1 {
				return stat{}, errStat
			}
		case flags:
			s.flags, err = strconv.ParseUint(string(field), 10, 64)
		case start:
			s.start, err = strconv.ParseUint(string(field), 10, 64)
		}
		if err != nil {
			return stat{}, errStat
		}
		if n == start {
			return s, nil
		}
		n++
	}
	return stat{}, errStat
}

// commandLine returns a process's arguments. They are empty, without an error, if the process has
// freed its memory or is the kernel's.
func commandLine(pid int) ([]string, error) {
	data, err := appendCommandLine(make([]byte, 0, 16<<10), pid, maxCommandLine) // QEMU's mostly fit
	if err == nil && len(data) >= maxCommandLine {
		err = errors.New("its command line is too long")
	}
	if err != nil {
		return nil, err
	}
	return splitArguments(data), nil
}

// appendCommandLine appends at most so many bytes of a process's arguments to data, each argument
// with a zero byte behind it, and returns data also with an error. os.Open makes twice as many
// system calls, and the search for a domain's process reads every process.
func appendCommandLine(data []byte, pid, most int) ([]byte, error) {
	fd, err := syscall.Open(fmt.Sprintf("/proc/%d/cmdline", pid), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return data, err
	}
	defer func() { _ = syscall.Close(fd) }()
	for end := len(data) + most; len(data) < end; {
		data = slices.Grow(data, 1)
		n, err := syscall.Read(fd, data[len(data):min(cap(data), end)])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return data, err
		case n == 0:
			return data, nil
		}
		data = data[:len(data)+n]
	}
	return data, nil
}

func splitArguments(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(data, []byte{0})), "\x00")
}

func hasArgument(args []string, want string) bool {
	for _, arg := range args {
		if strings.EqualFold(arg, want) {
			return true
		}
	}
	return false
}
