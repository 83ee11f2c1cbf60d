package check

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
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
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

func Command() *cobra.Command {
	var output, tried, key, operation string
	var onlyLoad bool
	c := &cobra.Command{
		Use:   "check [FILE.xml...]",
		Short: "Show which domains are protected",
		Long: `Show of every running domain, or of the domains that the files describe,
whether a stop would be refused, by which rule and until when. Nothing is
stopped, and no ticket is taken.

A file may be a pipe, and - is stdin: virsh dumpxml NAME | stopguard check -

Without files it remembers in /var/lib/stopguard/marks.json the marks that it
saw and the domains that were on the list, and reports those that have gone
since. With
--policy it shows what another policy would change: a folder is tried in place
of /etc/stopguard/policy, a bundle in place of /etc/stopguard/bundle.tar.gz,
by --key or else the host's own key. With --operation it is about another
operation than a stop, which requests through a gate would ask for.

With --load no domain is looked at. The host's rules, settings, bundles and
list are loaded by this version of stopguard, which is asked before it takes
the place of another. All that is wrong with them is printed.

A veto holds only where something asks: JSON has enforced, and enforced_by with
the enforcement points (hook, gate) that can refuse the operation on this host.
If that is not known, enforced is false and enforced_why says what is missing.
In metrics, stopguard_enforced has a series for each point, and none if that is
not known.

Exit codes: 0 all could be decided, 1 not all, 2 a wrong command line.`,
		Example: `  stopguard check
  stopguard check -o prometheus > /var/lib/node_exporter/stopguard.prom.new
  stopguard check --policy ./new-policy`,
		RunE: func(c *cobra.Command, args []string) error {
			write, ok := map[string]func(*cobra.Command, report) error{"table": writeTable, "json": writeReportJSON, "prometheus": writeMetrics}[output]
			switch {
			case !ok:
				return cli.Usage("-o %q is unknown; write table, json or prometheus", output)
			case onlyLoad && (len(args) > 0 || c.Flags().NFlag() > 1):
				return cli.Usage("--load is for the host's own policy; give nothing else with it")
			case onlyLoad:
				return load(c)
			case key != "" && tried == "":
				return cli.Usage("--key is for a bundle; give one with --policy")
			case tried != "" && output == "prometheus":
				return cli.Usage("--policy is for people; leave out -o prometheus")
			case operation != policy.OperationStop && output == "prometheus":
				return cli.Usage("--operation is for people; leave out -o prometheus")
			}
			if err := cli.CheckOperation(&operation); err != nil {
				return err
			}
			s, err := check(c, args, operation, tried, key)
			if err != nil {
				return err
			}
			if err := write(c, s); err != nil {
				return err
			}
			if text := s.enforced.Text(operation); text != "" && output == "table" {
				cli.Warn(c, "%s", text)
			}
			if len(s.notAsked) > 0 && output == "table" {
				cli.Warn(c, "%s", gorules.Text(s.notAsked))
			}
			if output == "table" {
				warnAll(c, s.warnings)
			}
			if s.running && !s.trial && output == "table" {
				root := cli.HostRoot()
				s.warnDomains(c)
				warnAll(c, append(hostpolicy.ListWarnings(root), hostpolicy.Unread(root)...))
			}
			if faults := s.printFaults(c); faults > 0 {
				return &cli.ToldError{}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table, json or prometheus")
	c.Flags().BoolVar(&onlyLoad, "load", false, "load the host's policy, and say what is wrong")
	c.Flags().StringVar(&tried, "policy", "", "show what this folder or bundle would change")
	c.Flags().StringVar(&key, "key", "", "public key of that bundle, a PEM file")
	cli.OperationFlag(c, &operation)
	c.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	return c
}

// A report is all that a check found out.
type report struct {
	at       time.Time
	asked    string // the operation
	running  bool   // whether the subjects are the running domains
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
}

func check(c *cobra.Command, files []string, operation, tried, key string) (report, error) {
	ctx, root := c.Context(), cli.HostRoot()
	s := report{at: time.Now(), asked: operation, running: len(files) == 0, trial: tried != "", enforced: cli.Enforcement(operation)}
	config, err := hostpolicy.Load(root)
	if err != nil {
		return report{}, err
	}
	engine, broken := policy.New(ctx, config)
	var other *policy.Engine
	if s.trial {
		// The candidate may repair the host's own policy: then every verdict of the latter is a
		// fault.
		if other, err = candidate.Engine(ctx, config, tried, key); err != nil {
			return report{}, fmt.Errorf("--policy: %w", err)
		}
	} else if broken != nil {
		return report{}, broken
	}
	if s.running {
		guests, err := domains.Running()
		if err != nil && len(guests) == 0 {
			return report{}, err
		}
		if err != nil {
			s.faults = append(s.faults, err)
		}
		s.subjects = domains.OfGuests(guests)
		s.lookAround()
	} else {
		s.subjects = domains.OfFiles(files, c.InOrStdin())
	}
	if broken == nil {
		s.notAsked = gorules.Missing(engine)
		s.warnings = engine.Warnings()
	}
	if s.trial {
		s.warnings = other.Warnings()
	}
	p := terminal.ProgressFor(c.ErrOrStderr())
	s.verdicts = decideAll(ctx, engine, broken, operation, s.subjects, p)
	if s.trial {
		s.would = decideAll(ctx, other, nil, operation, s.subjects, p)
	}
	p.End()
	if s.running && !s.trial && operation == policy.OperationStop { // every mark is for a stop
		s.gone, s.unlisted, err = compareMarks(root, s)
		if err != nil {
			cli.Warn(c, "marks that go cannot be told the next time: %v", err)
		}
	}
	return s, nil
}

// decideAll decides about each subject with the input that the hook, or a gate, would use. broken
// is the reason for a missing engine.
func decideAll(ctx context.Context, engine *policy.Engine, broken error, operation string, subjects []domains.Subject, p *terminal.Progress) []candidate.Verdict {
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
				verdicts[i] = decide(ctx, engine, cmp.Or(broken, subjects[i].Err), operation, input, subjects[i])
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
	for _, s := range subjects {
		if engine != nil && s.Domain != nil {
			host, err = stopguard.Config{Root: cli.HostRoot()}.Input(engine, s.Domain, hookproto.Process{})
			host.Host = host.Host.Shared()
			break
		}
	}
	return func(s domains.Subject) (policy.Input, error) {
		in := host
		in.Domain, in.State = s.Domain, observed.State(s.Process)
		return in, err
	}
}

// printFaults prints the faults in full.
func (s report) printFaults(c *cobra.Command) int {
	n := 0
	printed := map[string]bool{} // a broken policy has the same fault for every domain
	for _, err := range s.faults {
		cli.Warn(c, "%v", err)
		n++
	}
	for i, subject := range s.subjects {
		for _, v := range [][]candidate.Verdict{s.verdicts, s.would} {
			if i >= len(v) || v[i].Err == nil {
				continue
			}
			n++
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
