package explain

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/explanation"
	"github.com/stopguard/stopguard/internal/tool/gorules"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Command returns the command explain.
func Command() *cobra.Command {
	var o options
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
		Example: `  stopguard explain pg-01
  stopguard explain pg-01 --operation reset -o json | jq .rules
  virsh dumpxml pg-02 | stopguard explain pg-02 --xml -`,
		Args: cli.ExactArg("domain"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.output != "text" && o.output != "json" {
				return cli.Usage("-o %q is unknown; write text or json", o.output)
			}
			if err := cli.CheckOperation(&o.operation); err != nil {
				return err
			}
			return o.explain(c, args[0])
		},
	}
	c.Flags().StringVar(&o.file, "xml", "", "file with the domain's XML; - for stdin")
	c.Flags().StringVarP(&o.output, "output", "o", "text", "text or json")
	cli.OperationFlag(c, &o.operation)
	cli.CompleteFlag(c, "output", "text", "json")
	c.ValidArgsFunction = domains.Complete
	return c
}

// options are the options of the command explain.
type options struct {
	operation string
	file      string // file with the domain's XML; "" for a running domain
	output    string
}

func (o options) explain(c *cobra.Command, name string) error {
	domain, process, err := theDomain(name, o.file, c.InOrStdin())
	if err != nil {
		return err
	}
	if process.Gone() && !cli.IsForOff(o.operation) {
		return o.writeMoot(c.OutOrStdout(), domain, process)
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
	in.Operation = o.operation
	x, err := engine.Explain(c.Context(), in)
	if err != nil {
		return err
	}
	t, hasTicket := servingTicket(c, engine, in, process)
	hasTicket = hasTicket && x.Decision.Outcome == policy.Veto
	if o.output == "json" {
		j := jsonOf(domain, process, o.operation, x)
		if hasTicket {
			j.Ticket = t.ID
		}
		j.NotAsked = gorules.Missing(engine)
		return terminal.WriteJSON(c.OutOrStdout(), j)
	}
	writeExplanation(c.OutOrStdout(), domain, process, o.operation, x)
	cli.WarnUnenforced(c, o.operation)
	gorules.Warn(c, engine)
	if hasTicket {
		fmt.Fprintf(c.OutOrStdout(), "\nticket %s of %s lets it be %s nevertheless: %s\n", t.ID, terminal.Clean(t.Requester), cli.Operated[o.operation], terminal.Clean(t.Reason))
	}
	return nil
}

// writeMoot writes that the domain does not have a guest that could be protected.
func (o options) writeMoot(out io.Writer, domain *domainxml.Domain, process hookproto.Process) error {
	if o.output == "json" {
		return terminal.WriteJSON(out, explainJSON{Name: domain.Name, UUID: domain.UUID, Operation: o.operation, Outcome: record.Moot,
			Reasons: []record.Reason{}, Monitored: []record.Reason{}, Evidence: process.Evidence, Enforcement: cli.Enforcement(o.operation), Rules: []explanation.Rule{}})
	}
	_, err := fmt.Fprintf(out, "%s may be %s: nothing is left to protect; %s\n", terminal.Clean(domain.Name), cli.Operated[o.operation], process.Evidence)
	return err
}

// theDomain returns the domain with a name, and its process as the hook would see it.
func theDomain(name, file string, stdin io.Reader) (*domainxml.Domain, hookproto.Process, error) {
	state := hookproto.Host{Root: cli.HostRoot()}
	if file != "" {
		s := domains.OfFiles([]string{file}, stdin)[0]
		if s.Err != nil {
			return nil, hookproto.Process{}, s.Err
		}
		if s.Name != name && !strings.EqualFold(s.UUID, name) {
			return nil, hookproto.Process{}, fmt.Errorf("%s describes the domain %s, not %s; name the one that is meant", file, s.Name, name)
		}
		p := state.Identify(state.Process(s.Name), s.UUID, s.Domain.ID)
		if p.Gone() || p.PID == 0 {
			p = hookproto.Process{} // the domain does not run here, and is explained as if it did
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
	return s.Domain, state.Identify(guest.Process, s.UUID, s.Domain.ID), nil
}

func writeExplanation(out io.Writer, domain *domainxml.Domain, process hookproto.Process, operation string, x policy.Explanation) {
	colour := terminal.PaintFor(out)
	outcome := x.Decision.Outcome.String()
	answer := map[string]string{"allow": "may be", "veto": "may not be"}[outcome]
	fmt.Fprintf(out, "%s %s %s: %s\n", terminal.Clean(domain.Name), answer, cli.Operated[operation], colour.Outcome(outcome, outcome))
	if x.Decision.Unenforced != "" {
		fmt.Fprintf(out, "no rule is enforced: %s\n", x.Decision.Unenforced)
	}
	evidence := process.Evidence
	if process.Status.State != "" {
		evidence += ", state " + process.Status.State + " (" + process.Status.Reason + ")"
	}
	if evidence != "" {
		fmt.Fprintln(out, terminal.Clean(evidence))
	}
	explanation.Write(out, x, nil)
}

// servingTicket returns the ticket that would lift the veto, including one that this run of the
// domain holds already. It does not take the ticket.
func servingTicket(c *cobra.Command, engine *policy.Engine, in policy.Input, process hookproto.Process) (ticket.Listed, bool) {
	tickets := ticket.Store{Root: cli.HostRoot()}
	list, reports := tickets.List(in.Time)
	for _, r := range reports {
		cli.Warn(c, "%v", r)
	}
	run := policy.Incarnation{UUID: in.Domain.UUID, PID: process.PID, Start: process.Start}
	return candidate.Ticket(c.Context(), tickets, list, engine, in, run)
}

// explainJSON is the JSON of explain.
type explainJSON struct {
	Name       string          `json:"name"`
	UUID       string          `json:"uuid"`
	Operation  string          `json:"operation"`
	Outcome    string          `json:"outcome"` // allow, veto or moot
	Until      time.Time       `json:"until,omitzero"`
	Reasons    []record.Reason `json:"reasons"`
	Monitored  []record.Reason `json:"monitored"`
	Unenforced string          `json:"unenforced,omitempty"`
	Evidence   string          `json:"evidence,omitempty"` // of the process
	Ticket     string          `json:"ticket,omitempty"`   // that would lift the veto
	Revision   string          `json:"revision,omitempty"`
	host.Enforcement
	NotAsked []string           `json:"rules_not_asked,omitempty"` // written in Go, in the site's own hook
	Rules    []explanation.Rule `json:"rules"`
}

func jsonOf(domain *domainxml.Domain, process hookproto.Process, operation string, x policy.Explanation) explainJSON {
	d := x.Decision
	return explainJSON{
		Name: domain.Name, UUID: domain.UUID, Operation: operation, Outcome: d.Outcome.String(), Until: d.Until(),
		Reasons: recorded.Reasons(d.Reasons), Monitored: recorded.Reasons(d.Monitored), Unenforced: d.Unenforced,
		Evidence: process.Evidence, Revision: d.Revision, Enforcement: cli.Enforcement(operation), Rules: explanation.Rules(x),
	}
}
