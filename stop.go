package stopguard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A guard answers the events of one host.
type guard struct {
	Config
	state hookproto.Host
}

// stop answers a stop request, and has the answer recorded: nil allows, a *hookproto.Veto is a veto, every other error a
// fault.
func (g guard) stop(ctx context.Context, e *hookproto.Event) error {
	began := time.Now()
	a := g.account(e)
	err := g.judged(ctx, e, &a)
	var veto *hookproto.Veto
	switch {
	case err == nil && a.event.Result.Outcome != record.Moot:
		a.report(g.letGo(a.incarnation.UUID))
	case err != nil && !errors.As(err, &veto):
		a.event.Result.Outcome, a.event.Result.Detail = record.Fault, err.Error()
	}
	a.event.Metrics = map[string]int64{"timer_stopguard_decide_ns": time.Since(began).Nanoseconds()}
	return said(err, g.record(ctx, a))
}

// judged is judge, of which a panic is a fault like any other, and recorded as one.
func (g guard) judged(ctx context.Context, e *hookproto.Event, a *account) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the guard crashed: %.200v; report this as a bug", p)
		}
	}()
	return g.judge(ctx, e, a)
}

// judge decides about a stop, and notes in the account how.
func (g guard) judge(ctx context.Context, e *hookproto.Event, a *account) error {
	process := g.state.Process(e.Guest)
	if process.Moot() && !ofAnotherDriver(ctx, e) {
		a.moot(process)
		return nil
	}
	xml, err := readXML(ctx, e)
	if err != nil {
		return err
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return fmt.Errorf("%w; libvirt gave XML that cannot be judged, look at it with virsh dumpxml", err)
	}
	if domain.Name != e.Guest {
		return fmt.Errorf("the hook was called for this domain with the XML of another, %.200q; call it as libvirt does", domain.Name)
	}
	if isQEMU(domain) {
		process = g.state.Identify(process, domain.UUID, domain.ID)
	} else {
		process = hookproto.Process{} // nothing is known of another driver's domains
	}
	a.about(domain, process)
	if process.Moot() {
		a.moot(process)
		return nil
	}
	return g.decide(ctx, domain, process, a)
}

// decide asks the policy about a domain that there is something left of to protect.
func (g guard) decide(ctx context.Context, domain *domainxml.Domain, process hookproto.Process, a *account) error {
	engine, err := g.engine(ctx)
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
	a.asked(engine, in)
	decision, err := engine.Decide(ctx, in)
	if err != nil {
		return err
	}
	a.decided(decision)
	switch decision.Outcome {
	case policy.Allow:
		return reserve(ledger, a.incarnation, decision)
	case policy.Veto:
		if g.lifted(a, domain.Name, in.Time) {
			return reserve(ledger, a.incarnation, decision)
		}
		first := decision.Reasons[0]
		return &hookproto.Veto{Reason: first.Message, Rule: first.Rule, More: len(decision.Reasons) - 1}
	}
	return errors.New("no decision could be made; report this")
}

func (g guard) engine(ctx context.Context) (*policy.Engine, error) {
	config, err := policy.HostConfig(g.Root)
	if err != nil {
		return nil, err
	}
	return policy.New(ctx, config)
}

// lifted takes the ticket that lifts the vetoes, if there is one.
func (g guard) lifted(a *account, name string, now time.Time) bool {
	taken, ok, reports := ticket.Store{Root: g.Root}.Take(a.incarnation, name, policy.OperationStop, now)
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
	xml, err := readXML(ctx, e)
	if err != nil {
		return false
	}
	domain, err := domainxml.Parse(xml)
	return err == nil && !isQEMU(domain)
}

// readXML is e.XML, which waits for stdin's end, for as long as ctx allows.
func readXML(ctx context.Context, e *hookproto.Event) ([]byte, error) {
	type result struct {
		xml []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		xml, err := e.XML()
		done <- result{xml, err}
	}()
	select {
	case r := <-done:
		return r.xml, r.err
	case <-ctx.Done():
		return nil, errors.New("the domain XML on stdin did not end in time; run the stop again")
	}
}
