// Package notify tells a program of the site when protection goes: a mark is removed, a ticket is
// granted, the gate is switched off, a protected domain ends past the guard.
//
// Each event is a file in a folder on disk until the program has taken it. The agent and the gate
// each have a [Notifier]. The one that holds the lock looks for events and runs the program; the
// other waits for the lock. No decision waits for any of it.
package notify

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// A Config says what a [Notifier] needs of its process.
type Config struct {
	// Root is the folder below which the host's files lie; "" is "/". The program is below it, too.
	Root string

	// Settings returns the program of the site; nil if the site names none. While it returns an
	// error, the last settings stay.
	Settings func() (*policy.Notify, error)

	// Log is called with what went wrong, as in fmt.Sprintf.
	Log func(format string, args ...any)

	timing *timing // replaced by tests
}

// A timing has the times of a notifier.
type timing struct {
	pace        time.Duration // between two looks at the host
	limit       time.Duration // for one run of the program
	first, most time.Duration // between two runs after a failure; doubled each time
	age         time.Duration // after which an event is dropped
	gateStops   time.Duration // for how long a gate that has ended may be started again
}

var hostTiming = timing{
	pace: 2 * time.Second, limit: 30 * time.Second, first: time.Second, most: time.Minute, age: 24 * time.Hour, gateStops: 5 * time.Second,
}

// A Notifier looks for events and runs the program for each, from [Start] to [Notifier.Stop].
type Notifier struct {
	Config
	queue  queue
	site   atomic.Pointer[policy.Notify] // as last read
	sends  atomic.Bool                   // whether this process holds the lock
	counts struct{ success, failure, timeout, full, old atomic.Uint64 }
	mu     sync.Mutex // held while an event is chosen to be sent, and while events are dropped
	sent   string     // name of the event that the program runs for; "" for none
	wake   chan struct{}
	logged string // by logOnce
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

// Stop ends the notifier, and kills the program if it runs. It waits up to grace for events that
// are in the queue. Events that are left are sent by the next notifier of the host.
func (n *Notifier) Stop(grace time.Duration) {
	for end := time.Now().Add(grace); time.Now().Before(end) && n.sends.Load(); time.Sleep(20 * time.Millisecond) {
		if names, err := n.queue.names(); err != nil || len(names) == 0 {
			break
		}
	}
	n.cancel()
	n.wait.Wait()
}

// Tell puts an event into the queue, if the site names a program. The parts identify what happened:
// two events with the same parts are one.
func (n *Notifier) Tell(e Event, parts ...string) {
	site := n.site.Load()
	if site == nil {
		site, _ = n.Settings()
	}
	if site == nil {
		return
	}
	e.identify(parts...)
	if err := n.queue.put(e); err != nil {
		n.Log("an event for data.site.notify is lost (%s): %v", e.Text, err)
		return
	}
	n.wakeSender()
}

// Stats are numbers about the notifications of a host, and of one notifier.
type Stats struct {
	Waiting int           // events that the program has not taken
	Oldest  time.Duration // age of the oldest of them; 0 if there is none

	Success, Failure, Timeout uint64 // runs of the program by this notifier
	Full, Old                 uint64 // events that it has dropped: the queue was full, or the event was too old
}

// Stats returns the numbers of now.
func (n *Notifier) Stats() Stats {
	s := Stats{
		Success: n.counts.success.Load(), Failure: n.counts.failure.Load(), Timeout: n.counts.timeout.Load(),
		Full: n.counts.full.Load(), Old: n.counts.old.Load(),
	}
	s.Waiting, s.Oldest = n.queue.backlog(time.Now())
	return s
}

// watch looks for events while this process holds the lock, and has them sent.
func (n *Notifier) watch(ctx context.Context) {
	var held *holder
	defer func() { n.release(held) }()
	isClear := false // whether nothing is left of a program that the site does not name any more
	for pause := time.Duration(0); sleep(ctx, pause); {
		pause = n.timing.pace
		site, err := n.Settings()
		if err == nil {
			n.site.Store(site)
		} else if site = n.site.Load(); site == nil {
			continue
		}
		if site == nil && (isClear || !n.queue.exists()) {
			continue // no folder is made on a host without a program
		}
		if held == nil {
			if held, err = n.hold(ctx); err != nil || held == nil {
				n.logOnce(err)
				continue
			}
		}
		if isClear = site == nil; isClear {
			n.queue.clear() // otherwise a program that is named later would get events of long ago
			n.release(held)
			held = nil
			continue
		}
		began := time.Now()
		n.logOnce(recovered(func() error { return held.watcher.look(began) }))
		n.trim()
		pause = max(n.timing.pace, 20*time.Since(began)) // a busy host is looked at less often
		n.wakeSender()
	}
}

// A holder is what runs while a notifier holds the lock.
type holder struct {
	lock    *lock
	watcher *watcher
	end     context.CancelFunc
	sender  sync.WaitGroup
}

// hold takes the lock and starts the sender; nil if another process has the lock.
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

// trim drops what the program did not take.
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

// sleep waits, and reports false if ctx has ended.
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

// recovered returns what f returns, or a panic as an error.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it crashed: %.200v; report this as a bug", p)
		}
	}()
	return f()
}
