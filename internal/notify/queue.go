package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// home is the folder of the queue. It contains
//
//	TIME-ID.json   an event; TIME is in nanoseconds since 1970, in 20 digits
//	state          the state of the host at the last look
//	failure        the last failure of the program; missing if its last run succeeded
//	lock           held by the notifier that detects and sends events
const home = "/var/lib/stopguard/notify"

const (
	stateName   = "state"
	failureName = "failure"
	lockName    = "lock"
)

const (
	maxEvents = 1000 // that wait; the oldest ones beyond are dropped
	hardLimit = 2 * maxEvents
	maxFile   = 256 << 10 // bytes
)

// noTime is the time in the name of the event about lost events. So that event is sent first.
const noTime = "00000000000000000000"

type queue struct{ root string }

func (q queue) path(name string) string { return filepath.Join("/", q.root, home, name) }

// exists reports whether the folder exists. It also reports true if that cannot be determined.
func (q queue) exists() bool {
	_, err := os.Lstat(q.path(""))
	return !errors.Is(err, fs.ErrNotExist)
}

// create makes the folder if it is missing.
func (q queue) create() error {
	// The parent is for other users, too.
	if err := os.MkdirAll(filepath.Dir(q.path("")), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(q.path(""), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return hostfile.Root(q.root).Judge(home)
}

// names returns the names of the events, the oldest first.
func (q queue) names() ([]string, error) {
	f, err := os.Open(q.path(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(all, func(name string) bool { _, _, ok := parse(name); return !ok })
	slices.Sort(names)
	return names, nil
}

// parse returns the time and the ID in the name of an event.
func parse(name string) (at time.Time, id string, ok bool) {
	digits, rest, _ := strings.Cut(name, "-")
	nanos, err := strconv.ParseInt(digits, 10, 64)
	id, isEvent := strings.CutSuffix(rest, ".json")
	return time.Unix(0, nanos), id, err == nil && len(digits) == len(noTime) && isEvent
}

// put adds an event atomically, unless the queue has it already.
func (q queue) put(e Event) error {
	line, err := e.line()
	if err != nil {
		return err
	}
	if err := q.create(); err != nil {
		return err
	}
	names, err := q.names()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "-"+e.ID+".json") }) {
		return nil
	}
	if len(names) >= hardLimit {
		return fmt.Errorf("%d events wait in %s; have the program take them", len(names), q.path(""))
	}
	return hostfile.Replace(q.path(fmt.Sprintf("%020d-%s.json", time.Now().UnixNano(), e.ID)), line, 0o600)
}

// read returns the line of an event.
func (q queue) read(name string) ([]byte, error) {
	line, err := hostfile.Root(q.root).Read(filepath.Join(home, name), maxFile)
	if err == nil && !json.Valid(line) {
		err = errors.New("it is not JSON")
	}
	return line, err
}

func (q queue) remove(name string) error { return os.Remove(q.path(name)) }

// backlog returns the number of events that wait, and the age of the oldest one.
func (q queue) backlog(now time.Time) (waiting int, oldest time.Duration) {
	names, err := q.names()
	if err != nil {
		return 0, 0
	}
	for _, name := range names {
		if at, _, _ := parse(name); !strings.HasPrefix(name, noTime) {
			oldest = max(now.Sub(at), 0)
			break
		}
	}
	return len(names), oldest
}

// trim drops the oldest events beyond the limit, and those that are older than age, but not the one
// that is being sent. It queues an event with the number of dropped ones.
func (q queue) trim(now time.Time, age time.Duration, sent string) (full, old int) {
	names, err := q.names()
	if err != nil {
		return 0, 0
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, noTime) })
	excess := len(names) - maxEvents
	var dropped []string
	for i, name := range names {
		at, _, _ := parse(name)
		switch {
		case name == sent:
			continue
		case i < excess:
			full++
		case now.Sub(at) > age:
			old++
		default:
			continue
		}
		dropped = append(dropped, name)
	}
	q.sweep(now)
	if len(dropped) == 0 || q.addLost(len(dropped), now, sent) != nil {
		return 0, 0 // retried later
	}
	for _, name := range dropped {
		_ = q.remove(name)
	}
	return full, old
}

// addLost replaces the event about dropped events by one with the new total. If that event is being
// sent, addLost makes another one.
func (q queue) addLost(n int, now time.Time, sent string) error {
	names, err := q.names()
	if err != nil {
		return err
	}
	var before []string
	for _, name := range names {
		if !strings.HasPrefix(name, noTime) {
			break
		}
		if name == sent {
			continue
		}
		var e Event
		if line, err := q.read(name); err == nil && json.Unmarshal(line, &e) == nil {
			n += e.Count
		}
		before = append(before, name)
	}
	e := Event{Time: now, What: Lost, Count: n, Text: fmt.Sprintf("%d events were dropped before they could be told", n)}
	e.identify(strconv.Itoa(n), now.String())
	line, err := e.line()
	if err != nil {
		return err
	}
	if err := hostfile.Replace(q.path(noTime+"-"+e.ID+".json"), line, 0o600); err != nil {
		return err
	}
	for _, name := range before {
		_ = q.remove(name)
	}
	return nil
}

// sweep removes temporary files of writers that were killed.
func (q queue) sweep(now time.Time) {
	left, _ := filepath.Glob(q.path(hostfile.TempPrefix + "*"))
	for _, file := range left {
		if info, err := os.Lstat(file); err == nil && now.Sub(info.ModTime()) > time.Minute {
			_ = os.Remove(file)
		}
	}
}

// clear removes the events, the state and the failure of a site that no longer has a program.
func (q queue) clear() {
	names, _ := q.names()
	for _, name := range append(names, stateName, failureName) {
		_ = q.remove(name)
	}
}
