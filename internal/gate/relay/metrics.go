package relay

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// Metrics are the counters of one or more gates. They are safe for concurrent use.
type Metrics struct {
	clients     prometheus.Gauge
	unreachable prometheus.Counter
	exhausted   prometheus.Counter
	passed      prometheus.Counter
	off         prometheus.Counter
	unknown     prometheus.Counter
	autodestroy *prometheus.GaugeVec   // by domain
	held        *prometheus.CounterVec // by answer
	decisions   *prometheus.CounterVec // by operation and outcome
	vetoes      *prometheus.CounterVec // by operation and rule
	holding     prometheus.Histogram
	fetching    prometheus.Histogram
}

// The results of a held call, as the label answer has them.
const (
	answerPassed  = "passed"  // libvirtd got it
	answerVeto    = "veto"    // a rule refused it, or no client may do it
	answerFault   = "fault"   // no decision could be made
	answerLibvirt = "libvirt" // refused in libvirtd's words: the caller may not know the domain
	answerDropped = "dropped" // the client had gone
)

// seconds are the buckets of the histograms, from the time that a passing call takes to the timeout
// of a decision.
var seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

// NewMetrics returns Metrics that are registered with r; nil registers them nowhere.
func NewMetrics(r prometheus.Registerer) *Metrics {
	make := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return make.NewCounter(prometheus.CounterOpts{Name: "stopguard_gate_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return make.NewCounterVec(prometheus.CounterOpts{Name: "stopguard_gate_" + name, Help: help}, labels)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return make.NewHistogram(prometheus.HistogramOpts{Name: "stopguard_gate_" + name, Help: help, Buckets: seconds})
	}
	m := &Metrics{
		clients:     make.NewGauge(prometheus.GaugeOpts{Name: "stopguard_gate_clients", Help: "Connections of clients that are open."}),
		unreachable: counter("upstream_failures_total", "Connections to libvirtd that could not be made."),
		exhausted:   counter("out_of_descriptors_total", "Clients that were turned away because no file descriptor was left."),
		passed:      counter("passed_calls_total", "Calls that need no decision."),
		off:         counter("off_calls_total", "Calls that would have been held, while the gate was off."),
		unknown:     counter("unknown_calls_total", "Calls of procedures that the gate does not know."),
		held:        counters("held_calls_total", "Calls that were held, by what became of them.", "answer"),
		decisions:   counters("decisions_total", "Decisions, by operation and outcome. A call may need several, or none.", "operation", "outcome"),
		vetoes:      counters("vetoes_total", "Decisions that were vetoes, by operation and first rule.", "operation", "rule"),
		holding:     histogram("held_seconds", "Time from a call that is held to its answer, or to libvirtd getting it."),
		fetching:    histogram("fetch_seconds", "Time that libvirtd takes to give a domain's XML."),
	}
	m.autodestroy = make.NewGaugeVec(prometheus.GaugeOpts{Name: "stopguard_gate_autodestroy",
		Help: "Domains that end when a client's connection closes, for it has started them with autodestroy, and whether a stop of them would be refused."},
		[]string{"domain", "uuid", "protected"})
	for _, answer := range []string{answerPassed, answerVeto, answerFault, answerLibvirt, answerDropped} {
		m.held.WithLabelValues(answer)
	}
	return m
}

// autodestroyed sets the gauge of a domain that ends with a connection.
func (m *Metrics) autodestroyed(d AutoDomain) {
	m.forgetAutodestroy(d.UUID)
	m.autodestroy.WithLabelValues(d.Name, d.UUID, strconv.FormatBool(d.Protected)).Set(1)
}

func (m *Metrics) forgetAutodestroy(uuid string) {
	m.autodestroy.DeletePartialMatch(prometheus.Labels{"uuid": uuid})
}

// decided counts a decision.
func (m *Metrics) decided(operation string, err error) {
	var veto *hookproto.Veto
	switch {
	case err == nil:
		m.decisions.WithLabelValues(operation, "allow").Inc()
	case errors.As(err, &veto) && veto != nil:
		m.decisions.WithLabelValues(operation, answerVeto).Inc()
		m.vetoes.WithLabelValues(operation, veto.Rule).Inc()
	default:
		m.decisions.WithLabelValues(operation, answerFault).Inc()
	}
}

// answered counts a call that was held, and the time since its first bytes.
func (m *Metrics) answered(answer string, since time.Time) {
	m.held.WithLabelValues(answer).Inc()
	m.holding.Observe(time.Since(since).Seconds())
}

// answerOf returns the value of the label answer for the result of a decision.
func answerOf(err error) string {
	var veto *hookproto.Veto
	var own *wire.Error
	switch {
	case err == nil:
		return answerPassed
	case errors.As(err, &own):
		return answerLibvirt
	case errors.As(err, &veto) && veto != nil:
		return answerVeto
	}
	return answerFault
}
