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

// mountHook adds the handler of the thin hook's requests.
func (a *agent) mountHook(mux *http.ServeMux) {
	mux.Handle(remote.Path, serve.Handler(a.handler()))
}

// handler returns a Handler that decides the hooks' requests by the current generation. It records
// each decision on the host and in the decision log.
func (a *agent) handler() hookproto.Handler {
	h := stopguard.Handler(stopguard.Config{Root: a.root, Engine: a.bundles.Engine, Record: a.record, Fleet: a.askFleet})
	return func(ctx context.Context, e *hookproto.Event) error {
		began := time.Now()
		defer func() { observeSince(a.metrics.hookLatency, began) }()
		var outcome string
		err := h(context.WithValue(ctx, outcomeKey{}, &outcome), e)
		if err == nil && outcome == record.Moot {
			return remote.ErrMoot
		}
		return err
	}
}

// outcomeKey is the context's key of a *string, in which record stores the outcome.
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
