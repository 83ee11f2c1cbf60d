package policy

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/sitetest"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

func newTest() *cobra.Command {
	var output string
	var update bool
	c := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Test a policy",
		Long: `Test a policy: that it loads as on a host, that it is formatted as opa fmt
does, that its tests in *_test.rego pass and ask with inputs that a host could
have, that each rule is seen to veto and to let pass, that every case in
testdata/cases is decided as it wants, and that every domain in
testdata/stoppable may be stopped.

With --update the decisions of the cases are written into them, and the rules
are formatted. Read the difference before you commit it.

Exit codes: 0 all passed, 1 not all, 2 a wrong command line.`,
		Example: `  stopguard policy test
  stopguard policy test /etc/stopguard/policy
  stopguard policy test -o json my-policy`,
		Args: oneFolder,
		RunE: func(c *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return cli.Usage("-o %q is unknown; write text or json", output)
			}
			p, err := open(args)
			if err != nil {
				return err
			}
			results := sitetest.Run(c.Context(), sitetest.Config{
				Policy: p.policy, Cases: p.cases, Stoppable: p.stoppable,
				Update: update, Format: update,
				Cures: sitetest.Cures{
					NoPolicy: "name a folder with a policy",
					NoFolder: "make it a readable folder",
					Format:   "run stopguard policy test --update",
					Update:   "correct the policy, or write the decision into it with stopguard policy test --update",
				},
			})
			write := writeResults
			if output == "json" {
				write = writeResultsJSON
			}
			if err := write(c, results); err != nil {
				return err
			}
			if sitetest.Failed(results) {
				return &cli.ToldError{}
			}
			return nil
		},
		ValidArgsFunction: completeFolder,
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.Flags().BoolVar(&update, "update", false, "write decisions into the cases, and format the rules")
	cli.CompleteFlag(c, "output", "text", "json")
	return c
}

func writeResults(c *cobra.Command, results []sitetest.Result) error {
	out, colour := c.OutOrStdout(), terminal.PaintFor(c.OutOrStdout())
	passed, failed := 0, 0
	for _, r := range results {
		name := terminal.Clean(strings.Join(r.Name, " "))
		for _, note := range r.Notes {
			writeIndented(c, "note  "+name, note)
		}
		switch {
		case len(r.Problems) > 0:
			failed++
			for _, problem := range r.Problems {
				writeIndented(c, colour.In(terminal.Red, "FAIL")+"  "+name, problem)
			}
		case r.Skipped != "":
			fmt.Fprintf(out, "skip  %s: %s\n", name, terminal.Clean(r.Skipped))
		default:
			passed++
		}
	}
	if failed > 0 {
		_, err := fmt.Fprintf(out, "%d of %s failed\n", failed, terminal.Counted(passed+failed, "check"))
		return err
	}
	_, err := fmt.Fprintf(out, "%s passed\n", terminal.Counted(passed, "check"))
	return err
}

// writeIndented writes text of one or more lines below a heading.
func writeIndented(c *cobra.Command, heading, text string) {
	fmt.Fprintln(c.OutOrStdout(), heading)
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "  ")
		fmt.Fprintln(c.OutOrStdout(), "      "+terminal.Clean(line))
	}
}

// The JSON of policy test.
type (
	resultsJSON struct {
		Passed bool        `json:"passed"`
		Checks []checkJSON `json:"checks"`
	}
	checkJSON struct {
		Kind     string   `json:"kind"`
		Name     string   `json:"name,omitempty"` // of a test, a rule, or a file without its ending
		Outcome  string   `json:"outcome"`        // pass, fail or skip
		Problems []string `json:"problems"`
		Notes    []string `json:"notes"`
		Skipped  string   `json:"skipped,omitempty"`
	}
)

func writeResultsJSON(c *cobra.Command, results []sitetest.Result) error {
	j := resultsJSON{Passed: !sitetest.Failed(results), Checks: []checkJSON{}}
	for _, r := range results {
		check := checkJSON{
			Kind: r.Name[0], Outcome: "pass", Skipped: r.Skipped,
			Problems: append([]string{}, r.Problems...), Notes: append([]string{}, r.Notes...),
		}
		if len(r.Name) > 1 {
			check.Name = r.Name[1]
		}
		if r.Skipped != "" {
			check.Outcome = "skip"
		}
		if len(r.Problems) > 0 {
			check.Outcome = "fail"
		}
		j.Checks = append(j.Checks, check)
	}
	return terminal.WriteJSON(c.OutOrStdout(), j)
}
