package policy

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// skeleton is a policy to begin with.
//
//go:embed skeleton
var skeleton embed.FS

func newNew() *cobra.Command {
	return &cobra.Command{
		Use:   "new DIR",
		Short: "Make a folder with a rule, its settings and its tests",
		Long: `Make a folder with a policy to begin with: a rule, its settings with their
schema, its tests, a domain with the decision that is wanted, and a domain
that must be stoppable. The folder must not be there, or be empty.`,
		Example: "  stopguard policy new my-policy && stopguard policy test my-policy",
		Args:    cli.ExactArg("folder to make"),
		RunE: func(c *cobra.Command, args []string) error {
			entries, err := os.ReadDir(args[0])
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return fmt.Errorf("%w; name a folder that can be made", err)
			case len(entries) > 0:
				return fmt.Errorf("%s is not empty; name a new folder", args[0])
			}
			files, err := fs.Sub(skeleton, "skeleton")
			if err != nil {
				return err
			}
			return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
				path := filepath.Join(args[0], filepath.FromSlash(name))
				if err != nil || entry.IsDir() {
					if err == nil {
						err = os.MkdirAll(path, 0o755)
					}
					return err
				}
				content, err := fs.ReadFile(files, name)
				if err != nil {
					return err
				}
				if err := os.WriteFile(path, content, 0o644); err != nil {
					return fmt.Errorf("%w; name a folder that can be written to", err)
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), terminal.Clean(path))
				return err
			})
		},
		ValidArgsFunction: completeFolder,
	}
}
