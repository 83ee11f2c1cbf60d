package coverage

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// Command returns the command coverage.
func Command() *cobra.Command {
	var output string
	c := &cobra.Command{
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
		Example: "  stopguard coverage\n  stopguard coverage -o json | jq '.ways[] | select(.gate == \"invisible\")'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch output {
			case "table":
				return writeTable(c)
			case "json":
				return writeJSON(c)
			}
			return cli.Usage("-o %q is unknown; write table or json", output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cli.CompleteFlag(c, "output", "table", "json")
	return c
}

func writeTable(c *cobra.Command) error {
	var t terminal.Table
	t.Row("HOOK", "RELEASE", "GATE", "WAY")
	for _, way := range stopguard.Coverage() {
		t.Row(string(way.Hook), string(way.Release), string(way.Gate), way.What)
		if way.How != "" {
			t.Row("", "", "", "  "+way.How)
		}
		if way.Operation != "" && !slices.Contains(operation.Plain(), way.Operation) {
			t.Row("", "", "", "  only with operations: "+way.Operation)
		}
	}
	return t.Write(c.OutOrStdout())
}

// The JSON of coverage.
type (
	coverageJSON struct {
		Ways []wayJSON `json:"ways"`
	}
	wayJSON struct {
		What      string               `json:"what"`
		How       string               `json:"how,omitempty"`
		Hook      stopguard.Capability `json:"hook"`
		Release   stopguard.Capability `json:"release"`
		Gate      stopguard.Capability `json:"gate"`
		Operation string               `json:"operation,omitempty"` // the operation that is decided; may be absent
	}
)

func writeJSON(c *cobra.Command) error {
	j := coverageJSON{Ways: []wayJSON{}}
	for _, way := range stopguard.Coverage() {
		j.Ways = append(j.Ways, wayJSON{way.What, way.How, way.Hook, way.Release, way.Gate, way.Operation})
	}
	return terminal.WriteJSON(c.OutOrStdout(), j)
}
