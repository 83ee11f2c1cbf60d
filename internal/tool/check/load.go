package check

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// load prints the errors in the host's policy. It returns an error if this version cannot decide by
// that policy.
func load(c *cobra.Command) error {
	report := hostpolicy.Check(c.Context(), cli.HostRoot())
	for _, err := range report.Errors {
		cli.Warn(c, "every stop is refused: %v", err)
	}
	warnAll(c, report.Warnings)
	if len(report.Errors) > 0 {
		return &cli.ToldError{}
	}
	return nil
}

// warnAll prints warnings about the host's policy. It leaves out warnings about domains that may be
// on another host. It also leaves out those about rules for every operation, which the commands for
// a policy's author print.
func warnAll(c *cobra.Command, warnings []error) {
	for _, warning := range warnings {
		if !errors.Is(warning, hostpolicy.ErrUnmatched) && !errors.Is(warning, policy.ErrEveryOperation) {
			cli.Warn(c, "%v", warning)
		}
	}
}
