package stopguard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// This file follows a question from top to bottom: it is answered and recorded, decided, and its
// domain found. docs/architecture.md numbers the steps.

// A guard answers the questions about the domains of one host.
type guard struct {
	Config
	state hookproto.Host
}

// A question is either a hook's event, which is about a stop, or a request of another enforcement
// point: one of event and request is set.
type question struct {
	event      *hookproto.Event
	request    *Request
	callTicket *ticket.Ticket // taken for another request of the same call; zero if none was, nil for a hook
}

// answer answers a question, and records the answer. It returns nil to allow the operation and a
// *[hookproto.Veto] to refuse it. Any other error is a fault, which refuses as well.
func (g guard) answer(ctx context.Context, q question) error {
	began := time.Now()
	entry := g.newEntry(q.name())
	entry.event.Result.Request = q.recorded()

	err := g.decideOrFail(ctx, q, &entry)

	var veto *hookproto.Veto
	switch {
	case err == nil && entry.event.Result.Outcome != record.Moot && q.allowedTTL() > 0:
		entry.report(g.markAllowed(entry.incarnation.UUID, q.allowedTTL()))
	case err != nil && !errors.As(err, &veto):
		entry.event.Result.Outcome, entry.event.Result.Detail = record.Fault, err.Error()
	}
	entry.event.Metrics = map[string]int64{"timer_stopguard_decide_ns": time.Since(began).Nanoseconds()}
	return withAuditError(err, g.record(ctx, entry))
}

// decideOrFail is decide, with a panic as a fault. Otherwise a crash would not be recorded.
func (g guard) decideOrFail(ctx context.Context, q question, entry *auditEntry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the guard crashed: %.200v; report this as a bug", p)
		}
	}()
	return g.decide(ctx, q, entry)
}

// decide returns the answer, and sets the decision in the entry.
func (g guard) decide(ctx context.Context, q question, entry *auditEntry) error {
	d, err := g.prepare(ctx, q, entry, true)
	if d == nil {
		return err
	}
	defer d.fleet.cancel()
	for {
		isOver, err := d.attempt(ctx)
		if isOver || err != nil {
			return err
		}
	}
}

// A decision is one question that is being decided, with its audit entry.
type decision struct {
	guard
	question question
	entry    *auditEntry
	domain   *domainxml.Domain
	process  hookproto.Process
	engine   *policy.Engine
	fleet    *fleetDecision

	ticketNote string // why a ticket that would lift the veto could not be taken; "" if there is none
}

// prepare finds the domain and loads the policy. It returns nil for a domain without a guest, which
// is let go before any policy is read: there is nothing left to protect, and a refusal would leave
// it half stopped for ever. deciding is set if a reservation in the fleet may follow.
func (g guard) prepare(ctx context.Context, q question, entry *auditEntry, deciding bool) (*decision, error) {
	if !slices.Contains(policy.Operations(), q.operation()) { // otherwise no rule would refuse it
		return nil, fmt.Errorf("the operation %.100q is unknown; ask about one of %s", q.operation(), strings.Join(policy.Operations(), ", "))
	}
	domain, process, err := g.find(ctx, q)
	if err != nil {
		return nil, err
	}
	if domain != nil {
		entry.setDomain(domain, process)
	}
	if process.Gone() && !q.decideWhenGone() {
		entry.setMoot(process)
		return nil, nil
	}
	engine, err := g.Engine(ctx)
	if err != nil {
		return nil, err
	}
	fleet := g.fleetDecision(ctx, engine, q.operation(), domain, deciding)
	return &decision{guard: g, question: q, entry: entry, domain: domain, process: process, engine: engine, fleet: fleet}, nil
}

// attempt evaluates the rules, takes a ticket if they refuse, and reserves an allowed operation in
// the fleet. isOver is false if the fleet has changed since, or could not be asked: the rules must
// then be evaluated again.
func (d *decision) attempt(ctx context.Context) (isOver bool, err error) {
	running := d.runningDomains(true)
	defer func() { d.entry.report(running.close()...) }()
	in, answer, err := d.evaluate(ctx, running)
	if err != nil {
		return true, err
	}
	isLifted := answer.Outcome == policy.Veto && d.liftByTicket(in)
	if answer.Outcome == policy.Veto && !isLifted {
		return true, d.veto(answer)
	}
	if d.question.endsDomain() {
		if err := running.reserve(d.entry.incarnation, answer); err != nil {
			return true, err
		}
	}
	if !d.isReserved(answer) {
		return true, nil
	}
	// Other decisions on this host must not wait for the fleet.
	d.entry.report(running.close()...)
	if isLifted {
		d.entry.report(d.fleet.force(d.reservation()))
		return true, nil
	}
	if d.fleet.reserve(d.reservation()) {
		return true, nil
	}
	d.entry.report(running.cancel(ctx, d.entry.incarnation))
	return false, nil
}

// evaluate returns the input and the decision of the rules, and sets both in the entry.
func (d *decision) evaluate(ctx context.Context, running *runningDomains) (policy.Input, policy.Decision, error) {
	in, err := d.input(ctx, d.engine, d.domain, d.process, running)
	if err != nil {
		return in, policy.Decision{}, err
	}
	d.question.complete(&in)
	in.Fleet = d.fleet.input()
	d.entry.setInput(d.engine, in)
	answer, err := d.engine.Decide(ctx, in)
	d.entry.input.Host.Domains = running.readOr(in.Host.Domains)
	if err != nil {
		return in, answer, err
	}
	answer = vetoUnread(answer, d.domain)
	recorded.Decision(&d.entry.event, answer)
	if answer.Outcome == policy.Fault {
		err = errors.New("no decision could be made; report this")
	}
	return in, answer, err
}

// veto returns the error that refuses the operation.
func (d *decision) veto(answer policy.Decision) error {
	first := answer.Reasons[0]
	return &hookproto.Veto{Reason: first.Message + doubt(d.process, d.domain), Rule: first.Rule, More: len(answer.Reasons) - 1, Note: d.ticketNote}
}

// liftByTicket takes the ticket that lifts the vetoes, and reports whether there was one. A ticket
// that another request of the same call has taken is used first.
func (d *decision) liftByTicket(in policy.Input) bool {
	tickets, callTicket := d.tickets(), d.question.callTicket
	if callTicket != nil && callTicket.Permits(in.Operation) && tickets.Approved(*callTicket, tickets.Required) == nil {
		d.entry.setTicket(*callTicket)
		return true
	}
	t, ok, reports := tickets.Take(d.entry.incarnation, d.domain.Name, in.Operation, in.Time)
	d.entry.report(reports...)
	d.ticketNote = ""
	if !ok {
		for _, err := range reports {
			if failed, isFailed := errors.AsType[*ticket.TakeError](err); isFailed {
				d.ticketNote = failed.Note()
			}
		}
		return false
	}
	d.entry.setTicket(t)
	if callTicket != nil {
		*callTicket = t
	}
	return true
}

// tickets returns the tickets that may lift a veto of the operation.
func (d *decision) tickets() ticket.Store {
	return ticket.Store{Root: d.Root, Required: d.engine.Approvals().For(d.domain.Name, d.domain.UUID, d.question.operation())}
}

func recordedTicket(t ticket.Ticket) *record.Ticket {
	r := &record.Ticket{ID: t.ID, Requester: t.Requester, Reason: t.Reason}
	if t.Approval != nil {
		r.BreakGlass = t.Approval.BreakGlass
		for _, a := range t.Approval.Approvers {
			r.Approvers = append(r.Approvers, a.User)
		}
	}
	return r
}

// find returns the domain and its process. The domain is nil if its process is known to be gone
// without the XML.
func (g guard) find(ctx context.Context, q question) (*domainxml.Domain, hookproto.Process, error) {
	if q.event != nil {
		return g.findStopping(ctx, q.event)
	}
	return g.findRequested(ctx, q.request)
}

// findStopping finds the domain that a hook is called for.
func (g guard) findStopping(ctx context.Context, e *hookproto.Event) (*domainxml.Domain, hookproto.Process, error) {
	process := g.state.Process(e.Domain)
	if process.Gone() && !ofAnotherDriver(ctx, e) {
		return nil, process, nil
	}
	xml, err := e.XML(ctx)
	if err != nil && err != hookproto.ErrTooLarge {
		return nil, process, err
	}
	domain, err := parse(xml, err == hookproto.ErrTooLarge)
	if err != nil {
		return nil, process, err
	}
	if !isNamed(domain, e.Domain) {
		return nil, process, fmt.Errorf("the hook was called for this domain with the XML of another, %.200q; call it as libvirt does", domain.Name)
	}
	return domain, g.identify(process, domain), nil
}

// isNamed reports whether domain is read from the XML of a domain with the name. libvirt may write
// a carriage return as a reference, which XML parsers do not read as a line feed.
func isNamed(domain *domainxml.Domain, name string) bool {
	return hookproto.WrittenName(domain.Name) == hookproto.WrittenName(name)
}

// parse parses a domain's XML, or the head of XML that is too large.
func parse(xml []byte, isTooLarge bool) (*domainxml.Domain, error) {
	reader := domainxml.Parse
	if isTooLarge {
		reader = domainxml.ParseHead
	}
	domain, err := reader(xml)
	if err != nil {
		return nil, fmt.Errorf("%w; libvirt gave XML that cannot be judged, look at it with virsh dumpxml", err)
	}
	return domain, nil
}

// findRequested finds the domain that a request is about. One that libvirt is about to start counts
// as alive.
func (g guard) findRequested(ctx context.Context, r *Request) (*domainxml.Domain, hookproto.Process, error) {
	switch {
	case r.Domain == nil && r.Err != nil:
		return nil, hookproto.Process{}, r.Err
	case r.Domain == nil:
		return nil, hookproto.Process{}, errors.New("the request names no domain; ask with what domainxml.Parse gives")
	case r.Domain.Name == "" || r.Domain.UUID == "":
		return nil, hookproto.Process{}, errors.New("the request's domain has no name or no UUID; ask with what domainxml.Parse gives")
	}
	look := func() hookproto.Process { return g.identify(g.state.Process(r.Domain.Name), r.Domain) }
	process := look()
	if !process.Gone() || r.decideWhenGone() || r.Starting == nil {
		return r.Domain, process, nil
	}
	starting, err := r.Starting(ctx)
	switch {
	case err != nil:
		return r.Domain, process, err
	case starting:
		return r.Domain, hookproto.Process{}, nil
	}
	// The domain may have started since, and no longer be starting.
	return r.Domain, look(), nil
}

// identify examines a domain's process more closely. The process of another driver is unknown.
func (g guard) identify(process hookproto.Process, domain *domainxml.Domain) hookproto.Process {
	if !isQEMU(domain) {
		return hookproto.Process{}
	}
	return g.state.Identify(process, domain.UUID, domain.ID)
}

// isQEMU reports whether the domain is the QEMU driver's, whose state folder is the one that is
// read.
func isQEMU(domain *domainxml.Domain) bool {
	return domain.Type == "qemu" || domain.Type == "kvm"
}

// xmlPatience is how long a domain that seems to be gone waits for its XML, which libvirt has
// written before it calls.
const xmlPatience = 250 * time.Millisecond

// ofAnotherDriver reports whether the XML is that of another driver's domain. It returns false if
// the XML is bad or late: a dead domain is let go whatever its XML holds.
func ofAnotherDriver(ctx context.Context, e *hookproto.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, xmlPatience)
	defer cancel()
	xml, err := e.XML(ctx)
	if err != nil && err != hookproto.ErrTooLarge {
		return false
	}
	domain, err := parse(xml, err == hookproto.ErrTooLarge)
	return err == nil && !isQEMU(domain)
}

func (q question) operation() string {
	if q.event != nil {
		return policy.OperationStop
	}
	return q.request.Operation
}

// name returns the domain's name, as far as it is known without its XML.
func (q question) name() string {
	if q.event != nil {
		return q.event.Domain
	}
	return q.request.Name
}

// decideWhenGone reports whether the operation is decided even if the domain has no guest.
func (q question) decideWhenGone() bool { return q.request != nil && q.request.decideWhenGone() }

// endsDomain reports whether the domain no longer runs on this host after the operation.
func (q question) endsDomain() bool {
	return q.operation() == policy.OperationStop || q.operation() == policy.OperationMove
}

// allowedTTL returns for how long an end of the domain is not an escape, if the operation is
// allowed. It is 0 for an operation that does not end the domain.
func (q question) allowedTTL() time.Duration {
	if q.event != nil {
		return stopTTL
	}
	return q.request.allowedTTL()
}

// complete sets the operation, the request and the caller of an input.
func (q question) complete(in *policy.Input) {
	in.Operation = q.operation()
	if r := q.request; r != nil {
		in.Request = policy.Request{Procedure: r.Procedure, Flags: r.Flags, Command: r.Command, Destination: r.Destination}
		in.Caller = r.Caller
	}
}

// recorded returns the request for the record; nil for a hook.
func (q question) recorded() *record.Request {
	if q.request == nil {
		return nil
	}
	return q.request.recorded()
}
