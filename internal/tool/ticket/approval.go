package ticket

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// checkGrant returns an error if the ticket would not lift a veto because it needs approvals.
func checkGrant(c *cobra.Command, t ticket.Ticket, name string) error {
	config, err := hostpolicy.Load(cli.HostRoot())
	if err != nil {
		return nil // a broken policy is a fault, which a ticket does not lift
	}
	engine, err := policy.New(c.Context(), config)
	if err != nil {
		return nil
	}
	needs := engine.Approvals()
	switch {
	case needs == nil:
		return nil
	case t.HostWide():
		cli.Warn(c, "the ticket does not lift the vetoes of domains that need %s (data.site.tickets); use stopguard ticket request for those", terminal.Counted(needs.Approvers, "approval"))
		return nil
	case needs.For(name, t.Domain, t.Operation) != nil:
		return fmt.Errorf("%s needs a ticket with %s (data.site.tickets); use stopguard ticket request", terminal.Clean(name), terminal.Counted(needs.Approvers, "approval"))
	}
	return nil
}

func newTicketRequest() *cobra.Command {
	ask := approval.Ask{}
	var all bool
	c := &cobra.Command{
		Use:   "request NAME|UUID|--all [PATTERN] --reason TEXT",
		Short: "Request a ticket that others approve",
		Long: `Request a ticket for a domain whose tickets need approvals, as
data.site.tickets says. Others approve it with stopguard ticket approve; when
enough have, the ticket is granted, for the time of --for from then on.

The host's agent knows who asks by the kernel: the user, or who logged in
where that has become root. Who requests a ticket does not count as an
approver, and nobody counts twice. Without an agent no such ticket can be had.

With --break-glass you alone are enough, where the site allows it; the ticket
says so.`,
		Example: `  stopguard ticket request pg-primary-01 --reason 'disk swap, CHG-1234' --for 2h`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cli.CheckOperation(&ask.Operation); err != nil {
				return err
			}
			whom := ""
			switch {
			case all:
				ask.Name, whom = "*", "every domain"
				if len(args) == 1 {
					ask.Name, whom = args[0], "every domain like "+args[0]
				}
			case len(args) == 0:
				return cli.Usage("no domain is named; name one, or write --all for every one")
			default:
				var err error
				if ask.Domain, whom, err = domains.Identify(args[0]); err != nil {
					return err
				}
			}
			r, granted, err := approval.Client{Root: cli.HostRoot()}.Request(c.Context(), ask)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if granted != nil {
				return writeGranted(c, *granted, whom)
			}
			_, err = fmt.Fprintf(out, "request %s: %s may be %s for %v once %s approve\nrequested by %s: %s\nUntil %s, others run: stopguard ticket approve %s\n",
				r.ID, terminal.Clean(whom), cli.Operated[r.Operation], r.For, terminal.Counted(r.Needed, "other"), terminal.Clean(r.Requester.User), terminal.Clean(r.Reason), r.Expires.Format(time.RFC3339), r.ID)
			return err
		},
	}
	c.Flags().StringVar(&ask.Reason, "reason", "", "why it is needed")
	cli.OperationFlag(c, &ask.Operation)
	cli.DurationVar(c, &ask.For, "for", ticketTime, "how long it holds from its last approval")
	c.Flags().BoolVar(&all, "all", false, "for every domain, or those with a name like PATTERN")
	c.Flags().BoolVar(&ask.BreakGlass, "break-glass", false, "grant it alone, at once; the ticket says so")
	cli.Required(c, "reason")
	cli.FreeText(c, "reason", "for")
	c.ValidArgsFunction = domains.Complete
	return c
}

func writeGranted(c *cobra.Command, t ticket.Ticket, whom string) error {
	how := "approved by others"
	if t.Approval.BreakGlass {
		how = "without approvals (break-glass)"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "ticket %s: %s may be %s until %s\nrequested by %s, %s: %s\n",
		t.ID, terminal.Clean(whom), cli.Operated[t.Operation], t.NotAfter.Format(time.RFC3339), terminal.Clean(t.Requester), how, terminal.Clean(t.Reason))
	return err
}

// target returns the domain or the pattern of a request, for people.
func target(r approval.Request) string {
	if r.Domain != "" {
		return r.Domain
	}
	return "all " + r.Name
}

func newTicketApprove() *cobra.Command {
	return &cobra.Command{
		Use:     "approve ID",
		Short:   "Approve a ticket that somebody else requested",
		Example: "  stopguard ticket approve 0123456789abcdef",
		Args:    cli.ExactArg("request by its ID, as of stopguard ticket list"),
		RunE: func(c *cobra.Command, args []string) error {
			r, granted, err := approval.Client{Root: cli.HostRoot()}.Approve(c.Context(), args[0])
			if err != nil {
				return err
			}
			if granted != nil {
				return writeGranted(c, *granted, target(r))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "request %s has %d of %s\n", r.ID, len(r.Approvers), terminal.Counted(r.Needed, "approval"))
			return err
		},
		ValidArgsFunction: completeRequests,
	}
}

func newTicketReject() *cobra.Command {
	return &cobra.Command{
		Use:     "reject ID",
		Short:   "Reject a requested ticket",
		Example: "  stopguard ticket reject 0123456789abcdef",
		Args:    cli.ExactArg("request by its ID, as of stopguard ticket list"),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := approval.Client{Root: cli.HostRoot()}.Reject(c.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "request %s is rejected\n", r.ID)
			return err
		},
		ValidArgsFunction: completeRequests,
	}
}

// completeRequests completes the IDs of requests.
func completeRequests(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var ids []cobra.Completion
	if len(args) == 0 {
		list, _, _ := requests(c)
		for _, r := range list {
			if strings.HasPrefix(r.ID, start) {
				ids = append(ids, r.ID)
			}
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// requested is the state of a request in a list of tickets.
const requested ticket.State = "requested"

// requests returns the requests in the form of the list, and the names of their domains by the
// requests' IDs. Without an agent it returns approval.ErrNoAgent.
func requests(c *cobra.Command) (list []ticket.Listed, names map[string]string, err error) {
	all, err := approval.Client{Root: cli.HostRoot()}.List(c.Context())
	names = map[string]string{}
	for _, r := range all {
		names[r.ID] = r.DomainName
		list = append(list, ticket.Listed{State: requested, Ticket: ticket.Ticket{
			ID: r.ID, Domain: r.Domain, Name: r.Name, Operation: r.Operation, Requester: r.Requester.User, NotAfter: r.Expires,
			Reason:   fmt.Sprintf("(%d of %d approvals) %s", len(r.Approvers), r.Needed, r.Reason),
			Approval: &ticket.Approval{Requester: r.Requester, Requested: r.Requested, Approvers: r.Approvers},
		}})
	}
	return list, names, err
}
