package coverage

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/terminal"
)

func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "coverage",
		Short: "Show what can be guarded against, and what cannot",
		Long: `Show each way in which a domain ends, pauses, leaves its host or loses its
protection, and what the guard can do about it:

  vetoable    it is asked before, and a refusal holds
  detectable  it learns of it afterwards, and records the end of a protected one
  invisible   it never learns of it

HOOK is the hook on a libvirt that calls it for stop; RELEASE is the same hook
on any other; GATE is a gate on libvirt's socket. A list entry or a plain mark
is against a stop and a delete; what needs operations is refused only where a
mark or the site's settings name it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			fmt.Fprintln(out, terminal.Row([]string{"HOOK", "RELEASE", "GATE", "WAY"}, 10, 10, 10))
			for _, way := range stopguard.Coverage() {
				fmt.Fprintln(out, terminal.Row([]string{string(way.Hook), string(way.Release), string(way.Gate), way.What}, 10, 10, 10))
				if way.How != "" {
					fmt.Fprintln(out, terminal.Row([]string{"", "", "", "  " + way.How}, 10, 10, 10))
				}
				if way.Operation != "" && !slices.Contains(operation.Plain(), way.Operation) {
					fmt.Fprintln(out, terminal.Row([]string{"", "", "", "  only with operations: " + way.Operation}, 10, 10, 10))
				}
			}
			return nil
		},
	}
}
