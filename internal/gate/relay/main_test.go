package relay

import (
	"os"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// Each test that begins with t.Parallel has its own gate, and most of its time it waits. The others
// count what is the whole process': descriptors, threads, memory.
func TestMain(m *testing.M) { os.Exit(testhost.RunWaiting(m)) }
