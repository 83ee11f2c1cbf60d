package doctor

import (
	"testing"

	"github.com/stopguard/stopguard/internal/host/hosttest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }
