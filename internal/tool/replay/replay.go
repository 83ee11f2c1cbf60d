package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
)

// replay's exit codes besides 0, for a pipeline.
const (
	exitDiffers      = 1
	exitNotReplayed  = 2 // the candidate could not be evaluated
	exitNotAllPlayed = 3 // nothing differs, but not everything could be compared
)

// A replayExit is the end of a replay whose output is complete.
type replayExit int

func (replayExit) Error() string   { return "see above" }
func (e replayExit) ExitCode() int { return int(e) }

// Command returns the command replay.
func Command() *cobra.Command {
	var output, tried, key string
	c := &cobra.Command{
		Use:   "replay --policy CANDIDATE RECORD...",
		Short: "Decide again, with another policy, what is in the record",
		Long: `Decide again, with another policy, what is in the record, stops and other
operations, and show what it would have decided otherwise: each at the time of
its record, from the input that is in it.

RECORD is a decisions.jsonl, also as gzip, or an array as OPA uploads them; "-"
is stdin. The candidate, a folder or a bundle, takes the place of the host's own
as in stopguard check --policy. What was listed is taken from the record, and
not from the host's list. What a ticket let go was vetoed by the rules, and
counts so.

A rule that reads what a record lacks or masks cannot be replayed on it: what it
said then is taken to be what it says now, and it is shown apart. A default
record has nothing that a guest's owner wrote, so protection_mark cannot be
replayed; a site that wants it records the metadata, by a mask of its own
(package system.log). A rule written in Go is in the site's own hook alone, and
cannot be replayed either.

Exit codes: 0 every decision is the same, 1 some differ, 2 a wrong command line,
or the candidate or a record cannot be read, 3 none differs but not everything
could be replayed.`,
		Example: `  stopguard replay --policy ./new-policy /var/log/stopguard/decisions.jsonl*
  zcat old.jsonl.gz | stopguard replay --policy ./new-policy -o json -`,
		RunE: func(c *cobra.Command, args []string) error {
			write, ok := map[string]func(*cobra.Command, replay) error{"table": writeReplay, "json": writeReplayJSON}[output]
			switch {
			case !ok:
				return cli.Usage("-o %q is unknown; write table or json", output)
			case tried == "":
				return cli.Usage("there is nothing to compare with; give a folder or a bundle with --policy")
			case len(args) == 0:
				return cli.Usage("there is nothing to replay; name a decisions.jsonl, or - for stdin")
			}
			r, err := replayAll(c, tried, key, args)
			var wrong *cli.UsageError
			if errors.As(err, &wrong) {
				return err
			}
			if err == nil && r.Records == 0 && r.Malformed == 0 {
				err = fmt.Errorf("there is no record in %s; name a decisions.jsonl", strings.Join(args, ", "))
			}
			if err != nil {
				cli.Warn(c, "%v", err)
				return replayExit(exitNotReplayed)
			}
			if err := write(c, r); err != nil {
				return err
			}
			if code := r.exit(); code != 0 {
				return replayExit(code)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cli.CompleteFlag(c, "output", "table", "json")
	c.Flags().StringVar(&tried, "policy", "", "decide by this folder or bundle")
	c.Flags().StringVar(&key, "key", "", "public key of that bundle, a PEM file")
	c.ValidArgsFunction = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	return c
}

// A replay is the result. Every record counts once, but records that differ and were replayed only
// in part count twice.
type replay struct {
	Records      int            `json:"records"` // stopguard's records
	Same         int            `json:"same"`
	Differ       map[string]int `json:"differ"`        // by change
	NotReplayed  int            `json:"not_replayed"`  // wholly or in part
	NotDecisions map[string]int `json:"not_decisions"` // records without a decision, by outcome
	Malformed    int            `json:"torn"`          // lines that are not records
	Changes      []change       `json:"changes"`
	Lacking      []lacking      `json:"cannot_be_replayed"`
}

// A change is a difference between the record and the candidate, for one domain, operation and
// rule.
type change struct {
	Change    string `json:"change"`
	Operation string `json:"operation"`
	Rule      string `json:"rule"`
	Domain    string `json:"domain"`
	Times     int    `json:"times"`

	// The last of them:
	Time       time.Time       `json:"time"`
	DecisionID string          `json:"decision_id"`
	Then       []record.Reason `json:"then"`
	Now        []record.Reason `json:"now"`
	Fault      string          `json:"fault,omitempty"`
}

// A lacking is a reason for which records could not be replayed.
type lacking struct {
	Rule    string   `json:"rule,omitempty"` // "" for all rules
	Paths   []string `json:"paths,omitempty"`
	Why     string   `json:"why,omitempty"`
	Records int      `json:"records"`
}

func (r replay) exit() int {
	switch {
	case len(r.Differ) > 0:
		return exitDiffers
	case r.NotReplayed > 0 || r.Malformed > 0:
		return exitNotAllPlayed
	}
	return 0
}

func replayAll(c *cobra.Command, tried, key string, files []string) (replay, error) {
	config, err := hostpolicy.Load(cli.HostRoot())
	if err != nil {
		return replay{}, err
	}
	engine, err := candidate.Engine(c.Context(), config, tried, key)
	if err != nil {
		return replay{}, fmt.Errorf("--policy: %w", err)
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	p := terminal.ProgressFor(c.ErrOrStderr())
	read := recordReader{batches: make(chan [][]byte, 4), stdin: c.InOrStdin(), progress: p}
	var failed error
	go func() {
		defer close(read.batches)
		failed = read.files(ctx, files)
	}()
	replayers := make([]*replayer, runtime.NumCPU())
	var workers sync.WaitGroup
	for i := range replayers {
		replayers[i] = newReplayer(engine)
		workers.Go(func() {
			for batch := range read.batches {
				for _, line := range batch {
					replayers[i].play(ctx, line)
				}
			}
		})
	}
	workers.Wait()
	p.End()
	if failed == nil {
		failed = c.Context().Err()
	}
	for _, other := range replayers[1:] {
		replayers[0].add(other)
	}
	return replayers[0].sum(), failed
}

// replayTime bounds the replay of one record. It is much more than a hook has, because all
// processors are busy.
const replayTime = 20 * time.Second

// A replayer replays records and counts the differences. It is for one goroutine.
type replayer struct {
	engine   *policy.Engine
	patience time.Duration
	replay
	changes map[[4]string]change
	lacking map[string]lacking
}

func newReplayer(engine *policy.Engine) *replayer {
	return &replayer{
		engine: engine, patience: replayTime,
		replay:  replay{Differ: map[string]int{}, NotDecisions: map[string]int{}},
		changes: map[[4]string]change{},
		lacking: map[string]lacking{},
	}
}

// A recordedQuestion is a record whose input is parsed only if it is needed.
type recordedQuestion struct {
	record.Event
	Input json.RawMessage `json:"input"`
}

// goRules returns the rules in Go that the record names and the engine does not have.
func (q recordedQuestion) goRules(engine *policy.Engine) []lacking {
	var missing []lacking
	for _, name := range q.Result.GoRules {
		if !slices.Contains(engine.GoRules(), name) {
			missing = append(missing, lacking{Rule: name, Why: "it is written in Go, and not part of this program"})
		}
	}
	return missing
}

func (q recordedQuestion) operation() string {
	if r := q.Result.Request; r != nil {
		return r.Operation
	}
	return policy.OperationStop // a hook's record
}

// input returns the recorded input. In a record from the time when two operations had one name, the
// procedure may tell which one it was. Otherwise both are decided.
func (q recordedQuestion) input() json.RawMessage {
	only := string(call.OnlyOperation(q.procedure()))
	if q.operation() == only || !operation.Covers(q.operation(), only) {
		return q.Input
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(q.Input, &members) != nil {
		return q.Input // reading it returns the error
	}
	members["operation"] = json.RawMessage(strconv.Quote(only))
	content, err := json.Marshal(members)
	if err != nil {
		return q.Input
	}
	return content
}

func (q recordedQuestion) procedure() string {
	if r := q.Result.Request; r != nil {
		return r.Procedure
	}
	return ""
}

func (p *replayer) play(ctx context.Context, line []byte) {
	var e recordedQuestion
	if err := json.Unmarshal(line, &e); err != nil || e.Path != record.Path || e.Result.Outcome == "" {
		p.Malformed++
		return
	}
	p.Records++
	if e.Result.Outcome != record.Allow && e.Result.Outcome != record.Veto {
		p.NotDecisions[e.Result.Outcome]++
		return
	}
	then, now, lacks := p.decide(ctx, e)
	for _, l := range lacks {
		at := l.Rule + "\x00" + strings.Join(l.Paths, "\x00") + "\x00" + l.Why
		l.Records = p.lacking[at].Records + 1
		p.lacking[at] = l
	}
	if len(lacks) > 0 {
		p.NotReplayed++
	}
	switch kind := candidate.ChangeOf(then, now); {
	case kind != "":
		p.Differ[kind]++
		p.note(e, kind, then, now)
	case len(lacks) == 0:
		p.Same++
	}
}

// decide returns the recorded decision and the candidate's. If they cannot be compared, it returns
// the recorded one twice, and the reasons.
func (p *replayer) decide(ctx context.Context, e recordedQuestion) (then, now candidate.Verdict, lacks []lacking) {
	then.Decision = decisionOf(e.Result)
	if len(e.Input) == 0 {
		return then, then, []lacking{{Paths: []string{"input"}}}
	}
	document, err := policy.ParseDocument(e.input(), slices.Concat(e.Erased, e.Masked))
	if err != nil {
		return then, then, []lacking{{Why: err.Error()}}
	}
	document.ShuttingDown = e.Result.Unenforced == policy.ShuttingDown
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	replayed, err := p.engine.Replay(ctx, document)
	var lack *policy.MissingInputError
	switch {
	case errors.As(err, &lack):
		for _, l := range lack.Missing {
			lacks = append(lacks, lacking{Rule: l.Rule, Paths: l.Paths})
		}
		return then, then, lacks
	case err != nil:
		return then, candidate.Verdict{Err: err}, nil
	}
	now.Decision = replayed.Decision
	for _, l := range replayed.Missing {
		lacks = append(lacks, lacking{Rule: l.Rule, Paths: l.Paths})
	}
	lacks = append(lacks, e.goRules(p.engine)...)
	for _, l := range lacks {
		isItsOwn := func(r policy.Reason) bool { return r.Rule != l.Rule }
		now.Reasons = append(now.Reasons, slices.DeleteFunc(slices.Clone(then.Reasons), isItsOwn)...)
		now.Monitored = append(now.Monitored, slices.DeleteFunc(slices.Clone(then.Monitored), isItsOwn)...)
	}
	sortReasons(now.Reasons)
	sortReasons(now.Monitored)
	now.Outcome = outcomeOf(now.Reasons)
	return then, now, lacks
}

// decisionOf returns the rules' decision, without the effect of a ticket.
func decisionOf(r record.Result) policy.Decision {
	d := policy.Decision{Unenforced: r.Unenforced}
	for _, reason := range r.Reasons {
		d.Reasons = append(d.Reasons, policy.Reason(reason))
	}
	for _, reason := range r.Monitored {
		d.Monitored = append(d.Monitored, policy.Reason(reason))
	}
	d.Outcome = outcomeOf(d.Reasons)
	return d
}

func outcomeOf(reasons []policy.Reason) policy.Outcome {
	if len(reasons) > 0 {
		return policy.Veto
	}
	return policy.Allow
}

func sortReasons(reasons []policy.Reason) {
	slices.SortFunc(reasons, func(a, b policy.Reason) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message), a.Until.Compare(b.Until))
	})
}

// note counts a change for each rule that causes it.
func (p *replayer) note(e recordedQuestion, kind string, then, now candidate.Verdict) {
	former, latter := byRule(then, kind), byRule(now, kind)
	rules := map[string]bool{}
	if kind == candidate.NewlyFault {
		former, rules[""] = nil, true // a fault does not belong to a rule
	}
	for rule, reasons := range former {
		rules[rule] = kind != candidate.OtherReason || !slices.EqualFunc(reasons, latter[rule], sameReason)
	}
	for rule, reasons := range latter {
		rules[rule] = kind != candidate.OtherReason || !slices.EqualFunc(reasons, former[rule], sameReason)
	}
	for rule, differs := range rules {
		if !differs {
			continue
		}
		c := change{Change: kind, Operation: e.operation(), Rule: rule, Domain: e.Result.Domain.Name, Times: 1,
			Time: e.Timestamp, DecisionID: e.DecisionID, Then: recorded.Reasons(former[rule]), Now: recorded.Reasons(latter[rule])}
		if now.Err != nil {
			c.Fault = now.Err.Error()
		}
		p.count(c)
	}
}

func (p *replayer) count(c change) {
	at := [4]string{c.Change, c.Operation, c.Rule, c.Domain}
	if last, exists := p.changes[at]; exists {
		times := last.Times + c.Times
		if cmp.Or(last.Time.Compare(c.Time), cmp.Compare(last.DecisionID, c.DecisionID)) > 0 {
			c = last
		}
		c.Times = times
	}
	p.changes[at] = c
}

// byRule returns the reasons that can cause a change, by rule. Monitored reasons count only if
// nothing else differs.
func byRule(v candidate.Verdict, kind string) map[string][]policy.Reason {
	all := map[string][]policy.Reason{}
	for _, r := range v.Reasons {
		all[r.Rule] = append(all[r.Rule], r)
	}
	if kind == candidate.OtherReason {
		for _, r := range v.Monitored {
			r.Message += " (monitored)"
			all[r.Rule] = append(all[r.Rule], r)
		}
	}
	return all
}

func sameReason(a, b policy.Reason) bool {
	return a.Rule == b.Rule && a.Message == b.Message && a.Until.Equal(b.Until)
}

// add adds the counts of another replayer.
func (p *replayer) add(other *replayer) {
	p.Records += other.Records
	p.Same += other.Same
	p.NotReplayed += other.NotReplayed
	p.Malformed += other.Malformed
	for kind, n := range other.Differ {
		p.Differ[kind] += n
	}
	for outcome, n := range other.NotDecisions {
		p.NotDecisions[outcome] += n
	}
	for _, c := range other.changes {
		p.count(c)
	}
	for at, l := range other.lacking {
		l.Records += p.lacking[at].Records
		p.lacking[at] = l
	}
}

// sum returns the whole result, sorted.
func (p *replayer) sum() replay {
	r := p.replay
	r.Changes, r.Lacking = []change{}, []lacking{}
	for _, c := range p.changes {
		r.Changes = append(r.Changes, c)
	}
	for _, l := range p.lacking {
		r.Lacking = append(r.Lacking, l)
	}
	operations := policy.Operations()
	slices.SortFunc(r.Changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(slices.Index(candidate.Changes, a.Change), slices.Index(candidate.Changes, b.Change)),
			cmp.Compare(slices.Index(operations, a.Operation), slices.Index(operations, b.Operation)),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Domain, b.Domain))
	})
	slices.SortFunc(r.Lacking, func(a, b lacking) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), slices.Compare(a.Paths, b.Paths), cmp.Compare(a.Why, b.Why))
	})
	return r
}

func writeReplayJSON(c *cobra.Command, r replay) error { return terminal.WriteJSON(c.OutOrStdout(), r) }

func writeReplay(c *cobra.Command, r replay) error {
	var b strings.Builder
	if len(r.Changes) > 0 {
		var t terminal.Table
		t.Row("CHANGE", "TIMES", "RULE", "DOMAIN", "REASON")
		for _, x := range r.Changes {
			t.Row(x.Change, x.times(), x.Rule, x.Domain, x.reason())
		}
		if err := t.Write(c.OutOrStdout()); err != nil {
			return err
		}
		b.WriteString("\n")
	}
	for _, l := range r.Lacking {
		what := cmp.Or(l.Why, "the record lacks or masks "+strings.Join(l.Paths, ", "))
		if l.Rule != "" {
			what = "rule " + l.Rule + ": " + what
		}
		for i, line := range terminal.Wrap(fmt.Sprintf("cannot be replayed, %d of the records: %s", l.Records, what), terminal.Width-2) {
			b.WriteString(strings.Repeat("  ", min(i, 1)) + line + "\n")
		}
	}
	if len(r.Lacking) > 0 {
		b.WriteString("\n")
	}
	parts := []string{fmt.Sprintf("%d the same", r.Same)}
	for _, kind := range candidate.Changes {
		if n := r.Differ[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if r.NotReplayed > 0 {
		parts = append(parts, fmt.Sprintf("%d that cannot be replayed or only in part", r.NotReplayed))
	}
	for _, outcome := range []string{record.Moot, record.Fault, record.Escape} {
		if n := r.NotDecisions[outcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s, which is no decision", n, outcome))
		}
	}
	if r.Malformed > 0 {
		parts = append(parts, fmt.Sprintf("and %d lines that are torn or no records", r.Malformed))
	}
	for i, line := range terminal.Wrap(fmt.Sprintf("%s: %s", terminal.Counted(r.Records, "record"), strings.Join(parts, ", ")), terminal.Width-2) {
		b.WriteString(strings.Repeat("  ", min(i, 1)) + line + "\n")
	}
	_, err := fmt.Fprint(c.OutOrStdout(), b.String())
	return err
}

// times returns the number and, if it is not a stop, the operation. Most hosts have only stops.
func (c change) times() string {
	if c.Operation == policy.OperationStop {
		return fmt.Sprint(c.Times)
	}
	return fmt.Sprint(c.Times, " ", c.Operation)
}

// reason returns the candidate's reason, or else the recorded one, or else the fault.
func (c change) reason() string {
	for _, reasons := range [][]record.Reason{c.Now, c.Then} {
		if len(reasons) > 0 {
			return reasons[0].Message
		}
	}
	return c.Fault
}
