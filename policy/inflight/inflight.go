// Package inflight keeps the stops that have been allowed and are under way, so that two that are decided at the same time
// see each other: a rule that counts who is left would otherwise let both go, each counting the other.
//
// The ledger is a file for each domain in /run/stopguard/underway, and a lock there. Who decides holds the lock from before it
// counts until after it has added what it allows. The kernel frees the lock of a process that dies. An entry lasts until the
// process of its incarnation ends, whether or not the stop came about: a domain that may go away at any moment is not one to
// rely on.
package inflight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

const (
	home     = "/run/stopguard/underway"
	prefix   = "underway: " // of every error: the folder's name
	maxNames = 10_000       // files in the folder
	maxFile  = 64           // bytes; a PID and a start time are 30 at most
	maxPID   = 1 << 22      // the kernel's own limit
	temp     = ".adding"    // one is enough under the lock
	lockName = "lock"

	shortest = 500 * time.Microsecond // between two tries of the lock
	longest  = 10 * time.Millisecond
)

// A Ledger is the stops that are under way on this host, while no other process can add to them. It must be closed, and must
// not be used by several goroutines at once.
type Ledger struct {
	root    *os.Root // the folder
	path    string   // of it, for messages
	lock    *os.File
	entries map[string]entry // by UUID
	reports []error
}

// entry is what a file says: which process is about to end. Its zero value is a file that could not be read.
type entry struct {
	pid   int
	start uint64
}

// Lock waits until no other process holds the ledger, or until ctx is done, and reads it. root is the folder below which the
// host's files lie, "" for "/"; below it, /run/stopguard/underway is made where it is missing. Entries whose process is gone
// are removed. Any number of goroutines and processes may call it. An error is one line, "underway: WHAT; WHAT TO DO", and, if ctx
// was done, what [context.Cause] gives, by [errors.Is].
func Lock(ctx context.Context, root string) (*Ledger, error) {
	base := root
	if base == "" {
		base = "/"
	}
	host := hostfile.Root(root)
	if err := create(host, base); err != nil {
		return nil, err
	}
	// Judges the folders as well. Nobody else can change them, and so nobody else can exchange them before they are opened.
	if _, err := host.Read(home+"/"+lockName, 1<<20); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, foreign(err)
	}
	l := &Ledger{path: filepath.Join(base, home)}
	var err error
	if l.root, err = os.OpenRoot(base + home); err != nil {
		return nil, l.failure("", err)
	}
	if err := l.acquire(ctx); err != nil {
		l.root.Close()
		return nil, err
	}
	if err := l.read(host); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// create makes the folder where it is missing.
func create(host hostfile.Root, base string) error {
	if err := host.Judge("/"); err != nil {
		return foreign(err)
	}
	r, err := os.OpenRoot(base)
	if err != nil {
		return (&Ledger{path: base}).failure("", err)
	}
	defer r.Close()
	name := ""
	for element := range strings.SplitSeq(home[1:], "/") {
		name = filepath.Join(name, element)
		mode := fs.FileMode(0o755)
		if name == home[1:] {
			mode = 0o700
		}
		if err := r.Mkdir(name, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return (&Ledger{path: filepath.Join(base, name)}).failure("", err)
		}
	}
	return nil
}

// acquire takes the lock. It asks again and again instead of waiting in the kernel, where a context could not end the wait.
func (l *Ledger) acquire(ctx context.Context) error {
	pause := shortest
	for {
		// What a context that is done may not do, it may not do by luck either.
		if ctx.Err() != nil {
			return failure(show(filepath.Join(l.path, lockName))+": no lock in time, for other stops are being decided", "try again", context.Cause(ctx))
		}
		got, err := l.try()
		if err != nil {
			return l.failure(lockName, err)
		}
		if got {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, longest)
	}
}

func (l *Ledger) try() (got bool, err error) {
	f, err := l.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return false, err
	}
	defer func() {
		if !got {
			f.Close()
		}
	}()
	step("lock opened")
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK || err == unix.EINTR {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// If somebody removed the file in the meantime, others lock another one by now.
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := l.root.Lstat(lockName)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(mine, there) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.lock = f
	return true, nil
}

// read takes in the entries, and removes those whose process is gone.
func (l *Ledger) read(host hostfile.Root) error {
	d, err := l.root.Open(".")
	if err != nil {
		return l.failure("", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxNames + 1)
	if err != nil && err != io.EOF {
		return l.failure("", err)
	}
	if len(names) > maxNames {
		return failure(fmt.Sprintf("%s: holds more than %d files", show(l.path), maxNames), "move out what does not belong there", nil)
	}
	l.entries = make(map[string]entry)
	for _, name := range names {
		if canonical(name) != name || name == "" {
			continue // the lock, what a killed process was about to add, or nothing of ours
		}
		data, err := host.Read(home+"/"+name, maxFile)
		if err != nil {
			err = foreign(err)
		}
		var e entry
		if err == nil {
			var ok bool
			if e, ok = parse(data); !ok {
				err = failure(show(filepath.Join(l.path, name))+": does not say which process is about to end, so the domain counts as about to", "remove it once that domain is off", nil)
			}
		}
		switch {
		case err != nil:
			l.reports = append(l.reports, err)
			l.entries[name] = entry{}
		case gone(e):
			l.root.Remove(name) // if that fails, the next one will
		default:
			l.entries[name] = e
		}
	}
	return nil
}

// Has reports whether the incarnation is about to end: a stop of it was allowed before. It is for one that is alive, and for
// counting who is left without it: where it cannot be told, it is true, so that fewer count as left. That is so if the entry
// of its domain cannot be read, which [Ledger.Reports] then says, or if there is one and the incarnation has no PID or start
// time. So true must not, by itself, allow another stop of it.
func (l *Ledger) Has(in policy.Incarnation) bool {
	e, ok := l.entries[canonical(in.UUID)]
	if !ok {
		return false
	}
	return e == entry{} || in.PID <= 0 || in.Start == 0 || e == entry{in.PID, in.Start}
}

// Reports gives what Lock could not read: errors of one line each, "underway: WHAT; WHAT TO DO".
func (l *Ledger) Reports() []error { return l.reports }

// Add notes that a stop of the incarnation is allowed, before anybody is told so. The entry replaces that of an earlier
// incarnation of the domain, and is there whole or not at all. It is an error if the incarnation has no PID or start time,
// since it could not be told when that ends, if it has no UUID, if the ledger is closed, and if the entry cannot be written:
// one line, "underway: WHAT; WHAT TO DO". Nothing has been added then, and the stop should not be allowed.
func (l *Ledger) Add(in policy.Incarnation) error {
	uuid := canonical(in.UUID)
	switch {
	case l.lock == nil:
		return failure("the ledger is closed", "add before closing it", nil)
	case uuid == "":
		return failure(fmt.Sprintf("%.100q is not a UUID", in.UUID), "give the UUID of the domain's XML", nil)
	case in.PID <= 0 || in.PID > maxPID || in.Start == 0:
		return failure("the process of domain "+uuid+" is not known, and so not when its stop will be over", "stop it when nobody relies on it being counted", nil)
	}
	e := entry{in.PID, in.Start}
	if l.entries[uuid] == e {
		return nil
	}
	if err := l.write(uuid, fmt.Appendf(nil, "%d %d\n", e.pid, e.start)); err != nil {
		return l.failure(uuid, err)
	}
	l.entries[uuid] = e
	return nil
}

// write does not wait for the disk: what is in /run is gone after a power cut, and so are the processes that it is about.
func (l *Ledger) write(name string, data []byte) error {
	l.root.Remove(temp) // of one that was killed
	w, err := l.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Chmod(0o600), w.Close())
	step("entry written")
	if err == nil {
		err = l.root.Rename(temp, name)
	}
	if err != nil {
		l.root.Remove(temp)
		return err
	}
	step("entry there")
	return nil
}

// step is called where a process might be killed; tests kill it there.
var step = func(point string) {}

// Close lets others have the ledger. Closing it again does nothing.
func (l *Ledger) Close() error {
	if l.lock == nil {
		return nil
	}
	err := errors.Join(l.lock.Close(), l.root.Close())
	l.lock = nil
	if err != nil {
		return l.failure(lockName, err)
	}
	return nil
}

// parse reads an entry as Add writes it, and no other way.
func parse(data []byte) (entry, bool) {
	pid, start, _ := strings.Cut(strings.TrimSuffix(string(data), "\n"), " ")
	var e entry
	e.pid, _ = strconv.Atoi(pid)
	e.start, _ = strconv.ParseUint(start, 10, 64)
	if e.pid <= 0 || e.pid > maxPID || e.start == 0 || fmt.Sprintf("%d %d\n", e.pid, e.start) != string(data) {
		return entry{}, false
	}
	return e, true
}

var proc = "/proc" // tests have one that hides

// gone reports whether a process has ended for certain. That /proc does not show it is no proof: it may be mounted such that
// others' processes are hidden (hidepid). That no signal could reach it is.
func gone(e entry) bool {
	if unix.Kill(e.pid, 0) == unix.ESRCH {
		return true
	}
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, e.pid))
	if err != nil {
		return false
	}
	start, ok := startTime(string(data))
	return ok && start != e.start
}

// startTime finds the 22nd field of /proc/PID/stat (proc_pid_stat(5)). The second is the name of the process in parentheses,
// which may itself hold blanks and parentheses, and so the rest is counted from the last one.
func startTime(stat string) (uint64, bool) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return start, err == nil && start != 0
}

// canonical is the one form in which a UUID is stored and compared; "" if it is none. Like libvirt it takes hyphens wherever
// they are.
func canonical(uuid string) string {
	digits := strings.ToLower(strings.ReplaceAll(uuid, "-", ""))
	if len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return ""
	}
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}

func failure(what, cure string, err error) error {
	return &problem.Error{What: prefix + what, Cure: cure, Err: err}
}

// foreign is an error of package hostfile as one of this package.
func foreign(err error) error {
	return problem.Prefix(prefix, err, "correct this and try again")
}

// failure is what the kernel said about a file in the folder, or, if name is "", the folder.
func (l *Ledger) failure(name string, err error) error {
	cure := "correct this and try again"
	switch {
	case errors.Is(err, fs.ErrPermission):
		cure = "run as root"
	case errors.Is(err, syscall.ENOSPC):
		cure = "make room there"
	}
	var said error = err
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		said = n // without the path that the os package puts before it
	}
	return failure(show(filepath.Join(l.path, name))+": "+said.Error(), cure, err)
}

// show writes a path such that no name leaves the line.
func show(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(path)
	}
	return path
}
