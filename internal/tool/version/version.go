// Package version has the command version.
package version

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/buildinfo"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/policy"
)

// The JSON of version.
type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OPA     string `json:"opa"`
	Schema  int    `json:"input_schema"` // the version of input documents
	Libvirt string `json:"libvirt"`      // the newest libvirt whose procedures the gate knows
}

// Command returns the command version.
func Command() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of the tool and of what is in it",
		Long: `Show the versions of the tool, of Go and OPA in it, of the input that rules
read, and the newest libvirt whose procedures the gate's table has. Hook, agent
and gate of the same version have the same.`,
		Example: `  stopguard version
  stopguard version -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			build := buildinfo.Read()
			v := versionJSON{build.Version, build.Go, build.OPA, policy.InputVersion, call.NewestLibvirt}
			switch output {
			case "table":
			case "json":
				return terminal.WriteJSON(c.OutOrStdout(), v)
			default:
				return cli.Usage("-o %q is unknown; write table or json", output)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "stopguard     %s\ngo            %s\nopa           %s\ninput schema  %d\ngate's table  libvirt %s\n",
				v.Version, v.Go, v.OPA, v.Schema, v.Libvirt)
			return err
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cli.CompleteFlag(c, "output", "table", "json")
	return c
}
