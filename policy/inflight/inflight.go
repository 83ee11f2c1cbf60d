// Package inflight stores the stops that were allowed and are not over yet, so that concurrent
// decisions see each other. Otherwise a rule that counts running domains could allow two stops,
// each of which counts the other domain.
//
// The ledger is a file for each domain in /run/stopguard/underway, and a lock there. A decision
// holds the lock from before it counts until after it has added the stop that it allows. The kernel
// releases the lock of a process that dies. An entry lasts until the process of its incarnation
// ends, whether or not the stop succeeds.
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
	"github.com/stopguard/stopguard/internal/procstat"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy"
)

const (
	home     = "/run/stopguard/underway"
	prefix   = "underway: " // of every error: the folder's name
	maxNames = 10_000       // files in the folder
	maxFile  = 64           // bytes; a PID and a start time are 30 at most
	maxPID   = 1 << 22      // the kernel's own limit
	temp     = ".adding"    // one is enough, because the lock is held
	lockName = "lock"

	shortest = 500 * time.Microsecond // between two tries of the lock
	longest  = 10 * time.Millisecond
)

// A Ledger holds the stops that are in flight on this host, and the lock that keeps other processes
// from adding to them. It must be closed, and is not safe for concurrent use.
type Ledger struct {
	root    *os.Root // the folder
	path    string   // of it, for messages
	lock    *os.File
	entries map[string]entry // by UUID
	reports []error
}

// entry is the content of a file: the process that is about to end. The zero entry stands for a
// file that could not be read.
type entry struct {
	pid   int
	start uint64
}

// Lock waits until no other process holds the ledger, or until ctx is done, and reads it. root is
// the folder below which the host's files lie, "" for "/"; /run/stopguard/underway is created below
// it if it is missing. Entries whose process is gone are removed. Any number of goroutines and
// processes may call Lock. An error is one line, "underway: WHAT; WHAT TO DO". If ctx was done, the
// error wraps [context.Cause].
func Lock(ctx context.Context, root string) (*Ledger, error) {
	base := root
	if base == "" {
		base = "/"
	}
	host := hostfile.Root(root)
	if err := create(host, base); err != nil {
		return nil, err
	}
	// Read also checks who may change the folders: only root can exchange them before they are
	// opened.
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

// create makes the folder if it is missing.
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

// acquire takes the lock. It polls, because a context cannot end a wait in the kernel.
func (l *Ledger) acquire(ctx context.Context) error {
	pause := shortest
	for {
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
	// If the file was removed meanwhile, other processes lock a new one.
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

// read reads the entries, and removes those whose process is gone.
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
		if !uuid.IsCanonical(name) {
			continue // the lock, the temporary file of a killed process, or a foreign file
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
		case isGone(e):
			l.root.Remove(name) // if that fails, the next call will try
		default:
			l.entries[name] = e
		}
	}
	return nil
}

// Has reports whether a stop of the incarnation, which is alive, was allowed. It is also true if
// that is uncertain: if the domain's entry cannot be read, which [Ledger.Reports] then says, or if
// there is an entry and the incarnation has no PID or start time. A count of running domains is
// therefore never too high. True must not, by itself, allow another stop of the incarnation.
func (l *Ledger) Has(in policy.Incarnation) bool {
	e, ok := l.entries[uuid.Canonical(in.UUID)]
	if !ok {
		return false
	}
	return e == entry{} || in.PID <= 0 || in.Start == 0 || e == entry{in.PID, in.Start}
}

// Reports returns the entries that Lock could not read, as errors of one line each, "underway:
// WHAT; WHAT TO DO".
func (l *Ledger) Reports() []error { return l.reports }

// Add stores that a stop of the incarnation is allowed. Call it before the stop is allowed, and
// refuse the stop if Add fails. The entry replaces one of an earlier incarnation, and is written as
// a whole. Add fails if the incarnation lacks a UUID, PID or start time, without which its end
// could not be detected, if the ledger is closed, or if the entry cannot be written. An error is
// one line, "underway: WHAT; WHAT TO DO".
func (l *Ledger) Add(in policy.Incarnation) error {
	id := uuid.Canonical(in.UUID)
	switch {
	case l.lock == nil:
		return failure("the ledger is closed", "add before closing it", nil)
	case id == "":
		return failure(fmt.Sprintf("%.100q is not a UUID", in.UUID), "give the UUID of the domain's XML", nil)
	case in.PID <= 0 || in.PID > maxPID || in.Start == 0:
		return failure("the process of domain "+id+" is not known, and so not when its stop will be over", "stop it when nobody relies on it being counted", nil)
	}
	e := entry{in.PID, in.Start}
	if l.entries[id] == e {
		return nil
	}
	if err := l.write(id, fmt.Appendf(nil, "%d %d\n", e.pid, e.start)); err != nil {
		return l.failure(id, err)
	}
	l.entries[id] = e
	return nil
}

// Remove removes the entry that [Ledger.Add] stored for the incarnation, because its stop is not
// allowed after all. An entry of another incarnation stays.
func (l *Ledger) Remove(in policy.Incarnation) error {
	id := uuid.Canonical(in.UUID)
	if l.lock == nil {
		return failure("the ledger is closed", "remove before closing it", nil)
	}
	if e, ok := l.entries[id]; !ok || e != (entry{in.PID, in.Start}) {
		return nil
	}
	if err := l.root.Remove(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l.failure(id, err)
	}
	delete(l.entries, id)
	return nil
}

// write does not sync: after a power cut, both /run and the processes are gone.
func (l *Ledger) write(name string, data []byte) error {
	l.root.Remove(temp) // of a killed process
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

// step is called where a process might be killed. Tests kill it there.
var step = func(point string) {}

// Close releases the ledger. Further calls do nothing.
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

// parse parses an entry exactly as Add writes it.
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

var proc = "/proc" // replaced by tests

// isGone reports whether a process has certainly ended. A missing entry in /proc is not proof,
// because the mount option hidepid hides other users' processes. ESRCH from kill is proof.
func isGone(e entry) bool {
	if unix.Kill(e.pid, 0) == unix.ESRCH {
		return true
	}
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, e.pid))
	if err != nil {
		return false
	}
	start, ok := procstat.StartTime(string(data))
	return ok && start != e.start
}

func failure(what, cure string, err error) error {
	return &problem.Error{What: prefix + what, Cure: cure, Err: err}
}

// foreign returns an error of package hostfile as one of this package.
func foreign(err error) error {
	return problem.Prefix(prefix, err, "correct this and try again")
}

// failure returns the kernel's error about a file in the folder, or about the folder if name is "".
func (l *Ledger) failure(name string, err error) error {
	cure := "correct this and try again"
	switch {
	case errors.Is(err, fs.ErrPermission):
		cure = "run as root"
	case errors.Is(err, syscall.ENOSPC):
		cure = "make room there"
	}
	cause := err
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		cause = n // without the path that package os puts before it
	}
	return failure(show(filepath.Join(l.path, name))+": "+cause.Error(), cure, err)
}

// show returns a path for a message, quoted if it is not printable.
func show(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(path)
	}
	return path
}
