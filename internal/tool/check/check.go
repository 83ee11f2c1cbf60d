package check

import (
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// Command returns the command check.
func Command() *cobra.Command {
	var o options
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
			o.args = args
			if err := o.validate(c); err != nil {
				return err
			}
			if o.onlyLoad {
				return load(c)
			}
			return o.run(c)
		},
	}
	c.Flags().StringVarP(&o.output, "output", "o", "table", "table, wide, json, name, prometheus")
	c.Flags().BoolVar(&o.all, "all", false, "also domains that are off")
	c.Flags().BoolVar(&o.filter.protected, "protected", false, "only domains that may not be stopped")
	c.Flags().StringVar(&o.filter.rule, "rule", "", "only domains that this rule has a reason about")
	c.Flags().StringVar(&o.filter.domain, "domain", "", "only domains with a name like this pattern")
	c.Flags().BoolVar(&o.exitCode, "exit-code", false, "exit with 0, 1 or 2: may, may not, no decision")
	c.Flags().BoolVar(&o.onlyLoad, "load", false, "load the host's policy, and say what is wrong")
	c.Flags().BoolVar(&o.readOnly, "read-only", false, "leave the report of what has gone to the next check")
	c.Flags().StringVar(&o.policy, "policy", "", "show what this folder or bundle would change")
	c.Flags().StringVar(&o.key, "key", "", "public key of that bundle, a PEM file")
	cli.OperationFlag(c, &o.operation)
	cli.UsageExit(c, exitUsage, "exit-code")
	cli.CompleteFlag(c, "output", "table", "wide", "json", "name", "prometheus")
	cli.CompleteFlagBy(c, "rule", completeRules)
	cli.CompleteFlagBy(c, "domain", domains.Complete)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names, directive := domains.CompleteAll(c, args, start)
		if o.all {
			names = domains.CompleteOff(names, args, start)
		}
		return names, directive
	}
	return c
}

// A question is the scope of a check.
type question struct {
	args      []string // the domains' names; all running domains if empty
	all       bool     // includes domains that are off
	operation string   // "" for a stop, and for a delete of domains that are off
	policy    string   // a folder or a bundle to compare the host's policy with; may be ""
	key       string   // the public key of that bundle; "" means the host's own
}

// options are the options of the command check.
type options struct {
	question
	output   string
	filter   filter
	exitCode bool
	readOnly bool // the marks are not remembered, so that the next check reports the same
	onlyLoad bool // only the policy is loaded, and domains are not checked
}

// writers are the forms of a report.
var writers = map[string]func(*cobra.Command, report) error{
	"table": writeTable, "wide": writeTable, "json": writeReportJSON, "name": writeNames, "prometheus": writeMetrics,
}

// validate returns a usage error for options that contradict each other. It leaves the operation
// empty if the command line does not have it.
func (o *options) validate(c *cobra.Command) error {
	_, isKnown := writers[o.output]
	switch {
	case !isKnown:
		return cli.Usage("-o %q is unknown; write table, wide, json, name or prometheus", o.output)
	case o.onlyLoad && (len(o.args) > 0 || c.Flags().NFlag() > 1):
		return cli.Usage("--load is for the host's own policy; give nothing else with it")
	case o.key != "" && o.policy == "":
		return cli.Usage("--key is for a bundle; give one with --policy")
	case o.policy != "" && o.output == "prometheus":
		return cli.Usage("--policy is for people; leave out -o prometheus")
	case o.policy != "" && o.exitCode:
		return cli.Usage("--exit-code is about the host's own policy; leave out --policy")
	case o.operation != policy.OperationStop && o.output == "prometheus":
		return cli.Usage("--operation is for people; leave out -o prometheus")
	case o.all && o.output == "prometheus":
		return cli.Usage("metrics are of running domains; leave out --all")
	}
	if err := o.filter.check(); err != nil {
		return err
	}
	if err := cli.CheckOperation(&o.operation); err != nil {
		return err
	}
	if !c.Flags().Changed("operation") {
		o.operation = ""
	}
	return nil
}

// run checks the domains and writes the report.
func (o options) run(c *cobra.Command) error {
	r, err := check(c, o.question, o.readOnly)
	if err != nil && o.exitCode {
		cli.Warn(c, "%v", err)
		return cli.Exit(exitUndecided)
	} else if err != nil {
		return err
	}
	r.wide = o.output == "wide"
	if !o.filter.isEmpty() {
		r.keep(o.filter)
	}
	if err := writers[o.output](c, r); err != nil {
		return err
	}
	if o.output == "table" || o.output == "wide" {
		r.warn(c, o.filter.isEmpty())
	}
	faults := r.printFaults(c)
	switch {
	case o.exitCode && faults > 0:
		return cli.Exit(exitUndecided)
	case o.exitCode && r.refuses():
		return cli.Exit(exitRefused)
	case faults > 0 && !o.exitCode:
		return &cli.ToldError{}
	}
	return nil
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
