package tool

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

func newCheck() *cobra.Command {
	var output, candidate, key, operation string
	c := &cobra.Command{
		Use:   "check [FILE.xml...]",
		Short: "Show which domains are protected",
		Long: `Show of every running domain, or of the domains that the files describe,
whether a stop would be refused, by which rule and until when. Nothing is
stopped, and no ticket is taken.

Without files it remembers the marks that it saw in
/var/lib/stopguard/marks.json, and reports those that have gone since. With
--policy it shows what another policy would change: a folder is tried in place
of /etc/stopguard/policy, a bundle in place of /etc/stopguard/bundle.tar.gz,
by --key or else the host's own key. With --operation it is about another
operation than a stop, which requests through a gate would ask for.

Exit codes: 0 all could be decided, 1 not all, 2 a wrong command line.`,
		Example: `  stopguard check
  stopguard check -o prometheus > /var/lib/node_exporter/stopguard.prom.new
  stopguard check --policy ./new-policy`,
		RunE: func(c *cobra.Command, args []string) error {
			write, ok := map[string]func(*cobra.Command, survey) error{"table": writeTable, "json": writeSurvey, "prometheus": writeMetrics}[output]
			switch {
			case !ok:
				return usage("-o %q is unknown; write table, json or prometheus", output)
			case key != "" && candidate == "":
				return usage("--key is for a bundle; give one with --policy")
			case candidate != "" && output == "prometheus":
				return usage("--policy is for people; leave out -o prometheus")
			case operation != policy.OperationStop && output == "prometheus":
				return usage("--operation is for people; leave out -o prometheus")
			}
			if err := checkOperation(operation); err != nil {
				return err
			}
			s, err := check(c, args, operation, candidate, key)
			if err != nil {
				return err
			}
			if err := write(c, s); err != nil {
				return err
			}
			if faults := s.tellFaults(c); faults > 0 {
				return &toldError{}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table, json or prometheus")
	c.Flags().StringVar(&candidate, "policy", "", "show what this folder or bundle would change")
	c.Flags().StringVar(&key, "key", "", "public key of that bundle, a PEM file")
	operationFlag(c, &operation)
	c.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	return c
}

// A subject is a domain that is asked about.
type subject struct {
	name    string
	uuid    string
	domain  *domainxml.Domain // nil if err is set
	process hookproto.Process
	err     error
}

// A verdict is what would become of the operation. It is a fault if err is set.
type verdict struct {
	policy.Decision
	err error
}

// A survey is all that a check found out.
type survey struct {
	at       time.Time
	asked    string // the operation
	running  bool   // whether the subjects are the running domains
	trial    bool   // whether there is a candidate
	subjects []subject
	verdicts []verdict
	would    []verdict // with the candidate, if there is one
	gone     []seenMark
	faults   []error // besides those of the verdicts
}

func check(c *cobra.Command, files []string, operation, candidate, key string) (survey, error) {
	ctx, root := c.Context(), hostRoot()
	s := survey{at: time.Now(), asked: operation, running: len(files) == 0, trial: candidate != ""}
	config, err := hostpolicy.Load(root)
	if err != nil {
		return survey{}, err
	}
	engine, broken := policy.New(ctx, config)
	var other *policy.Engine
	if s.trial {
		// The host's own policy may be what the candidate is to mend: then every verdict of it is a fault.
		if other, err = candidateEngine(ctx, config, candidate, key); err != nil {
			return survey{}, fmt.Errorf("--policy: %w", err)
		}
	} else if broken != nil {
		return survey{}, broken
	}
	if s.running {
		guests, err := running()
		if err != nil && len(guests) == 0 {
			return survey{}, err
		}
		if err != nil {
			s.faults = append(s.faults, err)
		}
		s.subjects = ofGuests(guests)
	} else {
		s.subjects = ofFiles(files)
	}
	p := progressFor(c.ErrOrStderr())
	s.verdicts = decideAll(ctx, engine, broken, operation, s.subjects, p)
	if s.trial {
		s.would = decideAll(ctx, other, nil, operation, s.subjects, p)
	}
	p.end()
	if s.running && !s.trial && operation == policy.OperationStop { // every mark is for a stop
		s.gone, err = compareMarks(root, s)
		if err != nil {
			warn(c, "marks that go cannot be told the next time: %v", err)
		}
	}
	return s, nil
}

func ofGuests(guests []hookproto.Guest) []subject {
	var subjects []subject
	for _, g := range guests {
		s := subject{name: g.Name, uuid: strings.ToLower(g.Process.Status.UUID), process: g.Process, err: g.Err}
		if s.err == nil {
			s.domain, s.err = domainxml.Parse(g.XML)
		}
		if s.err != nil {
			s.err = fmt.Errorf("%w; look at the domain with virsh dumpxml, and at libvirt's status file", s.err)
		}
		subjects = append(subjects, s)
	}
	return subjects
}

// maxXML is the size at which a file is no domain's.
const maxXML = 8 << 20

func ofFiles(files []string) []subject {
	var subjects []subject
	for _, file := range files {
		s := subject{name: file}
		content, err := readFile(file, maxXML)
		if err == nil {
			s.domain, err = domainxml.Parse(content)
		}
		if err != nil {
			s.err = fmt.Errorf("%w; give XML as of virsh dumpxml", err)
		} else {
			s.name, s.uuid = s.domain.Name, s.domain.UUID
		}
		subjects = append(subjects, s)
	}
	return subjects
}

func readFile(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", file)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return os.ReadFile(file)
}

// decideAll asks the engine about each subject what the hook, or a gate, would ask. broken is why there is no engine.
func decideAll(ctx context.Context, engine *policy.Engine, broken error, operation string, subjects []subject, p *progress) []verdict {
	verdicts := make([]verdict, len(subjects))
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
				verdicts[i] = decide(ctx, engine, cmp.Or(broken, subjects[i].err), operation, input, subjects[i])
				mutex.Lock()
				done++
				p.show("checking", done, len(subjects))
				mutex.Unlock()
			}
		})
	}
	workers.Wait()
	return verdicts
}

func decide(ctx context.Context, engine *policy.Engine, broken error, operation string, input func(subject) (policy.Input, error), s subject) verdict {
	if broken != nil {
		return verdict{err: broken}
	}
	in, err := input(s)
	if err != nil {
		return verdict{err: err}
	}
	in.Operation = operation
	decision, err := engine.Decide(ctx, in)
	return verdict{decision, err}
}

// inputs gives what the hook would ask about each of the subjects. What the host says is read once, for all of them: a rule
// may read all running domains, and for each of a thousand a thousand files would be read.
func inputs(engine *policy.Engine, subjects []subject) func(subject) (policy.Input, error) {
	var host policy.Input
	var err error
	for _, s := range subjects {
		if engine != nil && s.domain != nil {
			host, err = stopguard.Config{Root: hostRoot()}.Input(engine, s.domain, hookproto.Process{})
			host.Host = host.Host.Shared()
			break
		}
	}
	return func(s subject) (policy.Input, error) {
		in := host
		in.Domain, in.State = s.domain, stopguard.StateOf(s.process)
		return in, err
	}
}

// tellFaults prints what could not be decided, in full.
func (s survey) tellFaults(c *cobra.Command) int {
	n := 0
	told := map[string]bool{} // a broken policy says the same of every domain
	for _, err := range s.faults {
		warn(c, "%v", err)
		n++
	}
	for i, subject := range s.subjects {
		for _, v := range [][]verdict{s.verdicts, s.would} {
			if i >= len(v) || v[i].err == nil {
				continue
			}
			n++
			if text := v[i].err.Error(); !told[text] {
				told[text] = true
				warn(c, "%s: %s", subject.name, text)
			}
		}
	}
	return n
}
