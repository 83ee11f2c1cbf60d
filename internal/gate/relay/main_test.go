package relay

import (
	"os"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestMain(m *testing.M) { os.Exit(testhost.RunWaiting(m)) }
