package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metricsPace is how often the metrics are written down: as often as most are asked for.
const metricsPace = 15 * time.Second

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// keepMetrics writes a file for node_exporter's textfile collector again and again, until it is ended, and takes it away then:
// numbers that nobody keeps any more look like those of a gate at rest. It is a file, and no socket that is asked, because a
// host of guests has that collector already, and what does not listen cannot be kept waiting. The first failure to write is
// returned, for it is a mistake of who started the gate; later ones, such as a full disk, are logged and tried again.
func keepMetrics(file string, r *prometheus.Registry) (end func(), err error) {
	if err := prometheus.WriteToTextfile(file, r); err != nil {
		return nil, fmt.Errorf("the metrics cannot be written: %w; name a file in a folder that the gate may write", err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(metricsPace)
		defer tick.Stop()
		for failing := false; ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			err := prometheus.WriteToTextfile(file, r)
			if err != nil && !failing {
				slog.Warn("the metrics cannot be written", "error", err)
			}
			failing = err != nil
		}
	}()
	return func() {
		close(stop)
		<-stopped
		_ = os.Remove(file)
	}, nil
}
