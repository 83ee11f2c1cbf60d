package man

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/stopguard/stopguard/internal/buildinfo"
)

// Command returns the command man, for packagers of the tool.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a folder",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("%w; name a folder that can be written to", err)
			}
			c.Root().DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "8", Source: "stopguard " + buildinfo.Read().Version, Manual: "stopguard"}
			return doc.GenManTree(c.Root(), header, args[0])
		},
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	}
}
