package stopguard

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/observed"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/inflight"
)

// Input returns the input with which the hook would now ask the policy about a stop of the domain.
// It is for a program that does not stop anything. Only the parts that the engine's rules can read
// are gathered. It takes no lock: another domain whose stop is allowed and not over counts as one
// that runs on.
//
// process is the result of [hookproto.Host.Identify]; its zero value is a process of unknown
// liveness. It is an error if a rule reads the host's name or its running domains and they cannot
// be read.
func (c Config) Input(engine *policy.Engine, domain *domainxml.Domain, process hookproto.Process) (policy.Input, error) {
	g := c.guard()
	in, err := g.input(context.Background(), engine, domain, process, g.runningDomains(false))
	if err == nil {
		in.Fleet = g.fleet(engine, domain)
	}
	return in, err
}

// fleet returns the groups of the fleet that a stop of the domain is decided by.
func (g guard) fleet(engine *policy.Engine, domain *domainxml.Domain) policy.Fleet {
	d := g.fleetDecision(context.Background(), engine, policy.OperationStop, domain, false)
	defer d.cancel()
	return d.input()
}

// Inputs yields the input of [Config.Input] for each domain that runs on the host. The host is read
// once, when the loop begins. A domain that cannot be read yields an error that names it, and the
// loop goes on.
func (c Config) Inputs(engine *policy.Engine) iter.Seq2[policy.Input, error] {
	return func(yield func(policy.Input, error) bool) {
		g := c.guard()
		guests, err := g.state.Guests()
		if err != nil {
			yield(policy.Input{}, fmt.Errorf("the running domains cannot be read: %w; look at the folder", err))
			return
		}
		host, err := g.input(context.Background(), engine, nil, hookproto.Process{}, g.runningDomains(false))
		if err != nil {
			yield(policy.Input{}, err)
			return
		}
		host.Host = host.Host.Shared()
		var holds map[string][]policy.Hold
		if engine.Reads(policy.PathHolds) {
			if holds, err = (hold.Store{Root: g.Root}).All(host.Time); err != nil {
				yield(policy.Input{}, err)
				return
			}
		}
		g.Fleet = cachedFleet(g.Fleet)
		for _, guest := range guests {
			in := host
			err := guest.Err
			if err == nil {
				in.Domain, err = domainxml.Parse(guest.XML)
			}
			if err != nil {
				in, err = policy.Input{}, fmt.Errorf("libvirt's status file of %.200q cannot be read: %w; look at that domain", guest.Name, err)
			} else {
				in.State = observed.State(g.identify(guest.Process, in.Domain))
				in.Holds = holds[in.Domain.UUID]
				in.Fleet = g.fleet(engine, in.Domain)
			}
			if !yield(in, err) {
				return
			}
		}
	}
}

// input returns an input with the parts that the loaded rules can read. The running domains are
// read now if a rule in Rego reads them. A rule in Go reads them on demand.
func (g guard) input(ctx context.Context, engine *policy.Engine, domain *domainxml.Domain, process hookproto.Process, running *runningDomains) (policy.Input, error) {
	in := policy.Input{
		Operation:    policy.OperationStop,
		Time:         g.Now(),
		Domain:       domain,
		State:        observed.State(process),
		ShuttingDown: g.shuttingDown(),
	}
	var err error
	if domain != nil && engine.Reads(policy.PathHolds) {
		if in.Holds, err = (hold.Store{Root: g.Root}).Of(domain.UUID, in.Time); err != nil {
			return in, err
		}
	}
	if len(engine.GoRules()) > 0 {
		in.Host.Running = running.read
	}
	if engine.Reads(policy.PathHostDomains) {
		in.Host.Domains, err = running.read(ctx)
	}
	if err == nil && engine.Reads(policy.PathHostName) {
		if in.Host.Name, err = os.Hostname(); err != nil {
			err = fmt.Errorf("the host's name cannot be read: %w; set it", err)
		}
	}
	return in, err
}

// A runningDomains reads the host's running domains for one decision. Other decisions that count
// them wait until it is closed: of two stops at once, each would otherwise count the other's domain
// as one that runs on.
type runningDomains struct {
	guard guard
	locks bool // read takes the lock, so that other decisions wait

	mu       sync.Mutex // not held while files are read
	ledger   *inflight.Ledger
	domains  []policy.HostDomain
	isClosed bool
	hasAdded bool // reserve has added an entry that was not there
}

func (g guard) runningDomains(locks bool) *runningDomains {
	return &runningDomains{guard: g, locks: locks}
}

var errDecided = errors.New("the running domains were asked for after the decision; ask before the rule returns")

// read takes the lock and reads the domains. With the lock it may be called until it has returned
// domains, once at a time.
func (r *runningDomains) read(ctx context.Context) ([]policy.HostDomain, error) {
	var ledger *inflight.Ledger
	var err error
	if r.locks {
		if ledger, err = inflight.Lock(ctx, r.guard.Root); err != nil {
			return nil, err
		}
	}
	domains, err := r.guard.running(ledger)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.isClosed:
		err = errDecided
		fallthrough
	case err != nil:
		if ledger != nil {
			ledger.Close()
		}
		return nil, err
	}
	r.ledger, r.domains = ledger, domains
	return domains, nil
}

// readOr returns the domains that rules in Rego or Go have read, or fallback if none did.
func (r *runningDomains) readOr(fallback []policy.HostDomain) []policy.HostDomain {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.domains != nil {
		return r.domains
	}
	return fallback
}

// reserve adds the incarnation to the ledger of allowed stops, until its process ends. It does
// nothing if the ledger is not locked. If that fails, an enforced decision fails with it: otherwise
// the next decision would count this domain as running.
func (r *runningDomains) reserve(in policy.Incarnation, d policy.Decision) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ledger == nil || in.PID == 0 {
		return nil
	}
	wasThere := r.ledger.Has(in)
	if err := r.ledger.Add(in); err != nil {
		if d.Unenforced == "" {
			return err
		}
		return nil
	}
	r.hasAdded = !wasThere
	return nil
}

// cancel removes the entry that reserve added, for a stop that is not allowed after all. Call it
// after close.
func (r *runningDomains) cancel(ctx context.Context, in policy.Incarnation) error {
	if !r.hasAdded {
		return nil
	}
	ledger, err := inflight.Lock(ctx, r.guard.Root)
	if err != nil {
		return err
	}
	return errors.Join(ledger.Remove(in), ledger.Close())
}

// close lets other decisions go on. It returns errors that changed nothing.
func (r *runningDomains) close() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isClosed = true
	ledger := r.ledger
	if r.ledger = nil; ledger == nil {
		return nil
	}
	defer ledger.Close()
	return ledger.Reports()
}

// running reads the status files of all domains with a live process.
func (g guard) running(ledger *inflight.Ledger) ([]policy.HostDomain, error) {
	guests, err := g.state.Guests()
	if err != nil {
		return nil, fmt.Errorf("a rule reads the running domains: %w; look at the folder", err)
	}
	domains := []policy.HostDomain{}
	budget := maxHostElements
	for _, guest := range guests {
		status := guest.Process.Status
		d := policy.HostDomain{Name: status.Name, UUID: strings.ToLower(status.UUID)}
		d.State, d.Unknown = observed.Known(status.State)
		if d.Name == "" {
			d.Name = hookproto.WrittenName(guest.Name)
		}
		// A status file that cannot be read is that domain's trouble: it is not known to run, or to
		// have metadata, and other domains are judged without it.
		if domain, err := domainxml.Parse(guest.XML); guest.Err == nil && err == nil {
			d.Metadata = withinBudget(&budget, domain.Metadata)
		}
		in := policy.Incarnation{UUID: d.UUID, PID: guest.Process.PID, Start: guest.Process.Start}
		d.Stopping = ledger != nil && ledger.Has(in)
		domains = append(domains, d)
	}
	return domains, nil
}

// maxHostElements is how many elements of metadata a rule may look at, of all running domains
// together. Otherwise the owner of one domain could make decisions about other domains late.
const maxHostElements = 20_000

// withinBudget returns the metadata if the budget has room for it, and nil if not, as if it could
// not be read.
func withinBudget(budget *int, metadata []domainxml.Element) []domainxml.Element {
	n := count(metadata)
	if n > *budget {
		return nil
	}
	*budget -= n
	return metadata
}

func count(list []domainxml.Element) int {
	n := len(list)
	for _, e := range list {
		n += count(e.Children)
	}
	return n
}

// shuttingDown reports whether the host shuts down. A flag that others than the owner of the
// host could have set does not count.
func (g guard) shuttingDown() bool {
	_, err := hostfile.Root(g.Root).Read(hostpath.ShuttingDown, 1<<10)
	return err == nil
}
