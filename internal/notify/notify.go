// Package notify runs a program of the site when protection is lost. For example, a mark is
// removed, a ticket is granted, the gate is switched off, or a protected domain ends past the
// guard.
//
// Each event is a file in a folder on disk until the program has taken it. The agent and the gate
// each have a [Notifier]. The notifier that holds the lock detects events and runs the program; the
// other waits for the lock. Decisions do not wait for either.
package notify

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// A Config configures a [Notifier].
type Config struct {
	// Root is the folder that contains the host's files and the program; "" is "/".
	Root string

	// Settings returns the program of the site; nil if the site does not have one. After an error,
	// the previous settings stay in use.
	Settings func() (*policy.Notify, error)

	// Log logs an error, with arguments as for fmt.Sprintf.
	Log func(format string, args ...any)

	timing *timing // replaced by tests
}

// A timing has the intervals and time limits of a notifier.
type timing struct {
	pace        time.Duration // between two looks at the host
	limit       time.Duration // for one run of the program
	first, most time.Duration // between two runs after a failure; doubled each time
	age         time.Duration // after which an event is dropped
	gateStops   time.Duration // in which a gate that has ended may be restarted
}

var hostTiming = timing{
	pace: 2 * time.Second, limit: 30 * time.Second, first: time.Second, most: time.Minute, age: 24 * time.Hour, gateStops: 5 * time.Second,
}

// A Notifier detects events and runs the program for each, from [Start] to [Notifier.Stop].
type Notifier struct {
	Config
	queue  queue
	site   atomic.Pointer[policy.Notify] // the last settings
	isRead atomic.Bool                   // whether the settings have been read
	sends  atomic.Bool                   // whether this process holds the lock
	counts struct{ success, failure, timeout, full, old atomic.Uint64 }
	mu     sync.Mutex // held while an event is chosen to be sent, and while events are dropped
	sent   string     // name of the event that the program runs for; "" if it does not run
	wake   chan struct{}
	logged string // the last text of logOnce
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// Start starts a notifier.
func Start(c Config) *Notifier {
	if c.timing == nil {
		c.timing = &hostTiming
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Notifier{Config: c, queue: queue{c.Root}, wake: make(chan struct{}, 1), cancel: cancel}
	n.wait.Go(func() { n.watch(ctx) })
	return n
}

// Stop ends the notifier, and kills the program if it runs. It waits up to grace until the queue is
// empty. The host's next notifier sends the remaining events.
func (n *Notifier) Stop(grace time.Duration) {
	for end := time.Now().Add(grace); time.Now().Before(end) && n.sends.Load(); time.Sleep(20 * time.Millisecond) {
		if names, err := n.queue.names(); err != nil || len(names) == 0 {
			break
		}
	}
	n.cancel()
	n.wait.Wait()
}

// Tell queues an event, if the site has a program. Two events with the same kind and parts are one
// event. An event is lost, and logged, if the settings have never been read and cannot be read now.
func (n *Notifier) Tell(e Event, parts ...string) {
	site, err := n.site.Load(), error(nil)
	if site == nil {
		site, err = n.Settings()
	}
	if site == nil && (err == nil || n.isRead.Load()) {
		return
	}
	if err == nil {
		e.identify(parts...)
		err = n.queue.put(e)
	}
	if err != nil {
		n.Log("an event for data.site.notify is lost (%s): %v", e.Text, err)
		return
	}
	n.wakeSender()
}

// Stats are numbers about the notifications of a host and of one notifier.
type Stats struct {
	Waiting int           // events that the program has not taken
	Oldest  time.Duration // age of the oldest one; 0 if none waits

	Success, Failure, Timeout uint64 // runs of the program by this notifier
	Full, Old                 uint64 // events that it has dropped because the queue was full, or the event too old
}

// Stats returns the present numbers.
func (n *Notifier) Stats() Stats {
	s := Stats{
		Success: n.counts.success.Load(), Failure: n.counts.failure.Load(), Timeout: n.counts.timeout.Load(),
		Full: n.counts.full.Load(), Old: n.counts.old.Load(),
	}
	s.Waiting, s.Oldest = n.queue.backlog(time.Now())
	return s
}

// watch detects events while this process holds the lock, and wakes the sender.
func (n *Notifier) watch(ctx context.Context) {
	var held *holder
	defer func() { n.release(held) }()
	isClear := false // whether the queue was cleared because the site does not have a program
	for pause := time.Duration(0); sleep(ctx, pause); {
		pause = n.timing.pace
		site, err := n.Settings()
		if err == nil {
			n.site.Store(site)
			n.isRead.Store(true)
		} else if site = n.site.Load(); site == nil {
			continue
		}
		if site == nil && (isClear || !n.queue.exists()) {
			continue // a host without a program does not get the folder
		}
		if held == nil {
			if held, err = n.hold(ctx); err != nil || held == nil {
				n.logOnce(err)
				continue
			}
		}
		if isClear = site == nil; isClear {
			n.queue.clear() // otherwise a later program would get old events
			n.release(held)
			held = nil
			continue
		}
		began := time.Now()
		n.logOnce(recoverPanic(func() error { return held.watcher.look(began) }))
		n.trim()
		pause = max(n.timing.pace, 20*time.Since(began)) // less often on a busy host
		n.wakeSender()
	}
}

// A holder has the lock, and the watcher and the sender that run while a notifier holds it.
type holder struct {
	lock    *lock
	watcher *watcher
	end     context.CancelFunc
	sender  sync.WaitGroup
}

// hold takes the lock and starts the sender. It returns nil if another process has the lock.
func (n *Notifier) hold(ctx context.Context) (*holder, error) {
	if err := n.queue.create(); err != nil {
		return nil, err
	}
	lock, err := lockFile(n.queue.path(lockName))
	if err != nil || lock == nil {
		return nil, err
	}
	h := &holder{lock: lock, watcher: &watcher{root: n.Root, queue: n.queue, timing: n.timing}}
	ctx, h.end = context.WithCancel(ctx)
	h.sender.Go(func() { n.send(ctx) })
	n.sends.Store(true)
	return h, nil
}

// release stops the sender and releases the lock.
func (n *Notifier) release(h *holder) {
	if h != nil {
		n.sends.Store(false)
		h.end()
		h.sender.Wait()
		h.lock.release()
	}
}

// trim drops events beyond the limit and old ones.
func (n *Notifier) trim() {
	n.mu.Lock()
	full, old := n.queue.trim(time.Now(), n.timing.age, n.sent)
	n.mu.Unlock()
	n.counts.full.Add(uint64(full))
	n.counts.old.Add(uint64(old))
	if full+old > 0 {
		n.Log("%d events were dropped: the program of data.site.notify did not take them", full+old)
	}
}

func (n *Notifier) wakeSender() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// logOnce logs an error of watch unless it is the last one that was logged.
func (n *Notifier) logOnce(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != n.logged {
		n.Log("what data.site.notify is about cannot be seen: %s", text)
	}
	n.logged = text
}

// sleep waits. It reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// recoverPanic returns the error of f, or a panic of f as an error.
func recoverPanic(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it crashed: %.200v; report this as a bug", p)
		}
	}()
	return f()
}
