package check

import (
	"testing"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

// commands are those that the tests of this package need.
var commands = []func() *cobra.Command{Command, MayStop}

func newStage(t testing.TB, files ...string) *tooltest.Stage {
	t.Helper()
	return tooltest.New(t, commands, files...)
}
