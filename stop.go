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

// A guard answers the events of one host.
type guard struct {
	Config
	state hookproto.Host
}

// A question is what the guard is asked: by a hook about a stop, or by another enforcement point about any operation.
type question struct {
	operation string
	name      string // of the domain, as far as it is known without its XML
	unmoot    bool   // whether it is decided also where no guest is left
	request   policy.Request
	caller    *policy.Caller  // nil where it is not known
	asked     *record.Request // for the record; nil where a hook asks

	// letGoFor is for how long an end of the domain is no escape, if it is let go; 0 for what ends no domain.
	letGoFor time.Duration

	// subject finds the domain and its process. It may leave the domain out if nothing is left of it to protect.
	subject func(context.Context) (*domainxml.Domain, hookproto.Process, error)
}

// ends reports whether the domain no longer runs here, if the operation comes about.
func (q question) ends() bool {
	return q.operation == policy.OperationStop || q.operation == policy.OperationMove
}

// stop answers a hook that asks about a stop.
func (g guard) stop(ctx context.Context, e *hookproto.Event) error {
	return g.answer(ctx, question{
		operation: policy.OperationStop,
		name:      e.Domain,
		letGoFor:  stopLasts,
		subject:   func(ctx context.Context) (*domainxml.Domain, hookproto.Process, error) { return g.stopping(ctx, e) },
	})
}

// answer answers a question, and has the answer recorded: nil allows, a *hookproto.Veto is a veto, every other error a
// fault.
func (g guard) answer(ctx context.Context, q question) error {
	began := time.Now()
	a := g.account(q.name)
	a.event.Result.Request = q.asked
	err := g.judged(ctx, q, &a)
	var veto *hookproto.Veto
	switch {
	case err == nil && a.event.Result.Outcome != record.Moot && q.letGoFor > 0:
		a.report(g.letGo(a.incarnation.UUID, q.letGoFor))
	case err != nil && !errors.As(err, &veto):
		a.event.Result.Outcome, a.event.Result.Detail = record.Fault, err.Error()
	}
	a.event.Metrics = map[string]int64{"timer_stopguard_decide_ns": time.Since(began).Nanoseconds()}
	return said(err, g.record(ctx, a))
}

// judged is judge, of which a panic is a fault like any other, and recorded as one.
func (g guard) judged(ctx context.Context, q question, a *account) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the guard crashed: %.200v; report this as a bug", p)
		}
	}()
	return g.judge(ctx, q, a)
}

// judge decides, and notes in the account how.
func (g guard) judge(ctx context.Context, q question, a *account) error {
	if !slices.Contains(policy.Operations(), q.operation) { // no rule would have anything against it
		return fmt.Errorf("the operation %.100q is unknown; ask about one of %s", q.operation, strings.Join(policy.Operations(), ", "))
	}
	domain, process, err := q.subject(ctx)
	if err != nil {
		return err
	}
	if domain != nil {
		a.about(domain, process)
	}
	if process.Gone() && !q.unmoot {
		a.moot(process)
		return nil
	}
	return g.decide(ctx, q, domain, process, a)
}

// stopping gives the domain that a hook is asked about, and its process; of one that is gone, the process alone.
func (g guard) stopping(ctx context.Context, e *hookproto.Event) (*domainxml.Domain, hookproto.Process, error) {
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
	if domain.Name != hookproto.WrittenName(e.Domain) {
		return nil, process, fmt.Errorf("the hook was called for this domain with the XML of another, %.200q; call it as libvirt does", domain.Name)
	}
	return domain, g.identify(process, domain), nil
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

// identify looks closer at a domain's process. Nothing is known of another driver's.
func (g guard) identify(process hookproto.Process, domain *domainxml.Domain) hookproto.Process {
	if !isQEMU(domain) {
		return hookproto.Process{}
	}
	return g.state.Identify(process, domain.UUID, domain.ID)
}

// decide asks the policy about a domain that there is something left of to protect.
func (g guard) decide(ctx context.Context, q question, domain *domainxml.Domain, process hookproto.Process, a *account) error {
	engine, err := g.Engine(ctx)
	if err != nil {
		return err
	}
	ledger, err := g.lock(ctx, engine)
	if err != nil {
		return err
	}
	if ledger != nil {
		defer ledger.Close()
		a.report(ledger.Reports()...)
	}
	in, err := g.input(engine, domain, process, ledger)
	if err != nil {
		return err
	}
	in.Operation, in.Request, in.Caller = q.operation, q.request, q.caller
	a.asked(engine, in)
	decision, err := engine.Decide(ctx, in)
	if err != nil {
		return err
	}
	decision = vetoUnread(decision, domain)
	recorded.Decision(&a.event, decision)
	if decision.Outcome == policy.Veto && !g.lifted(a, domain.Name, in) {
		first := decision.Reasons[0]
		return &hookproto.Veto{Reason: first.Message + doubt(process, domain), Rule: first.Rule, More: len(decision.Reasons) - 1}
	}
	if decision.Outcome == policy.Fault {
		return errors.New("no decision could be made; report this")
	}
	if q.ends() {
		return reserve(ledger, a.incarnation, decision)
	}
	return nil
}

// lifted takes the ticket that lifts the vetoes, if there is one.
func (g guard) lifted(a *account, name string, in policy.Input) bool {
	taken, ok, reports := ticket.Store{Root: g.Root}.Take(a.incarnation, name, in.Operation, in.Time)
	a.report(reports...)
	if ok {
		a.event.Result.Outcome = record.Allow
		a.event.Result.Ticket = &record.Ticket{ID: taken.ID, Requester: taken.Requester, Reason: taken.Reason}
	}
	return ok
}

// isQEMU reports whether the state of the domain's process can be told: the state folder is the QEMU driver's.
func isQEMU(domain *domainxml.Domain) bool {
	return domain.Type == "qemu" || domain.Type == "kvm"
}

// patience is how long a domain that seems to be gone waits for its XML, which libvirt has written before it calls.
const patience = 250 * time.Millisecond

// ofAnotherDriver reports whether the XML says, readably, that the domain is not the QEMU driver's. XML that is bad or
// late says nothing: the dead are let go whatever it holds.
func ofAnotherDriver(ctx context.Context, e *hookproto.Event) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	xml, err := e.XML(ctx)
	if err != nil && err != hookproto.ErrTooLarge {
		return false
	}
	domain, err := parse(xml, err == hookproto.ErrTooLarge)
	return err == nil && !isQEMU(domain)
}
