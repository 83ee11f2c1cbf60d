package stopguard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// An account gathers what a record will say of one event.
type account struct {
	event       record.Event
	incarnation policy.Incarnation
	engine      *policy.Engine // nil if no policy was asked
	input       policy.Input   // what it was asked
}

func (g guard) account(name string) account {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return account{event: record.New(host, record.Domain{Name: name}, g.Now())}
}

// about notes which run of which domain it is.
func (a *account) about(domain *domainxml.Domain, p hookproto.Process) {
	a.incarnation = policy.Incarnation{UUID: domain.UUID, PID: p.PID, Start: p.Start}
	a.event.Result.Domain = record.Domain{Name: domain.Name, UUID: domain.UUID, PID: p.PID, Start: p.Start}
}

func (a *account) moot(p hookproto.Process) {
	a.event.Result.Outcome, a.event.Result.Detail = record.Moot, p.Evidence
	a.event.Result.Domain.PID, a.event.Result.Domain.Start = p.PID, p.Start
}

func (a *account) asked(engine *policy.Engine, in policy.Input) { a.engine, a.input = engine, in }

// report notes what was passed over.
func (a *account) report(errs ...error) {
	for _, err := range errs {
		if err != nil {
			a.event.Result.Reports = append(a.event.Result.Reports, err.Error())
		}
	}
}

// Recording may take a little longer than deciding did, but never long enough to be why a decision is late. What the input
// takes is not taken from the writing.
const (
	inputTime   = 150 * time.Millisecond
	inputGrace  = 20 * time.Millisecond // beyond the time for deciding
	writeTime   = 150 * time.Millisecond
	recordGrace = 80 * time.Millisecond
)

// within gives a context that ends after a time, or a little after ctx does if that is sooner. That ctx is over already
// does not end it.
func within(ctx context.Context, d, grace time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(d)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(grace).Before(end) {
		end = deadline.Add(grace)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// record writes the account down. Its error, which a panic is too, changes no decision.
func (g guard) record(ctx context.Context, a account) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("recording crashed: %.200v; report this as a bug", p)
		}
	}()
	if a.engine != nil {
		in, err := a.recorded(ctx)
		a.report(err)
		a.event.Input, a.event.Erased, a.event.Masked = in.Input, in.Erased, in.Masked
	}
	ctx, cancel := within(ctx, writeTime, recordGrace)
	defer cancel()
	return g.Record(ctx, a.event)
}

// recorded gives the input as it may be recorded, or an error if that takes too long: an owner may have written much.
func (a account) recorded(ctx context.Context) (policy.Recorded, error) {
	ctx, cancel := within(ctx, inputTime, inputGrace)
	defer cancel()
	type result struct {
		in  policy.Recorded
		err error
	}
	done := make(chan result, 1)
	go func() {
		in, err := a.engine.Recorded(ctx, a.input)
		done <- result{in, err}
	}()
	select {
	case r := <-done:
		return r.in, r.err
	case <-ctx.Done():
		return policy.Recorded{}, errors.New("the input took too long to write down, and is left out")
	}
}

// said adds to an answer that is printed anyway where it is not recorded.
func said(answer, failed error) error {
	if answer == nil || failed == nil {
		return answer
	}
	note := record.UnrecordedNote(failed)
	var veto *hookproto.Veto
	if errors.As(answer, &veto) {
		noted := *veto
		noted.Note = note
		return &noted
	}
	return fmt.Errorf("%w; %s", answer, note)
}
