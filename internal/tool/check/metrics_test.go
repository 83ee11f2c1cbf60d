package check

import (
	"os"
	"regexp"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// A family without a value is not printed, so the names are those in the source.
func TestEachMetricOfTheToolIsDocumented(t *testing.T) {
	source, err := os.ReadFile("report.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`family\("(stopguard_\w+)"`).FindAllStringSubmatch(string(source), -1) {
		names[m[1]] = true
	}
	testhost.CheckMetricsPage(t, "The tool", names)
}
