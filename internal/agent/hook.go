package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/hookproto/remote/serve"
	"github.com/stopguard/stopguard/policy/record"
)

// mountHook answers the thin hook's questions.
func (a *agent) mountHook(mux *http.ServeMux) {
	mux.Handle(remote.Path, serve.Handler(a.handler()))
}

// handler decides the hooks' questions by the current generation, and records each decision on the
// host and in the decision log.
func (a *agent) handler() hookproto.Handler {
	h := stopguard.Handler(stopguard.Config{Root: a.root, Engine: a.bundles.Engine, Record: a.record, Fleet: a.askFleet})
	return func(ctx context.Context, e *hookproto.Event) error {
		began := time.Now()
		defer func() { took(a.metrics.hookLatency, began) }()
		var outcome string
		err := h(context.WithValue(ctx, outcomeKey{}, &outcome), e)
		if err == nil && outcome == record.Moot {
			return remote.ErrMoot
		}
		return err
	}
}

// outcomeKey is the context's key of a *string that record sets to the outcome.
type outcomeKey struct{}

func (a *agent) record(ctx context.Context, e record.Event) error {
	if outcome, ok := ctx.Value(outcomeKey{}).(*string); ok {
		*outcome = e.Result.Outcome
	}
	a.metrics.decided(e.Result)
	a.log.add(e)
	err := record.Recorder{Root: a.root}.Write(ctx, e)
	if err != nil {
		a.metrics.recordFailures.Inc()
	}
	return err
}
