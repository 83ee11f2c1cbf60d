package agent

import (
	"context"
	"sync"

	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/server"

	"github.com/stopguard/stopguard/policy/record"
)

// logQueue bounds the decisions that wait for OPA's plugin to put them into its buffer. The plugin
// compresses each, and does not wait for the collector.
const logQueue = 1024

// A decisionLog passes decisions to OPA's plugin, which buffers, sends and retries. Decisions do
// not wait for the plugin, which compresses each event while it holds a lock.
type decisionLog struct {
	plugin  func() *logs.Plugin // it returns nil if there is no plugin in the configuration
	metrics *metrics
	events  chan record.Event
	ending  chan struct{} // closed when run ends after the queued events
	done    chan struct{} // closed when the queued events are passed on
	once    sync.Once
}

func newDecisionLog(plugin func() *logs.Plugin, m *metrics) *decisionLog {
	l := &decisionLog{plugin: plugin, metrics: m, events: make(chan record.Event, logQueue), ending: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// add queues an event. If the queue is full, it counts the event as dropped.
func (l *decisionLog) add(e record.Event) {
	if l.plugin() == nil {
		return
	}
	select {
	case l.events <- e:
	default:
		l.metrics.logDropped.WithLabelValues("queue_full").Inc()
	}
}

func (l *decisionLog) run() {
	defer close(l.done)
	for {
		select {
		case e := <-l.events:
			l.hand(e)
			continue
		default:
		}
		select {
		case e := <-l.events:
			l.hand(e)
		case <-l.ending:
			return
		}
	}
}

func (l *decisionLog) hand(e record.Event) {
	plugin := l.plugin()
	if plugin == nil {
		return
	}
	if err := plugin.Log(context.Background(), infoOf(e)); err != nil {
		l.metrics.logDropped.WithLabelValues("not_accepted").Inc()
	}
}

// close passes the queued events on, until ctx is done. Events that are added later may be lost.
func (l *decisionLog) close(ctx context.Context) {
	l.once.Do(func() { close(l.ending) })
	select {
	case <-l.done:
	case <-ctx.Done():
	}
}

// infoOf returns an event in the form of OPA's plugin. Masked fields have been removed from the
// input already; OPA does not have a field that lists them.
func infoOf(e record.Event) *server.Info {
	info := &server.Info{
		DecisionID: e.DecisionID,
		Path:       e.Path,
		Timestamp:  e.Timestamp,
		Bundles:    map[string]server.BundleInfo{},
		Custom:     map[string]any{},
	}
	for name, b := range e.Bundles {
		info.Bundles[name] = server.BundleInfo{Revision: b.Revision}
	}
	if e.Input != nil {
		info.Input = &e.Input
	}
	var result any = e.Result
	info.Results = &result
	if len(e.Erased) > 0 {
		info.Custom["erased"] = e.Erased
	}
	if len(e.Masked) > 0 {
		info.Custom["masked"] = e.Masked
	}
	for name, value := range e.Metrics {
		info.Custom[name] = value
	}
	return info
}
