package agent

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/stopguard/stopguard/internal/buildinfo"
	"github.com/stopguard/stopguard/policy/record"
)

// metrics are the agent's own counters and latencies. They are safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry

	decisions      *prometheus.CounterVec // by outcome
	reasons        *prometheus.CounterVec // by rule
	dataLatency    prometheus.Observer
	hookLatency    prometheus.Observer
	recordFailures prometheus.Counter
	logDropped     *prometheus.CounterVec // by reason
	activations    *prometheus.CounterVec // by bundle and result
	reloads        *prometheus.CounterVec // by result
	refused        *prometheus.CounterVec // by status code
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	make := promauto.With(r)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return make.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	latency := make.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "stopguard_decision_duration_seconds",
		Help:    "Time from a question to its answer, by endpoint.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
	}, []string{"endpoint"})
	m := &metrics{
		registry:    r,
		decisions:   counter("stopguard_decisions_total", "Decisions, by outcome.", "outcome"),
		reasons:     counter("stopguard_reasons_total", "Reasons of decisions, by rule; those that are only monitored apart.", "rule", "enforced"),
		dataLatency: latency.WithLabelValues("data"),
		hookLatency: latency.WithLabelValues("hook"),
		recordFailures: make.NewCounter(prometheus.CounterOpts{
			Name: "stopguard_record_failures_total", Help: "Decisions of hooks that the record on the host, or its journal, lacks.",
		}),
		logDropped:  counter("stopguard_decision_log_dropped_total", "Decisions that did not get into the buffer of the decision log, by why.", "why"),
		activations: counter("stopguard_bundle_activations_total", "Attempts to get and activate a bundle, by result; an answer that the bundle has not changed is none.", "bundle", "result"),
		refused:     counter("stopguard_requests_refused_total", "Requests that were not answered, by status: 403 and 401 for a client that may not ask, 503 for too many at once, others for what is not a question; connection for a TCP connection that was closed at once, for there were too many.", "code"),
		reloads:     counter("stopguard_reloads_total", "Reloads of the configuration, by result.", "result"),
	}
	build := buildinfo.Read()
	make.NewGaugeVec(prometheus.GaugeOpts{Name: "stopguard_build_info", Help: "The agent's version, and those of Go and OPA in it; always 1."},
		[]string{"version", "goversion", "opa"}).WithLabelValues(build.Version, build.Go, build.OPA).Set(1)
	for _, outcome := range []string{record.Allow, record.Veto, record.Moot, record.Fault, record.Escape} {
		m.decisions.WithLabelValues(outcome)
	}
	return m
}

func (m *metrics) decided(r record.Result) {
	m.decisions.WithLabelValues(r.Outcome).Inc()
	for _, reason := range r.Reasons {
		m.reasons.WithLabelValues(reason.Rule, "true").Inc()
	}
	for _, reason := range r.Monitored {
		m.reasons.WithLabelValues(reason.Rule, "false").Inc()
	}
}

func observeSince(latency prometheus.Observer, began time.Time) {
	latency.Observe(time.Since(began).Seconds())
}

func (m *metrics) activated(bundle string, err error) {
	m.activations.WithLabelValues(bundle, result(err)).Inc()
}

func (m *metrics) reloaded(err error) { m.reloads.WithLabelValues(result(err)).Inc() }

func result(err error) string {
	if err != nil {
		return "failure"
	}
	return "success"
}

// countRefused counts the requests that h answers with an error of the client's, or with 503.
func (m *metrics) countRefused(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(recorder, r)
		if status := recorder.status; status >= 400 && status < 500 || status == http.StatusServiceUnavailable {
			m.refused.WithLabelValues(strconv.Itoa(status)).Inc()
		}
	})
}

// A statusWriter records the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets an http.ResponseController reach the writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
