package notify

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// An attempt is the number of the program's failures for an event, and the time of the next try.
type attempt struct {
	failures int
	next     time.Time
}

// A Failure is the last failure of the program.
type Failure struct {
	Since    time.Time `json:"since"` // time of the first failure after the last success
	Last     time.Time `json:"last"`
	Failures int       `json:"failures"`
	Error    string    `json:"error"`
}

// send runs the program for one event after the other until ctx ends. After a failure it goes on
// with the next event. Otherwise an event that the program never takes would delay the others.
func (n *Notifier) send(ctx context.Context) {
	attempts := map[string]attempt{}
	failure, _, _ := n.queue.failure() // left by the previous notifier
	inRow := 0
	for {
		name, wait := n.nextEvent(attempts)
		if name == "" {
			select {
			case <-ctx.Done():
				return
			case <-n.wake:
			case <-time.After(wait):
			}
			continue
		}
		err := n.sendOne(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			n.counts.success.Add(1)
			n.clearFailure(&failure)
			delete(attempts, name)
			inRow = 0
			continue
		}
		n.addFailure(&failure, err)
		a := attempts[name]
		a.next = time.Now().Add(n.backoff(a.failures))
		a.failures++
		attempts[name] = a
		if !sleep(ctx, n.backoff(inRow)) {
			return
		}
		inRow++
	}
}

// clearFailure records that the program has taken an event.
func (n *Notifier) clearFailure(f *Failure) {
	if f.Failures > 0 {
		n.Log("the program of data.site.notify takes events again")
		_ = n.queue.remove(failureName)
	}
	*f = Failure{}
}

// addFailure counts a failure of the program, and writes it to disk for doctor.
func (n *Notifier) addFailure(f *Failure, err error) {
	if errors.Is(err, errTimeout) {
		n.counts.timeout.Add(1)
	} else {
		n.counts.failure.Add(1)
	}
	if text := printable(err.Error(), 2*maxShown); f.Error != text {
		n.Log("the program of data.site.notify failed, and is tried again: %s", text)
		f.Error = text
	}
	f.Last = time.Now().UTC().Round(0)
	if f.Failures == 0 {
		f.Since = f.Last
	}
	f.Failures++
	if text, err := json.Marshal(f); err == nil {
		_ = hostfile.Replace(n.queue.path(failureName), text, 0o600)
	}
}

func (n *Notifier) backoff(failures int) time.Duration {
	return min(n.timing.first<<min(failures, 16), n.timing.most)
}

// nextEvent returns the next event that is due: the oldest of those with the fewest failures. If
// none is due, it returns "" and the time to wait.
func (n *Notifier) nextEvent(attempts map[string]attempt) (name string, wait time.Duration) {
	names, err := n.queue.names()
	if err != nil {
		return "", n.timing.most
	}
	exists := map[string]bool{}
	now := time.Now()
	wait = n.timing.most
	for _, candidate := range names {
		exists[candidate] = true
		if due := attempts[candidate].next.Sub(now); due > 0 {
			wait = min(wait, due)
		} else if name == "" || attempts[candidate].failures < attempts[name].failures {
			name = candidate
		}
	}
	for known := range attempts {
		if !exists[known] {
			delete(attempts, known)
		}
	}
	return name, wait
}

// sendOne runs the program for an event, and removes the event if the program takes it.
func (n *Notifier) sendOne(ctx context.Context, name string) error {
	n.mu.Lock()
	line, err := n.queue.read(name)
	n.sent = name
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.sent = ""
		n.mu.Unlock()
	}()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dropped meanwhile
	}
	if err != nil {
		_ = n.queue.remove(name) // it can never be sent
		return err
	}
	site := n.site.Load()
	if site == nil {
		<-ctx.Done() // the site no longer has a program, and watch ends this sender
		return nil
	}
	as, err := check(n.Root, *site)
	if err != nil {
		return err
	}
	if err := runProgram(ctx, filepath.Join("/", n.Root, site.Program), as, line, n.timing.limit); err != nil {
		return err
	}
	if err := n.queue.remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// failure returns the last failure of the program. It reports false if there is none on disk or it
// cannot be read.
func (q queue) failure() (f Failure, hasFailed bool, err error) {
	text, err := hostfile.Root(q.root).Read(filepath.Join(home, failureName), maxFile)
	if err != nil {
		return f, false, err
	}
	err = json.Unmarshal(text, &f)
	return f, err == nil, err
}

// A Status is the state of a host's notifications, as its files have it.
type Status struct {
	Waiting int
	Oldest  time.Duration
	Runs    bool     // a notifier that sends events runs
	Failure *Failure // nil if the program's last run succeeded
}

// StatusOf returns the status of the host whose files are below root.
func StatusOf(root string, now time.Time) (s Status, err error) {
	q := queue{root}
	s.Waiting, s.Oldest = q.backlog(now)
	if s.Runs, err = isLocked(q.path(lockName)); err != nil {
		return s, ignoreMissing(err)
	}
	f, hasFailed, err := q.failure()
	if hasFailed {
		s.Failure = &f
	}
	return s, ignoreMissing(err)
}
