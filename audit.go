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
	"github.com/stopguard/stopguard/policy/ticket"
)

// An auditEntry gathers the record of one event.
type auditEntry struct {
	event       record.Event
	incarnation policy.Incarnation
	engine      *policy.Engine // nil if no policy was evaluated
	input       policy.Input   // of the evaluation
}

func (g guard) newEntry(name string) auditEntry {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return auditEntry{event: record.New(host, record.Domain{Name: name}, g.Now())}
}

// setDomain sets the domain and its incarnation.
func (a *auditEntry) setDomain(domain *domainxml.Domain, p hookproto.Process) {
	a.incarnation = policy.Incarnation{UUID: domain.UUID, PID: p.PID, Start: p.Start}
	a.event.Result.Domain = record.Domain{Name: domain.Name, UUID: domain.UUID, PID: p.PID, Start: p.Start}
}

// setMoot sets the outcome of an operation on a domain without a guest.
func (a *auditEntry) setMoot(p hookproto.Process) {
	a.event.Result.Outcome, a.event.Result.Detail = record.Moot, p.Evidence
	a.event.Result.Domain.PID, a.event.Result.Domain.Start = p.PID, p.Start
}

// setTicket sets the ticket that lifts the vetoes.
func (a *auditEntry) setTicket(t ticket.Ticket) {
	a.event.Result.Outcome, a.event.Result.Ticket = record.Allow, recordedTicket(t)
}

// setInput sets the engine and the input of the decision.
func (a *auditEntry) setInput(engine *policy.Engine, in policy.Input) { a.engine, a.input = engine, in }

// report adds errors that changed no decision; nil is ignored.
func (a *auditEntry) report(errs ...error) {
	for _, err := range errs {
		if err != nil {
			a.event.Result.Reports = append(a.event.Result.Reports, err.Error())
		}
	}
}

// Recording may go on after the time for deciding is over, but never so long that the answer is
// late. Input and writing have a time each, so that a huge input leaves time to write the rest.
const (
	inputTime   = 150 * time.Millisecond
	inputGrace  = 20 * time.Millisecond // beyond the time for deciding
	writeTime   = 150 * time.Millisecond
	recordGrace = 80 * time.Millisecond
)

// boundedContext returns a context that ends after d, or a grace after the deadline of ctx if that
// is sooner. It does not end because ctx has ended.
func boundedContext(ctx context.Context, d, grace time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(d)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(grace).Before(end) {
		end = deadline.Add(grace)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// record writes the entry. It returns an error, also for a panic, which changes no decision.
func (g guard) record(ctx context.Context, a auditEntry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("recording crashed: %.200v; report this as a bug", p)
		}
	}()
	if a.engine != nil {
		in, err := a.maskedInput(ctx)
		a.report(err)
		a.event.Input, a.event.Erased, a.event.Masked = in.Input, in.Erased, in.Masked
	}
	ctx, cancel := boundedContext(ctx, writeTime, recordGrace)
	defer cancel()
	return g.Record(ctx, a.event)
}

// maskedInput returns the input as it may be recorded, or an error if that takes too long: an owner
// may have written much.
func (a auditEntry) maskedInput(ctx context.Context) (policy.Recorded, error) {
	ctx, cancel := boundedContext(ctx, inputTime, inputGrace)
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

// withAuditError returns an answer with the error that recording it returned. A nil answer is
// returned as it is, because an allow is not printed.
func withAuditError(answer, recordErr error) error {
	if answer == nil || recordErr == nil {
		return answer
	}
	note := record.UnrecordedNote(recordErr)
	var veto *hookproto.Veto
	if errors.As(answer, &veto) {
		withNote := *veto
		if withNote.Note != "" {
			note = withNote.Note + "; " + note
		}
		withNote.Note = note
		return &withNote
	}
	return fmt.Errorf("%w; %s", answer, note)
}
