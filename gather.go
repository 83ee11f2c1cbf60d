package stopguard

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/inflight"
)

// Input gives what the hook would ask the policy about a stop of the domain now, for a program that wants to know without
// stopping anything: only what the engine's rules can read is gathered. It takes no lock, so a stop of another domain that
// is under way is not seen as such. process is what [hookproto.Host.Identify] gave; its zero value means that nothing is
// known of it. It is an error if the host's name or its running domains are read by a rule and cannot be had.
func (c Config) Input(engine *policy.Engine, domain *domainxml.Domain, process hookproto.Process) (policy.Input, error) {
	return c.guard().input(engine, domain, process, nil)
}

// input gathers what the loaded rules can read. With a ledger it tells which running domains are about to stop.
func (g guard) input(engine *policy.Engine, domain *domainxml.Domain, process hookproto.Process, ledger *inflight.Ledger) (policy.Input, error) {
	in := policy.Input{
		Operation:    policy.OperationStop,
		Time:         g.Now(),
		Domain:       domain,
		State:        StateOf(process),
		ShuttingDown: g.shuttingDown(),
	}
	var err error
	if engine.Reads("host", "name") {
		if in.Host.Name, err = os.Hostname(); err != nil {
			return in, fmt.Errorf("the host's name cannot be read: %w; set it", err)
		}
	}
	if engine.Reads("host", "domains") {
		in.Host.Domains, err = g.running(ledger)
	}
	return in, err
}

// lock has other stops wait, from the count of the running domains until this stop is decided, so that two at once see
// each other. It gives nil if no rule counts.
func (g guard) lock(ctx context.Context, engine *policy.Engine) (*inflight.Ledger, error) {
	if !engine.Reads("host", "domains") {
		return nil, nil
	}
	return inflight.Lock(ctx, g.Root)
}

// running reads the status files of all domains with a live process.
func (g guard) running(ledger *inflight.Ledger) ([]policy.HostDomain, error) {
	guests, err := g.state.Guests()
	if err != nil {
		return nil, fmt.Errorf("a rule reads the running domains: %w; look at the folder", err)
	}
	domains := []policy.HostDomain{}
	room := maxHostElements
	for _, guest := range guests {
		status := guest.Process.Status
		d := policy.HostDomain{Name: status.Name, UUID: strings.ToLower(status.UUID), State: status.State}
		if d.Name == "" {
			d.Name = hookproto.WrittenName(guest.Name)
		}
		// A status file that cannot be read is that domain's trouble: it is not known to run, or to have
		// metadata, and other domains are judged without it.
		if domain, err := domainxml.Parse(guest.XML); guest.Err == nil && err == nil {
			d.Metadata = asRoomAllows(&room, domain.Metadata)
		}
		in := policy.Incarnation{UUID: d.UUID, PID: guest.Process.PID, Start: guest.Process.Start}
		d.Stopping = ledger != nil && ledger.Has(in)
		domains = append(domains, d)
	}
	return domains, nil
}

// maxHostElements is how many elements of metadata of all running domains together a rule may look at. Their owners write
// them, and must not make a decision late about a domain that is not theirs.
const maxHostElements = 20_000

// asRoomAllows gives the metadata if there is room for it, and none if not, as if it could not be read.
func asRoomAllows(room *int, metadata []domainxml.Element) []domainxml.Element {
	n := count(metadata)
	if n > *room {
		return nil
	}
	*room -= n
	return metadata
}

func count(list []domainxml.Element) int {
	n := len(list)
	for _, e := range list {
		n += count(e.Children)
	}
	return n
}

// reserve notes that the stop is under way, until the domain's process ends. Where a rule that counts is enforced, a stop
// that cannot be noted cannot be allowed: the next one would count this domain as running.
func reserve(ledger *inflight.Ledger, in policy.Incarnation, d policy.Decision) error {
	if ledger == nil || in.PID == 0 {
		return nil
	}
	if err := ledger.Add(in); err != nil && d.Unenforced == "" {
		return err
	}
	return nil
}

// shuttingDownFlag is there while the host shuts down; see internal/host/stopguard-shutdown.service.
const shuttingDownFlag = "/run/stopguard/shutting-down"

// shuttingDown reports whether the host shuts down. A flag that others could have set says nothing.
func (g guard) shuttingDown() bool {
	_, err := hostfile.Root(g.Root).Read(shuttingDownFlag, 1<<10)
	return err == nil
}

// StateOf is what the hook tells a policy of a process, for a program that makes the input of many domains itself.
func StateOf(p hookproto.Process) policy.State {
	s := policy.State{State: p.Status.State, Reason: p.Status.Reason, Job: p.Status.Job, Unknown: p.Status.State == "", DiskJobs: map[string]string{}}
	for _, job := range p.Status.BlockJobs {
		s.DiskJobs[job.Disk] = job.Type
	}
	return s
}
