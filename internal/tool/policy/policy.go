// Package policy has the commands that write, test, sign and check a policy, for which Go is not
// needed.
package policy

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/sitetest"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/policy"
)

// Command returns the command policy.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Write, test, sign and check a policy",
		Long: `Write, test, sign and check a policy of your own.

DIR is a folder with a folder policy for rules and settings, and the folders
testdata/cases and testdata/stoppable for tests, as stopguard policy new makes
it. A folder without a folder policy in it is the policy itself, such as
/etc/stopguard/policy. Without DIR it is the current folder.

None of these commands reads or changes what this host decides by.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newNew(), newTest(), newEval(), newBuild(), newVerify(), newCapabilities())
	return c
}

// A project is the folder of a policy with its tests.
type project struct {
	policy    string
	cases     sitetest.Folder
	stoppable sitetest.Folder
}

// open returns the project in the folder that the arguments name.
func open(args []string) (project, error) {
	folder := "."
	if len(args) > 0 {
		folder = args[0]
	}
	info, err := os.Stat(folder)
	switch {
	case err != nil:
		return project{}, fmt.Errorf("%w; name a folder with a policy, or make one with stopguard policy new", err)
	case !info.IsDir():
		return project{}, cli.Usage("%s is a file; name a folder with a policy", folder)
	}
	inside := filepath.Join(folder, "policy")
	if info, err := os.Stat(inside); err != nil || !info.IsDir() {
		return project{policy: folder}, nil
	}
	return project{
		policy:    inside,
		cases:     sitetest.Folder{Name: filepath.Join(folder, "testdata", "cases")},
		stoppable: sitetest.Folder{Name: filepath.Join(folder, "testdata", "stoppable")},
	}, nil
}

// oneFolder accepts at most one argument.
func oneFolder(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return cli.Usage("%d folders are given; name one", len(args))
	}
	return nil
}

// completeFolder completes a folder.
func completeFolder(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func newCapabilities() *cobra.Command {
	return &cobra.Command{
		Use:   "capabilities",
		Short: "Print the functions that rules may call, for OPA and editors",
		Long: `Print the functions that rules may call in the form of OPA's file of
capabilities, for opa check --capabilities, Regal or an editor.`,
		Example: `  stopguard policy capabilities > capabilities.json
  opa check --capabilities capabilities.json policy`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), terminal.EscapeJSON(string(policy.Capabilities())))
			return err
		},
	}
}
