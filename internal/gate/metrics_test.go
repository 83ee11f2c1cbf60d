package gate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stopguard/stopguard/internal/gate/relay"
	"github.com/stopguard/stopguard/internal/notify/notifystats"
	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheMetricsAreInTheirFileUntilTheGateEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gate.prom")
	end := keepMetrics(file, newRegistry())
	content, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(content), "\nprocess_resident_memory_bytes ") {
		t.Errorf("%v: %.200s", err, content)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("node_exporter is not root: %v, %v", info.Mode(), err)
	}
	end()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
}

func TestEachMetricOfTheGateIsDocumented(t *testing.T) {
	r := prometheus.NewRegistry()
	relay.NewMetrics(r)
	registerState(r, func() bool { return false })
	r.MustRegister(notifystats.New("stopguard_gate", nil))
	testhost.CheckMetricsPage(t, "The gate", testhost.Described(r))
}

func TestTheMetricsSayWhetherTheGateIsOff(t *testing.T) {
	off := false
	r := prometheus.NewRegistry()
	registerState(r, func() bool { return off })
	for _, want := range []float64{0, 1, 0} {
		off = want == 1
		families, err := r.Gather()
		if err != nil || len(families) != 2 || families[1].GetName() != "stopguard_gate_off" || families[1].Metric[0].Gauge.GetValue() != want {
			t.Errorf("off %v: %v, %v", off, families, err)
		}
	}
}

func TestAGateWhoseMetricsCannotBeWrittenServesAndSaysSo(t *testing.T) {
	p := start(t, "-metrics", "/proc/nowhere/gate.prom")
	p.says("name a file in a folder that the gate may write")
	client, daemon := p.connect()
	p.reload()
	p.says("name a file in a folder that the gate may write")
	p.says("took over from the program before")
	p.works(client, daemon, 2)
}
