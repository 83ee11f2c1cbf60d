package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
)

// decideLimit bounds a decision whose context has no deadline of its own, or a later one.
const decideLimit = 2 * time.Second

// Decide evaluates every rule on in. A rule that fails while it is evaluated vetoes in its own
// name. An error means that no decision could be made, and comes with the zero Decision, which
// refuses. It is a [*MissingInputError] if a rule reads a field that in does not have.
//
// Decide returns when ctx is done, and after 2 s at most, even if a rule still runs: an evaluation
// can be cancelled between two expressions but not inside a built-in function. Such an evaluation
// continues in a goroutine until it ends, or until the process does.
func (e *Engine) Decide(ctx context.Context, in Input) (Decision, error) {
	if in.Domain == nil {
		return Decision{}, errors.New("policy: the input has no domain; parse its XML first")
	}
	if err := operation.Check(in.Operation); err != nil {
		return Decision{}, fmt.Errorf("policy: %w", err)
	}
	if err := in.checkStates(); err != nil {
		return Decision{}, fmt.Errorf("policy: %w", err)
	}
	return decideEach(in.Operation, func(name string) (Decision, error) {
		in.Operation = name
		return e.decide(ctx, in)
	})
}

// decideEach decides about every operation that a name means. A former name means two operations,
// and a reason against one of them refuses both.
func decideEach(name string, decide func(operation string) (Decision, error)) (Decision, error) {
	var all Decision
	for i, name := range operation.Expand(name) {
		d, err := decide(name)
		if err != nil {
			return Decision{}, err
		}
		if i == 0 {
			all = d
			continue
		}
		all.Reasons = sortReasons(append(all.Reasons, d.Reasons...))
		all.Monitored = sortReasons(append(all.Monitored, d.Monitored...))
		all.Notes = sortReasons(append(all.Notes, d.Notes...))
		if d.Outcome == Veto {
			all.Outcome = Veto
		}
	}
	return all, nil
}

// decide decides about one operation.
func (e *Engine) decide(ctx context.Context, in Input) (Decision, error) {
	if err := e.checkInput(in); err != nil {
		return Decision{}, err
	}
	ruleCtx, cancel := withRuleTime(ctx)
	defer cancel()
	goReasons := e.startGoRules(ruleCtx, in)
	a, err := evaluateBounded(ctx, func(ctx context.Context) (answer, error) { return e.evaluate(ctx, in) })
	if err != nil {
		return Decision{}, err
	}
	a.reasons = append(a.reasons, goReasons()...)
	if errors.Is(ctx.Err(), context.Canceled) {
		return Decision{}, tooLong(ctx)
	}
	d := e.weigh(in, a)
	d.GoRules = e.GoRules()
	return d, nil
}

// evaluateBounded evaluates in a goroutine of its own, and returns an error when ctx is done, after
// decideLimit, or for a panic. An evaluation cannot be cancelled inside a built-in function.
func evaluateBounded(ctx context.Context, evaluate func(context.Context) (answer, error)) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, decideLimit)
	defer cancel()
	type evaluation struct {
		answer
		err error
	}
	done := make(chan evaluation, 1)
	go func() {
		r := evaluation{err: errors.New("policy: the evaluation did not end as it should; report this")}
		defer func() {
			if p := recover(); p != nil {
				r = evaluation{err: panicked(p)}
			}
			done <- r
		}()
		grow(0)
		r.answer, r.err = evaluate(ctx)
	}()
	select {
	case <-ctx.Done():
		return answer{}, tooLong(ctx)
	case r := <-done:
		return r.answer, r.err
	}
}

func panicked(p any) error {
	return fmt.Errorf("policy: the evaluation panicked: %s; report this", problem.OneLine(fmt.Sprint(p)))
}

// grow makes room on the stack for a whole evaluation. Otherwise the stack would grow by doubling,
// and copying it each time took a fifth of a decision.
//
//go:noinline
func grow(i int) byte {
	var room [64 << 10]byte
	return room[i]
}

func tooLong(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("policy: who asked has gone before it was decided (%w); ask again", ctx.Err())
	}
	return fmt.Errorf("policy: the rules took too long (%w); look for a rule that loops or matches very long text", ctx.Err())
}

// An answer is the result of the rules: all reasons, enforced or not, and notes.
type answer struct{ reasons, notes []Reason }

func (a answer) and(b answer) answer {
	return answer{append(a.reasons, b.reasons...), append(a.notes, b.notes...)}
}

// weigh returns the decision, with the reasons that refuse and those that are only reported.
func (e *Engine) weigh(in Input, a answer) Decision {
	d := Decision{Outcome: Allow, Revision: e.revision, Notes: sortReasons(a.notes)}
	switch {
	case in.ShuttingDown:
		d.Unenforced = ShuttingDown
	case e.settings.ClusterManaged != nil && len(e.settings.ClusterManaged.Match(in.Domain.Name, in.Domain.UUID)) > 0:
		d.Unenforced = ClusterManaged
	}
	for _, r := range sortReasons(a.reasons) {
		if d.Unenforced != "" || e.settings.IsMonitored(r.Rule, in.Operation) {
			d.Monitored = append(d.Monitored, r)
			continue
		}
		d.Reasons = append(d.Reasons, r)
		d.Outcome = Veto
	}
	return d
}

// evaluate evaluates the rules in Rego. If only the rules that are always on are loaded and none
// may apply, they are not compiled.
func (e *Engine) evaluate(ctx context.Context, in Input) (answer, error) {
	listed := e.list.Match(in.Domain.Name, in.Domain.UUID)
	if e.onlyAlwaysOn && !mayApply(in, listed) {
		return answer{}, nil
	}
	p, err := e.program()
	if err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	value, err := inputValue(in, listed, p.fields)
	if err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	return p.evaluate(ctx, ast.NewTerm(value))
}

// readReasons reads a rule's veto or note. If the value is not a set, the rule was not evaluated,
// and readReasons returns a reason. Otherwise that would be an allow.
func readReasons(rule string, term *ast.Term) []Reason {
	var set ast.Set
	if term != nil {
		set, _ = term.Value.(ast.Set)
	}
	if set == nil {
		return []Reason{{Rule: rule, Message: "rule failed: it gave no set of reasons"}}
	}
	var reasons []Reason
	set.Foreach(func(term *ast.Term) { reasons = append(reasons, readReason(rule, term)) })
	return reasons
}

const result = ast.Var("result")
