package gate

import (
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/stopguard/stopguard/internal/buildinfo"
)

// metricsPace is how often the metrics are written. Most collectors read them as often.
const metricsPace = 15 * time.Second

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// registerState adds the program's version, and whether the gate is switched off.
func registerState(r *prometheus.Registry, isOff func() bool) {
	build := buildinfo.Read()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "stopguard_gate_build_info", Help: "The gate's version, and those of Go and OPA in it; always 1."},
		[]string{"version", "goversion", "opa"})
	info.WithLabelValues(build.Version, build.Go, build.OPA).Set(1)
	r.MustRegister(info, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "stopguard_gate_off", Help: "Whether the gate is switched off: 1, and it refuses nothing, or 0.",
	}, func() float64 {
		if isOff() {
			return 1
		}
		return 0
	}))
}

// keepMetrics writes a file for node_exporter's textfile collector until end is called, which
// removes the file. Otherwise its numbers would look like those of an idle gate. A failure to
// write, such as a full disk, is logged and retried: a gate that did not start would keep every
// client from libvirtd.
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
