package stopguard

import (
	"context"
	"fmt"
	"os"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/underway"
)

// What rules may know of the host, beyond the domain that is to be stopped.
type hostInput struct {
	policy.Host

	// ledger is locked from the count of the running domains until the stop is decided, so that two stops at once see each
	// other. It is nil if no rule counts.
	ledger *underway.Ledger
}

// gather reads of the host what the loaded rules can read, and no more.
func (g guard) gather(ctx context.Context, engine *policy.Engine) (h hostInput, err error) {
	if engine.Reads("host", "name") {
		if h.Name, err = os.Hostname(); err != nil {
			return h, fmt.Errorf("the host's name cannot be read: %w; set it", err)
		}
	}
	if !engine.Reads("host", "domains") {
		return h, nil
	}
	if h.ledger, err = underway.Lock(ctx, g.Root); err != nil {
		return h, err
	}
	if h.Domains, err = g.running(h.ledger); err != nil {
		h.close()
		return h, err
	}
	return h, nil
}

// running reads the status files of all domains with a live process.
func (g guard) running(ledger *underway.Ledger) ([]policy.HostDomain, error) {
	guests, err := g.state.Guests()
	if err != nil {
		return nil, fmt.Errorf("a rule reads the running domains: %w; look at the folder", err)
	}
	var domains []policy.HostDomain
	for _, guest := range guests {
		if guest.Err != nil {
			return nil, unreadable(guest, guest.Err)
		}
		domain, err := domainxml.Parse(guest.XML)
		if err != nil {
			return nil, unreadable(guest, err)
		}
		domains = append(domains, policy.HostDomain{
			Name:     domain.Name,
			UUID:     domain.UUID,
			State:    guest.Process.Status.State,
			Metadata: domain.Metadata,
			Stopping: ledger.Has(policy.Incarnation{UUID: domain.UUID, PID: guest.Process.PID, Start: guest.Process.Start}),
		})
	}
	return domains, nil
}

func unreadable(guest hookproto.Guest, err error) error {
	return fmt.Errorf("a rule reads the running domains, and libvirt's status file of %.200q cannot be read: %w; look at that domain", guest.Name, err)
}

// reserve notes that the stop is under way, until the domain's process ends. Where a rule that counts is enforced, a stop
// that cannot be noted cannot be allowed: the next one would count this domain as running.
func (h hostInput) reserve(in policy.Incarnation, d policy.Decision) error {
	if h.ledger == nil || in.PID == 0 {
		return nil
	}
	if err := h.ledger.Add(in); err != nil && d.Unenforced == "" {
		return err
	}
	return nil
}

func (h hostInput) close() {
	if h.ledger != nil {
		h.ledger.Close()
	}
}

// shuttingDownFlag is there while the host shuts down; see examples/hook/stopguard-shutdown.service.
const shuttingDownFlag = "/run/stopguard/shutting-down"

// shuttingDown reports whether the host shuts down. A flag that others could have set says nothing.
func (g guard) shuttingDown() bool {
	_, err := hostfile.Root(g.Root).Read(shuttingDownFlag, 1<<10)
	return err == nil
}

func stateOf(p hookproto.Process) policy.State {
	s := policy.State{State: p.Status.State, Reason: p.Status.Reason, Job: p.Status.Job, DiskJobs: map[string]string{}}
	for _, job := range p.Status.BlockJobs {
		s.DiskJobs[job.Disk] = job.Type
	}
	return s
}
