package fleet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stats are the metrics of a fleet. They are safe for concurrent use.
type stats struct {
	fleet        *Fleet
	views        prometheus.Observer
	reservations prometheus.Observer
	failures     prometheus.Counter
	conflicts    prometheus.Counter
	latency      *prometheus.HistogramVec
}

func newStats(f *Fleet) *stats {
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "stopguard_fleet_duration_seconds",
		Help:    "Time of requests to etcd for decisions: reading groups, and reserving.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
	}, []string{"request"})
	return &stats{
		fleet:        f,
		latency:      latency,
		views:        latency.WithLabelValues("read"),
		reservations: latency.WithLabelValues("reserve"),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stopguard_fleet_failures_total", Help: "Requests for decisions that etcd did not answer, or not in time; each is a refusal.",
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "stopguard_fleet_conflicts_total", Help: "Reservations that were not made because the group had changed since it was read; it is then decided anew.",
		}),
	}
}

func observeSince(o prometheus.Observer, began time.Time) { o.Observe(time.Since(began).Seconds()) }

var (
	descMembers      = prometheus.NewDesc("stopguard_fleet_members", "Running members of the fleet's groups that this host knows of: its own, and those of all hosts.", []string{"hosts"}, nil)
	descReservations = prometheus.NewDesc("stopguard_fleet_reservations", "Reservations that this host knows of: its own, and those of all hosts.", []string{"hosts"}, nil)
	descProblems     = prometheus.NewDesc("stopguard_fleet_problems", "What fails now between this host and the fleet; 0 if nothing does.", nil, nil)
)

// Collector returns the fleet's metrics.
func (f *Fleet) Collector() prometheus.Collector { return f.stats }

func (s *stats) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{s.latency, s.failures, s.conflicts} {
		c.Describe(ch)
	}
	ch <- descMembers
	ch <- descReservations
	ch <- descProblems
}

func (s *stats) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{s.latency, s.failures, s.conflicts} {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	c := s.fleet.cache
	c.mu.RLock()
	members, reservations, ownMembers, ownReservations := len(c.members), len(c.reservations), 0, 0
	for _, m := range c.members {
		if m.Host == c.host {
			ownMembers++
		}
	}
	for _, r := range c.reservations {
		if r.host == c.host {
			ownReservations++
		}
	}
	c.mu.RUnlock()
	gauge(descMembers, members, "all")
	gauge(descMembers, ownMembers, "own")
	gauge(descReservations, reservations, "all")
	gauge(descReservations, ownReservations, "own")
	gauge(descProblems, len(s.fleet.health.problems()))
}
