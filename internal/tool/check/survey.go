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
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// check decides about the domains, and compares the marks of all running ones with those of the
// former check. It stores the marks unless readOnly is set.
func check(c *cobra.Command, q question, readOnly bool) (report, error) {
	s, err := survey(c, q)
	if err == nil && s.running && !s.trial && s.operation == policy.OperationStop { // every mark is for a stop
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

// survey decides about the domains. It does not change anything.
func survey(c *cobra.Command, q question) (report, error) {
	ctx, root := c.Context(), cli.HostRoot()
	s := report{at: time.Now(), operation: cmp.Or(q.operation, policy.OperationStop), deletes: q.operation == "", running: len(q.args) == 0, all: q.all, trial: q.policy != ""}
	s.enforced = cli.Enforcement(s.operation)
	config, err := hostpolicy.Load(root)
	if err != nil {
		return report{}, err
	}
	engine, broken := policy.New(ctx, config)
	var other *policy.Engine
	if s.trial {
		// The host's own policy may be broken, and the candidate repair it. Then every verdict of
		// the former is a fault.
		if other, err = candidate.Engine(ctx, config, q.policy, q.key); err != nil {
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

// Counts are the numbers of running domains by their protection.
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
// once for all subjects. A rule may read all running domains, so otherwise a thousand subjects
// would read a thousand files each.
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

// findTickets sets the tickets that would lift the subjects' vetoes. It does not take them.
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
			continue // its verdict is a fault
		}
		in.Operation = s.operationOf(subject)
		run := policy.Incarnation{UUID: subject.UUID, PID: subject.Process.PID, Start: subject.Process.Start}
		if t, ok := candidate.Ticket(ctx, tickets, list, engine, in, run); ok {
			s.tickets[i] = t.ID
		}
	}
}

// lookAround finds domains that the verdicts do not cover: husks, and domains that end with a
// connection.
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
