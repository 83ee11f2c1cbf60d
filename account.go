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

func (g guard) account(e *hookproto.Event) account {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return account{event: record.New(host, record.Domain{Name: e.Guest}, g.Now())}
}

// about notes which run of which domain it is.
func (a *account) about(domain *domainxml.Domain, p hookproto.Process) {
	a.incarnation = policy.Incarnation{UUID: domain.UUID, PID: p.PID, Start: p.Start}
	a.event.Result.Domain = record.Domain{Name: domain.Name, UUID: domain.UUID, PID: p.PID, Start: p.Start}
}

func (a *account) moot(p hookproto.Process) {
	a.event.Result.Outcome, a.event.Result.Detail = record.Moot, p.Seen
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

// Recording may take a little longer than deciding did, but never long enough to be why a decision is late.
const (
	recordTime  = 300 * time.Millisecond
	recordGrace = 60 * time.Millisecond
)

// record writes the account down. Its error changes no decision.
func (g guard) record(ctx context.Context, a account) error {
	end := time.Now().Add(recordTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(recordGrace).Before(end) {
		end = deadline.Add(recordGrace)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	if a.engine != nil {
		in, err := a.engine.Recorded(ctx, a.input)
		a.report(err)
		a.event.Input, a.event.Erased, a.event.Masked = in.Input, in.Erased, in.Masked
	}
	return record.Recorder{Root: g.Root}.Write(ctx, a.event)
}

// said adds to an answer that is printed anyway that it could not be recorded.
func said(answer, failed error) error {
	if answer == nil || failed == nil {
		return answer
	}
	var veto *hookproto.Veto
	if errors.As(answer, &veto) {
		noted := *veto
		noted.Note = "not recorded: " + failed.Error()
		return &noted
	}
	return fmt.Errorf("%w; not recorded: %w", answer, failed)
}
