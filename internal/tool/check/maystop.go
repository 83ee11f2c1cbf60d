package check

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/gorules"
	"github.com/stopguard/stopguard/policy"
)

// MayStop returns the command may-stop, for scripts that ask before they stop a domain.
func MayStop() *cobra.Command {
	var operation string
	c := &cobra.Command{
		Use:   "may-stop NAME|FILE|-",
		Short: "Say by the exit code whether a domain may be stopped",
		Long: `Say by the exit code, and in a line, whether a domain may be stopped now. It is
for scripts that ask first: nothing is stopped or recorded, and no ticket is
taken. A ticket that a stop would take counts.

The domain is named as for stopguard check. What is asked about is a stop, or
with --operation another operation.

Exit codes: 0 it may, 1 it may not, 2 no decision could be made, 64 a wrong
command line.`,
		Example: `  stopguard may-stop web-01 && virsh destroy web-01
  stopguard may-stop web-01 --operation move
  virsh dumpxml web-01 | stopguard may-stop -`,
		Args: cli.ExactArg("domain"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cli.CheckOperation(&operation); err != nil {
				return err
			}
			s, err := survey(c, question{args: args, operation: operation})
			if err != nil {
				cli.Warn(c, "%v", err)
				return cli.Exit(exitUndecided)
			}
			if len(s.notAsked) > 0 {
				cli.Warn(c, "%s", gorules.Text(s.notAsked))
			}
			for _, r := range s.reports {
				cli.Warn(c, "%v", r)
			}
			if s.printFaults(c) > 0 {
				return cli.Exit(exitUndecided)
			}
			return s.answer(c)
		},
	}
	cli.OperationFlag(c, &operation)
	cli.UsageExit(c, exitUsage, "")
	c.ValidArgsFunction = func(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return domains.CompleteAll(c, args, start)
	}
	return c
}

// answer prints the answer about the only subject.
func (s report) answer(c *cobra.Command) error {
	out, v := c.OutOrStdout(), s.verdicts[0]
	name, done := terminal.Clean(s.subjects[0].Name), cli.Operated[s.operation]
	switch {
	case v.Outcome != policy.Veto:
		fmt.Fprintf(out, "%s may be %s\n", name, done)
		return nil
	case s.tickets[0] != "":
		fmt.Fprintf(out, "%s may be %s: ticket %s lifts the veto of rule %s\n", name, done, s.tickets[0], v.Reasons[0].Rule)
		return nil
	}
	more := ""
	if n := len(v.Reasons) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	fmt.Fprintf(out, "%s may not be %s: %s (rule %s)%s\n", name, done, terminal.Clean(v.Reasons[0].Message), v.Reasons[0].Rule, more)
	return cli.Exit(exitRefused)
}
