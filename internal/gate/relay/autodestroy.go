package relay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// autodestroy has the domains that a client has started with autodestroy. libvirtd ends them when
// the connection closes, and the gate sees no call of that. So the start is decided. A domain that
// is protected only afterwards cannot be kept, so it is reported.
type autodestroy struct {
	mu      sync.Mutex
	starts  map[id]int             // the calls without an answer
	domains map[string]*AutoDomain // by UUID
}

// An AutoDomain is a domain that ends with a client's connection.
type AutoDomain struct {
	Name, UUID string
	Protected  bool // Protected is set if a stop of it would be refused.
}

// sent notes that libvirtd gets a start.
func (a *autodestroy) sent(h wire.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.starts == nil {
		a.starts = map[id]int{}
	}
	a.starts[id{h.Procedure, h.Serial}]++
}

// isAnswer reports whether a frame of libvirtd's answers a start.
func (a *autodestroy) isAnswer(h wire.Header) bool {
	if h.Kind != wire.Reply || h.Program != call.Remote { // another program numbers its own procedures
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := id{h.Procedure, h.Serial}
	if a.starts[key] == 0 {
		return false
	}
	if a.starts[key]--; a.starts[key] == 0 {
		delete(a.starts, key)
	}
	return true
}

// answered adds the domain in libvirtd's answer to a start, unless the start failed.
func (a *autodestroy) answered(h wire.Header, frame []byte) {
	if h.Status != wire.OK || len(frame) < wire.HeaderSize {
		return
	}
	d := wire.Decode(frame[wire.HeaderSize:])
	domain := AutoDomain{Name: d.String(), UUID: d.UUID()}
	if d.Err() != nil {
		return
	}
	a.add(domain)
}

func (a *autodestroy) add(d AutoDomain) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.domains == nil {
		a.domains = map[string]*AutoDomain{}
	}
	a.domains[d.UUID] = &d
}

// list returns the domains as they are known.
func (a *autodestroy) list() []AutoDomain {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []AutoDomain
	for _, uuid := range slices.Sorted(maps.Keys(a.domains)) {
		all = append(all, *a.domains[uuid])
	}
	return all
}

// update replaces a domain, and shows it in the metrics; nil removes it. It changes nothing if the
// domain was lost while it was looked at: otherwise the metrics would show it forever.
func (a *autodestroy) update(uuid string, d *AutoDomain, m *Metrics) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch _, isKnown := a.domains[uuid]; {
	case !isKnown:
	case d == nil:
		delete(a.domains, uuid)
		m.forgetAutodestroy(uuid)
	default:
		a.domains[uuid] = d
		m.autodestroyed(*d)
	}
}

// lose removes all domains, and returns them.
func (a *autodestroy) lose(m *Metrics) []AutoDomain {
	all := a.list()
	for _, d := range all {
		a.update(d.UUID, nil, m)
	}
	return all
}

const (
	// watchPace is how often the domains that end with a connection are looked at.
	watchPace = 15 * time.Second

	// lookTimeout bounds a look at one of them, and at all that end when a connection closes.
	lookTimeout = 2 * time.Second

	// maxStartReply bounds libvirtd's answer to a start, in bytes. A longer one is not read.
	maxStartReply = 64 << 10
)

// watch checks at intervals the domains that end with a connection, of all connections, until ctx
// is done.
func (g *Gate) watch(ctx context.Context) {
	if g.Protected == nil {
		return
	}
	tick := time.NewTicker(g.watchPace)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		g.serving.Lock()
		all := slices.Collect(maps.Keys(g.connections))
		g.serving.Unlock()
		for _, c := range all {
			c.watchAutodestroy(ctx)
		}
	}
}

// watchAutodestroy checks whether domains that end with the connection have become protected.
func (c *connection) watchAutodestroy(ctx context.Context) {
	for _, known := range c.autodestroy.list() {
		now, _, err := c.look(ctx, known)
		switch {
		case err != nil: // retried at the next tick
		case now == nil:
			c.autodestroy.update(known.UUID, nil, c.gate.Metrics)
		default:
			c.autodestroy.update(known.UUID, now, c.gate.Metrics)
			if now.Protected && !known.Protected {
				c.gate.Log.Warn("a protected domain ends when its client's connection closes: it was started with autodestroy; shut it down and start it without",
					append([]any{"domain", now.Name, "uuid", now.UUID}, c.caller.attributes()...)...)
			}
		}
	}
}

// look returns the domain as it is now; nil if it no longer runs.
func (c *connection) look(ctx context.Context, known AutoDomain) (*AutoDomain, *domainxml.Domain, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	xml, err := c.xml(ctx, known.UUID, liveXML)
	if errors.Is(err, errNoDomain) {
		return nil, nil, nil
	}
	if err != nil && c.gate.StatusXML != nil {
		if written, writtenErr := c.gate.StatusXML(known.UUID); writtenErr == nil {
			xml, err = written, nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return nil, nil, err
	}
	if domain.ID == 0 {
		return nil, nil, nil
	}
	protected, err := c.gate.Protected(ctx, domain)
	if err != nil {
		return nil, nil, err
	}
	return &AutoDomain{domain.Name, domain.UUID, protected}, domain, nil
}

// loseAutodestroy reports the protected domains that libvirtd is about to end, because the client's
// connection is about to close.
func (c *connection) loseAutodestroy() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), lookTimeout) // for all of them
	defer cancel()
	for _, known := range c.autodestroy.lose(c.gate.Metrics) {
		if c.gate.Protected == nil || c.serverEnded.Load() { // libvirtd may keep the domain if it closed the connection itself
			continue
		}
		now, domain, err := c.look(ctx, known)
		if err != nil {
			now = &known
		}
		if now == nil || !now.Protected {
			continue
		}
		c.gate.Log.Warn("a protected domain is ended by libvirtd: it was started with autodestroy, and its client's connection closes",
			append([]any{"domain", now.Name, "uuid", now.UUID}, c.caller.attributes()...)...)
		if c.gate.Ended != nil && domain != nil {
			c.gate.Ended(domain, *c.caller.get())
		}
	}
}
