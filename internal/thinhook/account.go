package thinhook

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy/record"
)

// This program records its own decisions as the full hook does. The agent and the full hook record
// theirs.

// recordTime bounds the writing of a record.
const recordTime = 150 * time.Millisecond

func moot(p hookproto.Process) record.Result {
	return record.Result{Outcome: record.Moot, Detail: p.Evidence, Domain: record.Domain{PID: p.PID, Start: p.Start}}
}

func fault(err error) record.Result {
	return record.Result{Outcome: record.Fault, Detail: err.Error()}
}

// record writes the record of a stop. An error does not change a decision.
func (g guard) record(ctx context.Context, e *hookproto.Event, r record.Result, began time.Time) error {
	if e.Op != hookproto.OpStop {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	r.Domain.Name = e.Domain
	event := record.New(host, r.Domain, time.Now())
	event.Result.Outcome, event.Result.Detail = r.Outcome, r.Detail
	event.Metrics = map[string]int64{"timer_stopguard_decide_ns": time.Since(began).Nanoseconds()}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	return record.Recorder{Root: g.root}.Write(ctx, event)
}

// withAuditError adds the error of a record to a fault.
func withAuditError(fault, failed error) error {
	if failed == nil {
		return fault
	}
	return fmt.Errorf("%w; %s", fault, record.UnrecordedNote(failed))
}
