package cli

import (
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
)

// Enforcement returns what on this host can refuse an operation.
func Enforcement(operation string) host.Enforcement {
	h, err := host.This()
	if err != nil {
		return host.Enforcement{Why: err.Error(), Cure: "run it in a folder that is there"}
	}
	return h.Enforcement(operation)
}

// WarnUnenforced says so if nothing on this host can refuse one of these operations: a veto would
// only be said and recorded. It says nothing if that is not known, for doctor does.
func WarnUnenforced(c *cobra.Command, operations ...string) {
	for _, operation := range operations {
		if text := Enforcement(operation).Text(operation); text != "" {
			Warn(c, "%s", text)
			return
		}
	}
}
