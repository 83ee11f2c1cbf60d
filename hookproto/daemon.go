package hookproto

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// A daemon is libvirt's daemon that runs the QEMU driver. Only it stops QEMU domains and holds
// their monitors.
type daemon struct {
	pid  int    // its process ID here; 0 if its process is not visible
	name string // "libvirtd" or "virtqemud"
}

// daemonFiles are the pid files of a daemon that runs the QEMU driver, below a run directory. The
// daemon holds a lock on each for as long as it runs. driver.pid exists since libvirt 5.6.
var daemonFiles = []string{"qemu/driver.pid", "virtqemud.pid", "libvirtd.pid"}

// daemon returns the daemon whose process is visible in this PID namespace. Without it, a process
// that is missing from /proc may live in another PID namespace, and a missing monitor connection
// may be that of a daemon that does not run.
func (h Host) daemon() daemon {
	for path := range h.daemonPaths {
		if d := daemonOf(path); d.pid > 0 {
			return d
		}
	}
	return daemon{}
}

// daemonPaths yields the paths of the pid files that a daemon may have.
func (h Host) daemonPaths(yield func(string) bool) {
	for _, run := range []string{"/run/libvirt/", "/var/run/libvirt/", "/run/", "/var/run/"} {
		for _, file := range daemonFiles {
			if strings.HasSuffix(run, "/libvirt/") == strings.HasPrefix(file, "qemu/") && !yield(h.path(run+file)) {
				return
			}
		}
	}
}

// IsDaemonElsewhere reports whether libvirt's daemon runs in another PID namespace than this
// process, which then cannot tell whether a guest's process is gone.
func (h Host) IsDaemonElsewhere() bool {
	for path := range h.daemonPaths {
		f, err := openPIDFile(path)
		if err != nil {
			continue
		}
		holder, isLocked := lockHolder(f)
		_ = f.Close()
		if isLocked && holder <= 0 {
			return true
		}
	}
	return false
}

// daemonOf returns the daemon that a pid file names. A daemon writes its process ID in its own PID
// namespace, and holds a lock, whose holder the kernel names by its process ID in this one: 0 if
// the daemon is not visible here, and another number if it is in a namespace below this one.
// Without a lock, the content counts if that process has a daemon's name.
func daemonOf(path string) daemon {
	f, err := openPIDFile(path)
	if err != nil {
		return daemon{}
	}
	defer func() { _ = f.Close() }()
	content := make([]byte, maxPIDFile)
	n, err := f.Read(content)
	if err != nil {
		return daemon{}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content[:n])))
	if err != nil {
		return daemon{}
	}
	if holder, isLocked := lockHolder(f); isLocked && holder != pid {
		return daemon{}
	}
	return daemonAt(pid)
}

// openPIDFile opens a daemon's pid file. O_NONBLOCK keeps it from blocking on a FIFO in its place.
func openPIDFile(path string) (*os.File, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pid file"), nil
}

// lockHolder returns the process that holds the write lock on a daemon's pid file, by its process
// ID here; 0 or less if it is not visible here. A read lock is ignored, because every user may take
// one.
func lockHolder(f *os.File) (pid int, isLocked bool) {
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Len: 1}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil || lock.Type != syscall.F_WRLCK {
		return 0, false
	}
	return int(lock.Pid), true
}

// daemonAt returns the daemon with a process ID, if it is alive and has a daemon's name.
func daemonAt(pid int) daemon {
	if pid <= 0 {
		return daemon{}
	}
	var data [64]byte
	n, err := readAtOnce(fmt.Sprintf("/proc/%d/comm", pid), data[:])
	if err != nil {
		return daemon{}
	}
	name := strings.TrimSuffix(string(data[:n]), "\n")
	if name != "libvirtd" && name != "virtqemud" {
		return daemon{}
	}
	if s, err := readStat(pid); err != nil || s.ending() != "" || !isInThisNamespace(pid) {
		return daemon{}
	}
	return daemon{pid: pid, name: name}
}

// isInThisNamespace reports whether a process is in this PID namespace, and not in one below it:
// the kernel lists its process ID in each namespace from this one on.
func isInThisNamespace(pid int) bool {
	var data [4 << 10]byte
	n, err := readAtOnce(fmt.Sprintf("/proc/%d/status", pid), data[:])
	if err != nil {
		return false
	}
	_, list, found := strings.Cut(string(data[:n]), "\nNSpid:")
	list, _, _ = strings.Cut(list, "\n")
	return !found || len(strings.Fields(list)) == 1 // kernels older than 4.1 list none
}

// socketName returns the name of the socket that the daemon listens on. virtproxyd and systemd
// listen on a libvirt-sock, too, without holding a monitor.
func (d daemon) socketName() string {
	if d.name == "virtqemud" {
		return "virtqemud-sock"
	}
	return "libvirt-sock"
}

// The limits of the search for a domain's process. Any user's process may show memory without end
// as its arguments. libvirt puts a domain's name and UUID before anything that can be long.
const (
	maxProcesses   = 100_000
	maxSearched    = 256 << 10 // bytes of one process' arguments
	maxSearchedAll = 64 << 20  // bytes of those of all processes
)

// findGuest returns the process ID of a QEMU of the daemon that runs the domain with the name or
// the UUID; 0 if there is none. An empty name or UUID matches nothing. It is an error if a process
// cannot be examined.
func (d daemon) findGuest(name, uuid string) (int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	if len(entries) > maxProcesses {
		return 0, errors.New("there are too many processes to look through")
	}
	data, searched := make([]byte, 0, 16<<10), 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil {
			continue
		}
		data, err = appendCommandLine(data[:0], pid, maxSearched)
		searched += len(data)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
			continue // it has ended
		case err != nil:
			return 0, err
		case runs(data, name, uuid) && !d.isElsewhere(pid):
			return pid, nil
		case searched > maxSearchedAll:
			return 0, errors.New("their arguments are too long to look through")
		}
	}
	return 0, nil
}

// isElsewhere reports whether a process is in another PID namespace than the daemon, and so is
// another daemon's. It is false if that cannot be told.
func (d daemon) isElsewhere(pid int) bool {
	ours, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", d.pid))
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return err == nil && ours != theirs
}

// runs reports whether a command line is that of a QEMU that runs the domain.
func runs(commandLine []byte, name, uuid string) bool {
	return hasValue(commandLine, "-uuid", func(value string) bool { return uuid != "" && strings.EqualFold(value, uuid) }) ||
		hasValue(commandLine, "-name", func(value string) bool { return name != "" && guestName(value) == name })
}

// hasValue reports whether an option in a command line has such a value. It does not divide the
// command line, which may have a million empty arguments.
func hasValue(commandLine []byte, option string, isWanted func(value string) bool) bool {
	mark := []byte("\x00" + option + "\x00")
	for {
		at := bytes.Index(commandLine, mark)
		if at < 0 {
			return false
		}
		commandLine = commandLine[at+len(mark)-1:] // the next option may be the value
		value, _, _ := bytes.Cut(commandLine[1:], []byte{0})
		if isWanted(string(value)) {
			return true
		}
	}
}

// guestName returns the domain's name in the value of QEMU's option -name as libvirt writes it,
// such as "guest=web-01,debug-threads=on"; "" if there is none. A comma in the name is doubled.
func guestName(value string) string {
	const double, mark = ",,", "\x00"
	first, _, _ := strings.Cut(strings.ReplaceAll(value, double, mark), ",")
	name, isGuest := strings.CutPrefix(first, "guest=")
	if !isGuest {
		return ""
	}
	return strings.ReplaceAll(name, mark, ",")
}
