package ticket

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Command returns the command ticket.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "ticket",
		Short: "Let a protected domain be stopped once",
		Long: `Let a protected domain be stopped once, or let another operation on it be done
for that run of it. A ticket is for one run of one domain, or of each of those
that a pattern names, says who wanted it and why, expires, and is in the record
of the stop that took it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newTicketGrant(), newTicketList(), newTicketRevoke(), newTicketRequest(), newTicketApprove(), newTicketReject())
	return c
}

// ticketTime is the default lifetime of a ticket.
const ticketTime = time.Hour

func newTicketGrant() *cobra.Command {
	var reason, until, requester, operation string
	var hold time.Duration
	var all bool
	c := &cobra.Command{
		Use:   "grant NAME|UUID|--all [PATTERN] --reason TEXT",
		Short: "Grant a ticket",
		Long: `Grant a ticket for a domain, by the name under which it runs or by its UUID.
With --all it is for every domain, or every one with a name like the pattern,
as for draining a host. For a name that begins with -, write -- before it.

It is for a stop, or with --operation for another one and for that alone: a
gate on libvirt's socket asks about others.`,
		Example: `  stopguard ticket grant pg-primary-01 --reason 'disk swap, CHG-1234' --for 2h
  stopguard ticket grant --all 'web-*' --reason 'draining for a kernel update'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cli.CheckOperation(&operation); err != nil {
				return err
			}
			now := time.Now()
			t := ticket.Ticket{Operation: operation, Reason: reason, Requester: requester, NotAfter: now.Add(hold)}
			if until != "" {
				at, _, err := cli.ParseUntil("--until", until, now)
				if err != nil {
					return err
				}
				t.NotAfter = at
			}
			if requester == "" {
				t.Requester = login()
			}
			whom := ""
			switch {
			case all:
				t.Name, whom = "*", "every domain"
				if len(args) == 1 {
					t.Name = args[0]
					whom = "every domain like " + args[0]
				}
			case len(args) == 0:
				return cli.Usage("no domain is named; name one, or write --all for every one")
			default:
				var err error
				if t.Domain, whom, err = domains.Identify(args[0]); err != nil {
					return err
				}
			}
			if err := checkGrant(c, t, whom); err != nil {
				return err
			}
			granted, err := ticket.Store{Root: cli.HostRoot()}.Grant(t, now)
			if err != nil {
				return err
			}
			cli.WarnUnenforced(c, operation)
			warnUnmatched(c, granted)
			_, err = fmt.Fprintf(c.OutOrStdout(), "ticket %s: %s may be %s until %s\nrequested by %s: %s\nTo take it back: stopguard ticket revoke %s\n",
				granted.ID, terminal.Clean(whom), cli.Operated[operation], granted.NotAfter.Format(time.RFC3339), terminal.Clean(granted.Requester), terminal.Clean(granted.Reason), granted.ID)
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why it is granted")
	cli.OperationFlag(c, &operation)
	cli.DurationVar(c, &hold, "for", ticketTime, "how long it holds, such as 2h or 3d")
	c.Flags().StringVar(&until, "until", "", "until when it holds: a day's end, or RFC 3339")
	c.Flags().StringVar(&requester, "requester", "", "who wants it (default: who is logged in)")
	c.Flags().BoolVar(&all, "all", false, "for every domain, or those with a name like PATTERN")
	c.MarkFlagsMutuallyExclusive("for", "until")
	cli.Required(c, "reason")
	cli.FreeText(c, "reason", "requester", "until", "for")
	c.ValidArgsFunction = domains.Complete
	return c
}

// login returns the user who logged in, even after su or sudo.
func login() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return terminal.Clean(name)
	}
	if id, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		// 4294967295 is the value of a process without a login.
		if id := strings.TrimSpace(string(id)); id != "" && id != "4294967295" {
			if u, err := user.LookupId(id); err == nil {
				return terminal.Clean(u.Username)
			}
			return "uid " + id
		}
	}
	if u, err := user.Current(); err == nil {
		return terminal.Clean(u.Username)
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// The shape of an item of -o json.
type (
	ticketJSON struct {
		ticket.Ticket
		State      ticket.State `json:"state"`
		DomainName string       `json:"domain_name,omitempty"` // for a request: the domain's name at that time
		Claims     []claimJSON  `json:"claims"`
	}
	claimJSON struct {
		UUID  string    `json:"uuid"`
		Name  string    `json:"name"`
		PID   int       `json:"pid,omitempty"`
		Start uint64    `json:"start,omitempty"`
		Taken time.Time `json:"taken"`
		Used  time.Time `json:"used,omitzero"`
	}
)

func newTicketList() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the tickets and what became of them",
		Example: "  stopguard ticket list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return cli.Usage("-o %q is unknown; write table or json", output)
			}
			list, reports := ticket.Store{Root: cli.HostRoot()}.List(time.Now())
			pending, names, err := requests(c)
			if os.Geteuid() != 0 && err == nil {
				reports = nil // only root may read tickets, and approvers need only the requests
			}
			if err != nil && !errors.Is(err, approval.ErrNoAgent) {
				reports = append(reports, err)
			}
			list = append(list, pending...)
			write := listTickets
			if output == "json" {
				write = writeTickets
			}
			if err := write(c, list, names); err != nil {
				return err
			}
			for _, r := range reports {
				cli.Warn(c, "%v", r)
			}
			if len(reports) > 0 {
				return &cli.ToldError{}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cli.CompleteFlag(c, "output", "table", "json")
	return c
}

func writeTickets(c *cobra.Command, list []ticket.Listed, names map[string]string) error {
	all := []ticketJSON{}
	for _, t := range list {
		j := ticketJSON{Ticket: t.Ticket, State: t.State, DomainName: names[t.ID], Claims: []claimJSON{}}
		for _, k := range t.Claims {
			j.Claims = append(j.Claims, claimJSON{k.Incarnation.UUID, k.Name, k.Incarnation.PID, k.Incarnation.Start, k.Taken, k.Used})
		}
		all = append(all, j)
	}
	return terminal.WriteJSON(c.OutOrStdout(), all)
}

func listTickets(c *cobra.Command, list []ticket.Listed, names map[string]string) error {
	guests, _ := domains.Running() // only the names are used
	var table terminal.Table
	table.Row("TICKET", "STATE", "UNTIL", "DOMAIN", "BY: WHY")
	for _, t := range list {
		until := t.NotAfter.Format("2006-01-02T15:04Z")
		why := t.Requester + ": " + t.Reason
		if t.Operation != policy.OperationStop {
			why = t.Operation + ", " + why
		}
		table.Row(t.ID, string(t.State), until, cmp.Or(names[t.ID], ticketDomain(t, guests)), why)
	}
	return table.Write(c.OutOrStdout())
}

// ticketDomain returns the name of a ticket's domain for people: its name if known, its UUID, or
// the pattern.
func ticketDomain(t ticket.Listed, guests []hookproto.Guest) string {
	if t.HostWide() {
		return "all " + t.Name
	}
	i := slices.IndexFunc(guests, func(g hookproto.Guest) bool { return strings.EqualFold(g.Process.Status.UUID, t.Domain) })
	switch {
	case i >= 0:
		return guests[i].Name
	case len(t.Claims) > 0 && t.Claims[0].Name != "":
		return t.Claims[0].Name
	}
	return t.Domain
}

func newTicketRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "Take a ticket back",
		Example: "  stopguard ticket revoke 0123456789abcdef",
		Args:    cli.ExactArg("ticket by its ID, as of stopguard ticket list"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := (ticket.Store{Root: cli.HostRoot()}).Revoke(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "ticket %s is revoked\n", terminal.Clean(args[0]))
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var ids []cobra.Completion
			list, _ := ticket.Store{Root: cli.HostRoot()}.List(time.Now())
			for _, t := range list {
				if len(args) == 0 && strings.HasPrefix(t.ID, start) {
					ids = append(ids, t.ID)
				}
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// warnUnmatched warns if the ticket does not match a running domain, because the name may be
// misspelt.
func warnUnmatched(c *cobra.Command, t ticket.Ticket) {
	guests, err := domains.Running()
	if err != nil {
		return // the running domains are unknown
	}
	for _, g := range guests {
		if strings.EqualFold(g.Process.Status.UUID, t.Domain) || t.HostWide() && glob.Match(t.Name, g.Name) {
			return
		}
	}
	whom := "is like " + t.Name
	if !t.HostWide() {
		whom = "has the UUID " + t.Domain
	}
	cli.Warn(c, "no running domain %s; the ticket waits for one, see stopguard check", whom)
}
