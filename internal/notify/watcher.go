package notify

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// A watcher compares the host with its state at the last look. That state is on disk, so that
// changes while no notifier runs are events, too.
type watcher struct {
	root    string
	queue   queue
	timing  *timing
	domains domainReader
	last    *state // nil before the first look

	gateMissing time.Time // when the gate was first found stopped; zero if it runs
}

const maxState = 64 << 20 // bytes

// A state is the state of the host at a look. It is stored only after the events of the look are in
// the queue.
type state struct {
	Life    string            `json:"life"` // random ID of the file; a part of the IDs of events, like Look
	Look    uint64            `json:"look"` // number of the state
	Boot    string            `json:"boot"`
	Domains map[string]domain `json:"domains"` // those with a mark, by UUID
	List    []string          `json:"list"`
	Tickets []string          `json:"tickets"`
	Hook    string            `json:"hook"`
	Gate    gateState         `json:"gate"`
	Records position          `json:"records"`
	Used    []string          `json:"used"` // uses of tickets that led to an event
}

// look queues the events since the last look.
func (w *watcher) look(at time.Time) error {
	var unread error
	if w.last == nil {
		w.last, unread = w.read()
	}
	old := w.last
	isFirst := old == nil
	if isFirst {
		old = &state{Life: rand.Text(), Boot: bootID()}
	}
	now, events, err := w.see(*old, at)
	if isFirst {
		events = nil // there is no earlier state to compare with
	}
	for i, e := range events {
		// If this process ends before the state is written, the same events are found again.
		if e.ID == "" {
			e.identify(old.Life, strconv.FormatUint(old.Look, 10), strconv.Itoa(i))
		}
		if err := w.queue.put(e); err != nil {
			return err
		}
	}
	if failed := w.write(old, &now); failed != nil {
		return failed
	}
	w.last = &now
	return errors.Join(unread, err)
}

func (w *watcher) read() (*state, error) {
	content, err := hostfile.Root(w.root).Read(filepath.Join(home, stateName), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("%s is not as it was written, and what has gone since is not told: %w", w.queue.path(stateName), err)
	}
	return &s, nil
}

// write writes the state if it has changed.
func (w *watcher) write(old, now *state) error {
	now.Look = old.Look
	before, err := json.Marshal(old)
	if err != nil {
		return err
	}
	after, err := json.Marshal(now)
	if err != nil || string(before) == string(after) {
		return err
	}
	now.Look++
	if after, err = json.Marshal(now); err != nil {
		return err
	}
	return hostfile.Replace(w.queue.path(stateName), after, 0o600)
}

// see returns the present state and the events since old. A part that cannot be read stays as in
// old, and is the error.
func (w *watcher) see(old state, at time.Time) (now state, events []Event, err error) {
	now = old
	if now.Boot = bootID(); now.Boot != old.Boot { // the host was restarted
		now.Gate.Running = ""
		now.Domains = map[string]domain{}
		for id, d := range old.Domains {
			d.Running = nil
			now.Domains[id] = d
		}
	}
	var failed error
	add := func(some []Event, err error) {
		events = append(events, some...)
		failed = errors.Join(failed, err)
	}
	add(w.seeDomains(&now, at))
	add(w.seeList(&now))
	add(w.seeTickets(&now, at))
	add(w.seeRecords(&now))
	add(w.seeHook(&now), nil)
	add(w.seeGate(&now, at))
	return now, events, failed
}

// bootID returns the ID of the boot; "" if it cannot be read.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

func (w *watcher) path(name string) string { return filepath.Join("/", w.root, name) }

func (w *watcher) exists(name string) bool {
	_, err := os.Lstat(w.path(name))
	return err == nil
}
