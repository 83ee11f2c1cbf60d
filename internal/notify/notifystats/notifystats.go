// Package notifystats has the numbers of a notifier as metrics. It is not part of package notify,
// so that the tool does not link Prometheus' client.
package notifystats

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard/internal/notify"
)

// A Collector collects the numbers of a notifier, under names that begin with a prefix.
type Collector struct {
	waiting, oldest, runs, dropped *prometheus.Desc
	stats                          func() notify.Stats
}

// New returns a collector. The prefix is that of the program's other metrics.
func New(prefix string, stats func() notify.Stats) Collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+"_notify_"+name, help, labels, nil)
	}
	return Collector{
		waiting: describe("waiting", "Events that the program of data.site.notify has not taken."),
		oldest:  describe("oldest_seconds", "Age of the oldest of these events; 0 if there is none."),
		runs:    describe("runs_total", "Runs of the program by this process: success, failure or timeout.", "result"),
		dropped: describe("dropped_total", "Events that this process dropped, by why: the queue was full, or the event was old.", "why"),
		stats:   stats,
	}
}

func (c Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.waiting, c.oldest, c.runs, c.dropped} {
		ch <- d
	}
}

func (c Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	ch <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(s.Waiting))
	ch <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, s.Oldest.Seconds())
	for result, n := range map[string]uint64{"success": s.Success, "failure": s.Failure, "timeout": s.Timeout} {
		ch <- prometheus.MustNewConstMetric(c.runs, prometheus.CounterValue, float64(n), result)
	}
	for why, n := range map[string]uint64{"full": s.Full, "old": s.Old} {
		ch <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(n), why)
	}
}
