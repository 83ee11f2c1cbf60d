// Package fleet counts the running members of groups on all hosts of a fleet. It reserves the stop
// of a member, so that hosts that decide at the same time see each other. The store is etcd.
//
// Each host publishes its running members under a lease. A reservation is one transaction of etcd.
// It succeeds only if the members that must run on are unchanged, and if no other reservation in
// the group was made since. Decisions do not depend on clocks, only on revisions and leases.
//
// Only the agent connects to etcd. Hooks and gates ask the agent; see [Fleet.Handler].
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/stopguard/stopguard/internal/fleetconfig"
	"github.com/stopguard/stopguard/internal/problem"
)

// A Config configures a host's part of a fleet.
type Config struct {
	fleetconfig.Settings

	// Machine is an ID that differs between hosts of the same name.
	Machine string

	// Observe reads the fleet's groups and the running domains of the host. If it fails, the host
	// publishes no members.
	Observe func(context.Context) (Observation, error)

	// Changed receives a value when the running domains may have changed. If it is nil, only the
	// look at intervals finds changes.
	Changed <-chan struct{}

	// Log logs a failure, and its end.
	Log func(format string, args ...any)
}

// An Observation is the state of a host that its agent publishes.
type Observation struct {
	Groups  []GroupSettings
	Domains []Domain // those with a live process
}

// GroupSettings are the settings of a group, which must be the same on all hosts.
type GroupSettings struct {
	Name string `json:"name"`
	Min  int    `json:"min"`
	Hash string `json:"hash"` // hash of all settings of the group
}

// A Domain is a domain of the host with a live process.
type Domain struct {
	Name, UUID string // "" if its status cannot be read
	PID        int
	Start      uint64   // when the process began, in clock ticks since boot
	State      string   // as in libvirt's status file
	Groups     []string // the names of its groups in the fleet, sorted; may be empty
}

// Times of requests to etcd.
const (
	attemptPace = 100 * time.Millisecond // until a further endpoint is tried; doubled each time
	maxAttempts = 5                      // of one request
	requestTime = 2 * time.Second        // of all attempts, unless a decision allows less
	lookPace    = 5 * time.Second        // between two looks at the host without a change
	quietTime   = 100 * time.Millisecond // after a look, so that many changes prompt few looks
	retryPace   = time.Second            // between two attempts to join the fleet or to read it
)

// A Fleet is a host's part of a fleet. It is safe for concurrent use.
type Fleet struct {
	config Config
	client *clientv3.Client
	cache  *cache
	leases leases
	health health
	stats  *stats
	groups atomic.Pointer[[]GroupSettings] // of this host, as they were last seen
	wake   chan struct{}                   // a reservation of this host has changed
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Open joins a fleet. It does not wait for etcd, and retries until Close.
func Open(c Config) (*Fleet, error) {
	tlsConfig, err := c.TLS()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  tlsConfig,
		DialTimeout:          2 * time.Second,
		DialKeepAliveTime:    6 * time.Second, // etcd closes connections that ask more often than each 5 s
		DialKeepAliveTimeout: 2 * time.Second,
		PermitWithoutStream:  true,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("%s; correct the endpoints", problem.OneLine(err.Error()))
	}
	if c.Host == "" {
		if c.Host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("the host's name cannot be read: %w; set host", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fleet{config: c, client: client, wake: make(chan struct{}, 1), cancel: cancel}
	f.stats = newStats(f)
	f.leases = leases{client: client, life: c.Reservation()}
	f.health = health{log: c.Log, endpoints: c.Endpoints, tls: tlsConfig}
	f.cache = newCache(client, c.Host, f.wake)
	f.done.Go(func() { f.cache.run(ctx, func(err error) { f.health.note(partRead, err) }) })
	f.done.Go(func() { f.publish(ctx) })
	return f, nil
}

// Close ends the connection to etcd. The host's members and reservations stay until their leases
// end, so that an agent that restarts soon continues with them.
func (f *Fleet) Close() error {
	f.cancel()
	err := f.client.Close()
	f.done.Wait()
	return err
}

// attempts returns the first answer of do. Until an answer comes, it calls do again at intervals,
// because another endpoint may answer sooner. Therefore do must be harmless if it takes effect
// twice, or late. attempts returns within requestTime.
func attempts[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	type result struct {
		answer T
		err    error
	}
	results := make(chan result, maxAttempts)
	begun, pending := 0, 0
	begin := func() {
		begun, pending = begun+1, pending+1
		go func() {
			answer, err := do(ctx)
			results <- result{answer, err}
		}()
	}
	begin()
	pace := attemptPace
	retry := time.NewTimer(pace)
	defer retry.Stop()
	for {
		select {
		case r := <-results:
			pending--
			switch {
			case r.err != nil && pending > 0:
			case r.err != nil && begun == 1 && ctx.Err() == nil: // the endpoint may just have ended
				begin()
			default:
				return r.answer, r.err
			}
		case <-retry.C:
			if begun < maxAttempts {
				begin()
			}
			pace *= 2
			retry.Reset(pace)
		}
	}
}

// failure returns the error of a request to etcd, with the endpoints and their errors.
func (f *Fleet) failure(err error) error {
	// If the deadline passes while the client authenticates, its error has only the text.
	isLate := errors.Is(err, context.DeadlineExceeded) || strings.HasSuffix(err.Error(), context.DeadlineExceeded.Error())
	if isLate || errors.Is(err, context.Canceled) {
		err = errors.New("no answer in time")
	}
	text := fmt.Sprintf("etcd at %s: %s", strings.Join(f.config.Endpoints, ", "), problem.OneLine(err.Error()))
	if why := f.health.cause(); why != "" {
		text += " (" + why + ")"
	}
	return errors.New(text)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func compareMembers(a, b Member) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID), strings.Compare(a.Host, b.Host))
}
