package fleet

import (
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestEachMetricOfTheFleetIsDocumented(t *testing.T) {
	testhost.CheckMetricsPage(t, "The agent in a fleet", testhost.Described(newStats(nil)))
}
