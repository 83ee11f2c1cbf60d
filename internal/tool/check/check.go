package check

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/observed"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/gorules"
	"github.com/stopguard/stopguard/internal/tool/marks"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/ticket"
)

func Command() *cobra.Command {
	var output, tried, key, operation string
	var onlyLoad, exitCode, readOnly, all bool
	var f filter
	c := &cobra.Command{
		Use:   "check [NAME|FILE|-]...",
		Short: "Show which domains are protected",
		Long: `Show of every running domain, or of those that are named, whether a stop would
be refused, by which rule and until when. Nothing is stopped, and no ticket is
taken.

A domain is named by its name or UUID, or by a file with its XML as of virsh
dumpxml. A file may be a pipe, and - is stdin. A name with a slash in it is a
file; for a file that is called like a running domain, write ./FILE.

With --all it shows also the domains that are off, by their definitions in
/etc/libvirt/qemu, and whether a delete of them would be refused: to undefine
one, to throw its saved state away, or to destroy the data of its disks. With
--operation it is about the same operation for all.

Without names it remembers in /var/lib/stopguard/marks.json the marks that it
saw and the domains that were on the list, and reports those that have gone
since. With --read-only the next check reports them again.

With --policy it shows what another policy would change: a folder is tried in
place of /etc/stopguard/policy, a bundle in place of
/etc/stopguard/bundle.tar.gz, by --key or else the host's own key. With
--operation it is about another operation than a stop, which requests through
a gate would ask for.

With --load no domain is looked at. The host's rules, settings, bundles and
list are loaded by this version of stopguard, which is asked before it takes
the place of another. All that is wrong with them is printed.

A veto holds only where something asks: JSON has enforced, and enforced_by with
the enforcement points (hook, gate) that can refuse the operation on this host.
If that is not known, enforced is false and enforced_why says what is missing.
In metrics, stopguard_enforced has a series for each point, and none if that is
not known.

Exit codes: 0 all could be decided, 1 not all, 2 a wrong command line. With
--exit-code: 0 all of them may be stopped, 1 one may not, 2 no decision could
be made about one, 64 a wrong command line. A ticket counts, as it would for a
stop.`,
		Example: `  stopguard check
  stopguard check --protected --domain 'pg-*' -o wide
  stopguard check --all
  stopguard check web-01 || echo not decided
  virsh dumpxml web-01 | stopguard check --exit-code -
  stopguard check -o prometheus > /var/lib/node_exporter/stopguard.prom.new
  stopguard check --policy ./new-policy`,
		RunE: func(c *cobra.Command, args []string) error {
			write, ok := map[string]func(*cobra.Command, report) error{
				"table": writeTable, "wide": writeTable, "json": writeReportJSON, "name": writeNames, "prometheus": writeMetrics,
			}[output]
			isTable := output == "table" || output == "wide"
			switch {
			case !ok:
				return cli.Usage("-o %q is unknown; write table, wide, json, name or prometheus", output)
			case onlyLoad && (len(args) > 0 || c.Flags().NFlag() > 1):
				return cli.Usage("--load is for the host's own policy; give nothing else with it")
			case onlyLoad:
				return load(c)
			case key != "" && tried == "":
				return cli.Usage("--key is for a bundle; give one with --policy")
			case tried != "" && output == "prometheus":
				return cli.Usage("--policy is for people; leave out -o prometheus")
			case tried != "" && exitCode:
				return cli.Usage("--exit-code is about the host's own policy; leave out --policy")
			case operation != policy.OperationStop && output == "prometheus":
				return cli.Usage("--operation is for people; leave out -o prometheus")
			case all && output == "prometheus":
				return cli.Usage("metrics are of running domains; leave out --all")
			}
			if err := f.check(); err != nil {
				return err
			}
			if err := cli.CheckOperation(&operation); err != nil {
				return err
			}
			q := question{args: args, all: all, tried: tried, key: key}
			if c.Flags().Changed("operation") {
				q.operation = operation
			}
			s, err := check(c, q, readOnly)
			if err != nil && exitCode {
				cli.Warn(c, "%v", err)
				return cli.Exit(exitUndecided)
			} else if err != nil {
				return err
			}
			s.wide = output == "wide"
			if !f.isEmpty() {
				s.keep(f)
			}
			if err := write(c, s); err != nil {
				return err
			}
			if isTable {
				s.warnUnenforced(c)
			}
			if len(s.notAsked) > 0 && isTable {
				cli.Warn(c, "%s", gorules.Text(s.notAsked))
			}
			if isTable {
				warnAll(c, s.warnings)
			}
			if s.running && !s.trial && f.isEmpty() && isTable {
				root := cli.HostRoot()
				s.warnDomains(c)
				warnAll(c, append(hostpolicy.ListWarnings(root), hostpolicy.Unread(root)...))
			}
			faults := s.printFaults(c)
			switch {
			case exitCode && faults > 0:
				return cli.Exit(exitUndecided)
			case exitCode && s.refuses():
				return cli.Exit(exitRefused)
			case faults > 0 && !exitCode:
				return &cli.ToldError{}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table, wide, json, name, prometheus")
	c.Flags().BoolVar(&all, "all", false, "also domains that are off")
	c.Flags().BoolVar(&f.protected, "protected", false, "only domains that may not be stopped")
	c.Flags().StringVar(&f.rule, "rule", "", "only domains that this rule has a reason about")
	c.Flags().StringVar(&f.domain, "domain", "", "only domains with a name like this pattern")
	c.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 0, 1 or 2: may, may not, no decision")
	c.Flags().BoolVar(&onlyLoad, "load", false, "load the host's policy, and say what is wrong")
	c.Flags().BoolVar(&readOnly, "read-only", false, "leave the report of what has gone to the next check")
	c.Flags().StringVar(&tried, "policy", "", "show what this folder or bundle would change")
	c.Flags().StringVar(&key, "key", "", "public key of that bundle, a PEM file")
	cli.OperationFlag(c, &operation)
	cli.UsageExit(c, exitUsage, "exit-code")
	cli.CompleteFlag(c, "output", "table", "wide", "json", "name", "prometheus")
	cli.CompleteFlagBy(c, "rule", completeRules)
	cli.CompleteFlagBy(c, "domain", domains.Complete)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names, directive := domains.CompleteAll(c, args, start)
		if all {
			names = domains.CompleteOff(names, args, start)
		}
		return names, directive
	}
	return c
}

// The exit codes with --exit-code, and of may-stop.
const (
	exitRefused   = 1
	exitUndecided = 2
	exitUsage     = 64 // EX_USAGE, which is not taken for a decision
)

// completeRules completes the names of the host's rules.
func completeRules(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if config, err := hostpolicy.Load(cli.HostRoot()); err == nil {
		if engine, err := policy.New(c.Context(), config); err == nil {
			names = engine.Rules()
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// A report is all that a check found out.
type report struct {
	at       time.Time
	asked    string // the operation
	deletes  bool   // whether it is a delete for domains that are off
	running  bool   // whether the subjects are all running domains
	all      bool   // whether the subjects may be off
	wide     bool   // whether the table has all columns
	trial    bool   // whether there is a candidate
	subjects []domains.Subject
	verdicts []candidate.Verdict
	would    []candidate.Verdict // with the candidate, if there is one
	gone     []marks.Mark        // marks that a former check saw
	unlisted []marks.Mark        // domains that the protected list matched at a former check
	faults   []error             // in addition to those of the verdicts
	enforced host.Enforcement
	notAsked []string      // rules written in Go
	husks    []host.Domain // that failed migrations left
	warnings []error       // about the policy, or the candidate
	ending   []host.Domain // protected domains that end with a client's connection
	tickets  []string      // the ticket that would let each subject go; "" for one without
	reports  []error       // about tickets that cannot be read

	approvals *policy.Approvals // what the site asks of tickets
}

// A question is what a check is to find out.
type question struct {
	args       []string // the domains' names; all running domains if empty
	all        bool     // whether domains that are off count, too
	operation  string   // "" for a stop, and for a delete of domains that are off
	tried, key string   // another policy, and its key
}

// operationOf returns the operation that a subject's verdict is about.
func (s report) operationOf(subject domains.Subject) string {
	if s.deletes && subject.State == domains.StateOff {
		return policy.OperationDelete
	}
	return s.asked
}

// check looks at the domains, and compares the marks of all running ones with those of the former
// check. The marks are remembered unless readOnly is set.
func check(c *cobra.Command, q question, readOnly bool) (report, error) {
	s, err := survey(c, q)
	if err == nil && s.running && !s.trial && s.asked == policy.OperationStop { // every mark is for a stop
		var now marks.Seen
		now, s.gone, s.unlisted, err = compareMarks(cli.HostRoot(), s)
		if err == nil && !readOnly {
			err = marks.Write(cli.HostRoot(), now)
		}
		if err != nil {
			cli.Warn(c, "marks that go cannot be told the next time: %v", err)
		}
		return s, nil
	}
	return s, err
}

// survey looks at the domains and changes nothing.
func survey(c *cobra.Command, q question) (report, error) {
	ctx, root := c.Context(), cli.HostRoot()
	s := report{at: time.Now(), asked: cmp.Or(q.operation, policy.OperationStop), deletes: q.operation == "", running: len(q.args) == 0, all: q.all, trial: q.tried != ""}
	s.enforced = cli.Enforcement(s.asked)
	config, err := hostpolicy.Load(root)
	if err != nil {
		return report{}, err
	}
	engine, broken := policy.New(ctx, config)
	var other *policy.Engine
	if s.trial {
		// The candidate may repair the host's own policy: then every verdict of the latter is a
		// fault.
		if other, err = candidate.Engine(ctx, config, q.tried, q.key); err != nil {
			return report{}, fmt.Errorf("--policy: %w", err)
		}
	} else if broken != nil {
		return report{}, broken
	}
	if s.running {
		if err := s.selectAll(); err != nil {
			return report{}, err
		}
		s.lookAround()
	} else {
		s.subjects = domains.Select(q.args, q.all, c.InOrStdin())
	}
	if broken == nil {
		s.notAsked = gorules.Missing(engine)
		s.approvals = engine.Approvals()
		s.warnings = engine.Warnings()
	}
	if s.trial {
		s.warnings = other.Warnings()
	}
	p := terminal.ProgressFor(c.ErrOrStderr())
	s.verdicts = s.decideAll(ctx, engine, broken, p)
	if s.trial {
		s.would = s.decideAll(ctx, other, nil, p)
	}
	p.End()
	s.findTickets(ctx, root, engine)
	return s, nil
}

// selectAll selects the domains of a check without names.
func (s *report) selectAll() error {
	var err error
	if s.all {
		s.subjects, err = domains.All()
	} else {
		guests, failed := domains.Running()
		s.subjects, err = domains.OfGuests(guests), failed
	}
	if err != nil && len(s.subjects) == 0 {
		return err
	}
	if err != nil {
		s.faults = append(s.faults, err)
	}
	return nil
}

// Counts are how many running domains may not be stopped.
type Counts struct {
	Running   int `json:"running"`
	Protected int `json:"protected"`
	Undecided int `json:"undecided"`
}

// Count counts the running domains, for a summary.
func Count(c *cobra.Command) (Counts, error) {
	s, err := survey(c, question{})
	counts := Counts{Running: len(s.subjects)}
	for _, v := range s.verdicts {
		switch {
		case v.Err != nil:
			counts.Undecided++
		case v.Outcome == policy.Veto:
			counts.Protected++
		}
	}
	return counts, err
}

// decideAll decides about each subject with the input that the hook, or a gate, would use. broken
// is the reason for a missing engine.
func (s report) decideAll(ctx context.Context, engine *policy.Engine, broken error, p *terminal.Progress) []candidate.Verdict {
	subjects := s.subjects
	verdicts := make([]candidate.Verdict, len(subjects))
	input := inputs(engine, subjects)
	var (
		next, done int
		mutex      sync.Mutex
		workers    sync.WaitGroup
	)
	for range min(runtime.NumCPU(), 8) {
		workers.Go(func() {
			for {
				mutex.Lock()
				i := next
				next++
				mutex.Unlock()
				if i >= len(subjects) {
					return
				}
				verdicts[i] = decide(ctx, engine, cmp.Or(broken, subjects[i].Err), s.operationOf(subjects[i]), input, subjects[i])
				mutex.Lock()
				done++
				p.Show("checking", done, len(subjects))
				mutex.Unlock()
			}
		})
	}
	workers.Wait()
	return verdicts
}

func decide(ctx context.Context, engine *policy.Engine, broken error, operation string, input func(domains.Subject) (policy.Input, error), s domains.Subject) candidate.Verdict {
	if broken != nil {
		return candidate.Verdict{Err: broken}
	}
	in, err := input(s)
	if err != nil {
		return candidate.Verdict{Err: err}
	}
	in.Operation = operation
	decision, err := engine.Decide(ctx, in)
	return candidate.Verdict{Decision: decision, Err: err}
}

// inputs returns a function that builds the hook's input for a subject. It reads the host's state
// once for all subjects: a rule may read all running domains, and a thousand subjects would read a
// thousand files each.
func inputs(engine *policy.Engine, subjects []domains.Subject) func(domains.Subject) (policy.Input, error) {
	var host policy.Input
	var err error
	var holds map[string][]policy.Hold
	for _, s := range subjects {
		if engine != nil && s.Domain != nil {
			host, err = stopguard.Config{Root: cli.HostRoot()}.Input(engine, s.Domain, hookproto.Process{})
			host.Host = host.Host.Shared()
			if err == nil {
				holds, err = hold.Store{Root: cli.HostRoot()}.All(host.Time)
			}
			break
		}
	}
	return func(s domains.Subject) (policy.Input, error) {
		in := host
		in.Domain, in.State, in.Holds = s.Domain, observed.State(s.Process), holds[s.Domain.UUID]
		return in, err
	}
}

// findTickets finds the tickets that would let the subjects go. It takes none.
func (s *report) findTickets(ctx context.Context, root string, engine *policy.Engine) {
	s.tickets = make([]string, len(s.subjects))
	tickets := ticket.Store{Root: root}
	var list []ticket.Listed
	if list, s.reports = tickets.List(s.at); len(list) == 0 || engine == nil {
		return
	}
	input := inputs(engine, s.subjects)
	for i, subject := range s.subjects {
		if subject.Err != nil {
			continue
		}
		in, err := input(subject)
		if err != nil {
			continue // its verdict says so
		}
		in.Operation = s.operationOf(subject)
		run := policy.Incarnation{UUID: subject.UUID, PID: subject.Process.PID, Start: subject.Process.Start}
		if t, ok := candidate.Ticket(ctx, tickets, list, engine, in, run); ok {
			s.tickets[i] = t.ID
		}
	}
}

// refuses reports whether one of the operations would be refused.
func (s report) refuses() bool {
	for i, v := range s.verdicts {
		if v.Outcome == policy.Veto && s.tickets[i] == "" {
			return true
		}
	}
	return false
}

// printFaults prints the faults in full.
func (s report) printFaults(c *cobra.Command) int {
	n := 0
	printed := map[string]bool{} // a broken policy has the same fault for every domain
	for _, err := range s.faults {
		cli.Warn(c, "%v", err)
		n++
	}
	needsRoot := false
	for i, subject := range s.subjects {
		for _, v := range [][]candidate.Verdict{s.verdicts, s.would} {
			if i >= len(v) || v[i].Err == nil {
				continue
			}
			n++
			if line := cli.NeedsRoot(v[i].Err); line != nil {
				if !needsRoot {
					cli.Warn(c, "%v", line)
				}
				needsRoot = true
				continue
			}
			if text := v[i].Err.Error(); !printed[text] {
				printed[text] = true
				cli.Warn(c, "%s: %s", subject.Name, text)
			}
		}
	}
	return n
}

// lookAround finds domains that no verdict is about.
func (s *report) lookAround() {
	h, err := host.This()
	if err != nil {
		return // reported already
	}
	s.husks = h.Husks()
	if s.ending, err = h.Autodestroyed(); err != nil {
		s.faults = append(s.faults, fmt.Errorf("%s cannot be read: %w; run as root", h.Path(host.GateMetrics), err))
	}
}

// warnUnenforced warns if nothing on this host can refuse what the verdicts are about.
func (s report) warnUnenforced(c *cobra.Command) {
	isDelete := func(subject domains.Subject) bool { return s.operationOf(subject) != s.asked }
	if text := s.enforced.Text(s.asked); text != "" {
		cli.Warn(c, "%s", text)
	} else if slices.ContainsFunc(s.subjects, isDelete) {
		cli.WarnUnenforced(c, policy.OperationDelete)
	}
}

func (s report) warnDomains(c *cobra.Command) {
	for _, domain := range s.husks {
		what, cure := domain.HuskText()
		cli.Warn(c, "%s; %s", what, cure)
	}
	for _, domain := range s.ending {
		what, cure := domain.AutodestroyText()
		cli.Warn(c, "%s; %s", what, cure)
	}
}
