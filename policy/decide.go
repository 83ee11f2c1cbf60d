package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// decideLimit bounds a decision whose context has no deadline of its own, or a later one.
const decideLimit = 2 * time.Second

// Decide asks every rule about in. A rule that fails while it is evaluated vetoes in its own name. An error means that no
// decision could be made, and comes with the zero Decision, which refuses. It is a [*MissingInputError] if a rule reads a
// field that in does not have.
//
// Decide returns when ctx is done, and after 2 s at most, even if a rule still runs: an evaluation can be cancelled
// between two expressions but not inside a built-in function. What cannot be cancelled goes on in a goroutine until it
// ends, or until the process does.
func (e *Engine) Decide(ctx context.Context, in Input) (Decision, error) {
	if in.Domain == nil {
		return Decision{}, errors.New("policy: the input has no domain; parse its XML first")
	}
	if err := checkOperation(in.Operation); err != nil {
		return Decision{}, fmt.Errorf("policy: %w", err)
	}
	if err := e.checkInput(in); err != nil {
		return Decision{}, err
	}
	ruleCtx, cancel := withRuleTime(ctx)
	defer cancel()
	goReasons := e.startGoRules(ruleCtx, in)
	a, err := within(ctx, func(ctx context.Context) (answer, error) { return e.evaluate(ctx, in) })
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

// within asks in a goroutine of its own: an evaluation can be cancelled between two expressions but not inside a built-in
// function, and may panic.
func within(ctx context.Context, ask func(context.Context) (answer, error)) (answer, error) {
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
		r.answer, r.err = ask(ctx)
	}()
	select {
	case <-ctx.Done():
		return answer{}, tooLong(ctx)
	case r := <-done:
		return r.answer, r.err
	}
}

func panicked(p any) error {
	return fmt.Errorf("policy: the evaluation panicked: %s; report this", oneLine(fmt.Sprint(p)))
}

// grow makes room on the stack for an evaluation at once: it goes deep, and a stack that grows by doubling is copied each
// time, which took a fifth of a decision.
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

// An answer is what the rules say: all reasons, enforced or not, and notes.
type answer struct{ reasons, notes []Reason }

// weigh tells the reasons that refuse from those that are only reported.
func (e *Engine) weigh(in Input, a answer) Decision {
	d := Decision{Outcome: Allow, Revision: e.revision, Notes: sortReasons(a.notes)}
	switch {
	case in.ShuttingDown:
		d.Unenforced = ShuttingDown
	case e.settings.cluster != nil && len(e.settings.cluster.Match(in.Domain.Name, in.Domain.UUID)) > 0:
		d.Unenforced = ClusterManaged
	}
	for _, r := range sortReasons(a.reasons) {
		if d.Unenforced != "" || e.settings.monitorAll || slices.Contains(e.settings.monitored, r.Rule) {
			d.Monitored = append(d.Monitored, r)
			continue
		}
		d.Reasons = append(d.Reasons, r)
		d.Outcome = Veto
	}
	return d
}

// evaluate asks all rules at once, and one by one if any of them fails.
func (e *Engine) evaluate(ctx context.Context, in Input) (answer, error) {
	listed := e.list.Match(in.Domain.Name, in.Domain.UUID)
	e, err := e.asked(in.Domain, listed)
	if err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	if e == nil {
		return answer{}, nil
	}
	document, err := documentAt(in, listed, e.places())
	if err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	return e.ask(ctx, ast.NewTerm(document), quietAbout(in.Domain, listed))
}

// ask is evaluate with a document that is made already. quiet says of a rule that it has nothing to say; nil says nothing.
func (e *Engine) ask(ctx context.Context, input *ast.Term, quiet func(rule string) bool) (answer, error) {
	if e.resident.again() {
		return e.askAgain(ctx, input, quiet)
	}
	return e.askOnce(ctx, input)
}

// askOnce is ask without anything that only pays if there is a next time.
func (e *Engine) askOnce(ctx context.Context, input *ast.Term) (answer, error) {
	decision, err := e.query(ctx, e.decision, input)
	if ctx.Err() != nil {
		return answer{}, tooLong(ctx) // asked one by one, the first rule would be blamed for the time of another
	}
	if err != nil {
		return e.evaluateEach(ctx, input, e.rules)
	}
	vetoes, notes := memberAt(decision, "vetoes"), memberAt(decision, "notes")
	var a answer
	for _, rule := range e.rules {
		a.reasons = append(a.reasons, readReasons(rule, memberAt(vetoes, rule))...)
		if set := memberAt(notes, rule); set != nil {
			a.notes = append(a.notes, readReasons(rule, set)...)
		}
	}
	return a, nil
}

// evaluateEach asks rules one by one, so that one that fails does not silence the others. Notes are not worth it.
func (e *Engine) evaluateEach(ctx context.Context, input *ast.Term, rules []string) (answer, error) {
	var a answer
	for _, rule := range rules {
		set, err := e.veto(ctx, rule, input)
		switch {
		case topdown.IsCancel(err) || ctx.Err() != nil:
			return answer{}, fmt.Errorf("policy: rule %s took too long; make it simpler", rule)
		case err != nil:
			a.reasons = append(a.reasons, Reason{Rule: rule, Message: "rule failed: " + evalError(err)})
		default:
			a.reasons = append(a.reasons, readReasons(rule, set)...)
		}
	}
	return a, nil
}

func (e *Engine) veto(ctx context.Context, rule string, input *ast.Term) (ast.Value, error) {
	query, err := e.compileQuery("rules", rule, "veto")
	if err != nil {
		return nil, err
	}
	return e.query(ctx, query, input)
}

// readReasons reads a rule's veto. A rule that has none was not asked, which must not pass for an allow.
func readReasons(rule string, value ast.Value) []Reason {
	set, ok := value.(ast.Set)
	if !ok {
		return []Reason{{Rule: rule, Message: "rule failed: it gave no set of reasons"}}
	}
	var reasons []Reason
	set.Foreach(func(term *ast.Term) { reasons = append(reasons, readReason(rule, term)) })
	return reasons
}

const result = ast.Var("result")

// compileQuery makes the query for what stands at a path below data.stopguard.
func (e *Engine) compileQuery(path ...string) (ast.Body, error) {
	ref := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("stopguard")}
	for _, part := range path {
		ref = append(ref, ast.StringTerm(part))
	}
	return e.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(ref))))
}

// run evaluates a query; with a memo, by what it remembers.
func (e *Engine) run(ctx context.Context, body ast.Body, input *ast.Term, m *memo) (topdown.QueryResultSet, error) {
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer e.store.Abort(ctx, txn)
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	query := topdown.NewQuery(body).
		WithCompiler(e.compiler).
		WithStore(e.store).
		WithTransaction(txn).
		WithInput(input).
		WithCancel(cancel).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true)
	if m != nil {
		query = query.WithVirtualCache(m)
	}
	return query.Run(ctx)
}

// query evaluates a query of compileQuery. It has exactly one value, or there is an error.
func (e *Engine) query(ctx context.Context, body ast.Body, input *ast.Term) (ast.Value, error) {
	results, err := e.run(ctx, body, input, nil)
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || results[0][result] == nil {
		return nil, fmt.Errorf("%s has %d values, not one", body, len(results))
	}
	return results[0][result].Value, nil
}

// evalError makes one line of an evaluation's error, with its place.
func evalError(err error) string {
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		return fmt.Sprintf("%s: %s", e.Location, oneLine(e.Message))
	}
	return oneLine(err.Error())
}
