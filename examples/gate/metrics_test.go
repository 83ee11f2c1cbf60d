package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheMetricsAreInTheirFileUntilTheGateEnds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gate.prom")
	end, err := keepMetrics(file, newRegistry())
	if err != nil {
		t.Fatal(err)
	}
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
	if _, err := keepMetrics(filepath.Join(file, "nowhere"), newRegistry()); err == nil || !strings.Contains(err.Error(), "; name a file") {
		t.Errorf("a folder that is not there: %v", err)
	}
}
