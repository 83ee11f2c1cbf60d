package testhost

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	descName   = regexp.MustCompile(`fqName: "(stopguard_[^"]+)"`)
	tableEntry = regexp.MustCompile("`(stopguard_[a-z_]+)")
)

// Described returns the names of a collector's metrics of stopguard, also of those without a value.
// D is *prometheus.Desc, which is not named here: otherwise each package's tests would link
// Prometheus' client.
func Described[D fmt.Stringer](c interface{ Describe(chan<- D) }) map[string]bool {
	names := map[string]bool{}
	descs := make(chan D)
	go func() { c.Describe(descs); close(descs) }()
	for d := range descs {
		if m := descName.FindStringSubmatch(d.String()); m != nil {
			names[m[1]] = true
		}
	}
	return names
}

// CheckMetricsPage compares metrics with those that a section of docs/metrics.md has.
func CheckMetricsPage(t *testing.T, section string, names map[string]bool) {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	page, err := os.ReadFile(filepath.Join(filepath.Dir(file), "../../docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("docs/metrics.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	documented := map[string]bool{}
	for line := range strings.Lines(text) {
		if cell, ok := strings.CutPrefix(line, "| "); ok {
			cell, _, _ = strings.Cut(cell, " | ")
			for _, m := range tableEntry.FindAllStringSubmatch(cell, -1) {
				documented[m[1]] = true
			}
		}
	}
	if diff := cmp.Diff(names, documented); diff != "" {
		t.Errorf("docs/metrics.md, %s (-program +document):\n%s", section, diff)
	}
}
