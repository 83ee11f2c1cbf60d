package gate

import (
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metricsPace is how often the metrics are written: as often as most collectors read them.
const metricsPace = 15 * time.Second

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// keepMetrics writes a file for node_exporter's textfile collector until end is called, which
// removes the file: otherwise its numbers would look like those of an idle gate. It is not a
// listening socket, because such hosts have that collector already, and a gate that does not listen
// cannot be kept waiting. A failure to write, such as a full disk, is logged and retried: a gate
// that did not start would keep every client from libvirtd.
func keepMetrics(file string, r *prometheus.Registry) (end func()) {
	failing := false
	write := func() {
		err := prometheus.WriteToTextfile(file, r)
		if err != nil && !failing {
			slog.Warn("the metrics cannot be written; name a file in a folder that the gate may write", "error", err)
		}
		failing = err != nil
	}
	write()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(metricsPace)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				write()
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		_ = os.Remove(file)
	}
}
