package explain

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/explanation"
	"github.com/stopguard/stopguard/internal/tool/gorules"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/ticket"
)

func Command() *cobra.Command {
	var file, operation string
	c := &cobra.Command{
		Use:   "explain NAME",
		Short: "Show why a domain may or may not be stopped",
		Long: `Show what would become of a stop of one domain, by which rules, where they are
written and what they read.

The domain is a running one; with --xml it is what the file describes, as of
virsh dumpxml. With --operation it is about another operation, which requests
through a gate would ask for.

Values may hold what the domain's owner wrote. What the whole document holds
is left out, for passwords are in there.

For a name that begins with -, write -- before it. Exit codes: 0 decided, 1
not, 2 a wrong command line.`,
		Args: cli.ExactArg("domain"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cli.CheckOperation(&operation); err != nil {
				return err
			}
			domain, process, err := theDomain(args[0], file, c.InOrStdin())
			if err != nil {
				return err
			}
			if process.Gone() && !cli.IsForOff(operation) {
				fmt.Fprintf(c.OutOrStdout(), "%s may be %s: nothing is left to protect; %s\n", terminal.Clean(domain.Name), cli.Operated[operation], process.Evidence)
				return nil
			}
			config, err := hostpolicy.Load(cli.HostRoot())
			if err != nil {
				return err
			}
			engine, err := policy.New(c.Context(), config)
			if err != nil {
				return err
			}
			in, err := stopguard.Config{Root: cli.HostRoot()}.Input(engine, domain, process)
			if err != nil {
				return err
			}
			in.Operation = operation
			x, err := engine.Explain(c.Context(), in)
			if err != nil {
				return err
			}
			writeExplanation(c.OutOrStdout(), domain, process, operation, x)
			cli.WarnUnenforced(c, operation)
			gorules.Warn(c, engine)
			if x.Decision.Outcome == policy.Veto {
				tellTicket(c, domain, process, operation)
			}
			return nil
		},
	}
	c.Flags().StringVar(&file, "xml", "", "file with the domain's XML; - for stdin")
	cli.OperationFlag(c, &operation)
	c.ValidArgsFunction = domains.Complete
	return c
}

// theDomain returns the domain with that name, and its process as the hook would see it.
func theDomain(name, file string, stdin io.Reader) (*domainxml.Domain, hookproto.Process, error) {
	host := hookproto.Host{Root: cli.HostRoot()}
	if file != "" {
		s := domains.OfFiles([]string{file}, stdin)[0]
		if s.Err != nil {
			return nil, hookproto.Process{}, s.Err
		}
		if s.Name != name && !strings.EqualFold(s.UUID, name) {
			return nil, hookproto.Process{}, fmt.Errorf("%s describes the domain %s, not %s; name the one that is meant", file, s.Name, name)
		}
		p := host.Identify(host.Process(s.Name), s.UUID, s.Domain.ID)
		if p.Gone() || p.PID == 0 {
			p = hookproto.Process{} // it does not run here; explain the stop as if it did
		}
		return s.Domain, p, nil
	}
	guest, ok, err := domains.Find(name)
	switch {
	case !ok && err != nil:
		return nil, hookproto.Process{}, err
	case !ok:
		return nil, hookproto.Process{}, fmt.Errorf("no domain %s runs on this host; give its XML with --xml", name)
	}
	s := domains.OfGuests([]hookproto.Guest{guest})[0]
	if s.Err != nil {
		return nil, hookproto.Process{}, fmt.Errorf("%s: %w", name, s.Err)
	}
	return s.Domain, host.Identify(guest.Process, s.UUID, s.Domain.ID), nil
}

func writeExplanation(out io.Writer, domain *domainxml.Domain, process hookproto.Process, operation string, x policy.Explanation) {
	colour := terminal.PaintFor(out)
	outcome := x.Decision.Outcome.String()
	answer := map[string]string{"allow": "may be", "veto": "may not be"}[outcome]
	fmt.Fprintf(out, "%s %s %s: %s\n", terminal.Clean(domain.Name), answer, cli.Operated[operation], colour.Outcome(outcome, outcome))
	if x.Decision.Unenforced != "" {
		fmt.Fprintf(out, "no rule is enforced: %s\n", x.Decision.Unenforced)
	}
	seen := process.Evidence
	if process.Status.State != "" {
		seen += ", state " + process.Status.State + " (" + process.Status.Reason + ")"
	}
	if seen != "" {
		fmt.Fprintln(out, terminal.Clean(seen))
	}
	explanation.Write(out, x, nil)
}

// tellTicket prints whether a ticket would lift the veto, including one that this run of the domain
// has used already. It does not use a ticket.
func tellTicket(c *cobra.Command, domain *domainxml.Domain, process hookproto.Process, operation string) {
	run := policy.Incarnation{UUID: domain.UUID, PID: process.PID, Start: process.Start}
	list, reports := ticket.Store{Root: cli.HostRoot()}.List(time.Now())
	for _, r := range reports {
		cli.Warn(c, "%v", r)
	}
	for _, t := range list {
		fits := t.Domain == domain.UUID
		if t.HostWide() {
			fits, _ = path.Match(t.Name, domain.Name)
		}
		held := t.State == ticket.Taken && slices.ContainsFunc(t.Claims, func(k ticket.Claim) bool { return k.Incarnation == run && k.Used.IsZero() })
		if fits && t.Permits(operation) && (t.State == ticket.Open || held) {
			fmt.Fprintf(c.OutOrStdout(), "\nticket %s of %s lets it be %s nevertheless: %s\n", t.ID, terminal.Clean(t.Requester), cli.Operated[operation], terminal.Clean(t.Reason))
			return
		}
	}
}
