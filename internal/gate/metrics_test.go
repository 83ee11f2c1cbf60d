package gate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
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

func TestAGateWhoseMetricsCannotBeWrittenServesAndSaysSo(t *testing.T) {
	p := start(t, "-metrics", "/proc/nowhere/gate.prom")
	p.says("name a file in a folder that the gate may write")
	client, daemon := p.connect()
	p.reload()
	p.says("name a file in a folder that the gate may write")
	p.says("took over from the program before")
	p.works(client, daemon, 2)
}
