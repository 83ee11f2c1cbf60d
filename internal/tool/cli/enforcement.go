package cli

import (
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
)

// Enforcement returns the enforcement points of this host for an operation.
func Enforcement(operation string) host.Enforcement {
	h, err := host.This()
	if err != nil {
		return host.Enforcement{By: []string{}, Why: err.Error(), Cure: "run it in a folder that is there"}
	}
	return h.Enforcement(operation)
}

// WarnUnenforced prints a warning if this host does not have an enforcement point for one of these
// operations. A veto would then only be printed and recorded. If that is unknown, it does not print
// anything; doctor reports it.
func WarnUnenforced(c *cobra.Command, operations ...string) {
	for _, operation := range operations {
		if text := Enforcement(operation).Text(operation); text != "" {
			Warn(c, "%s", text)
			return
		}
	}
}
