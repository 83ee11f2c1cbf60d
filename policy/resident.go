package policy

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A hook makes an engine for one decision; an agent, a gate or an audit make one for many. From the second decision on, an
// engine leaves out rules that have nothing to say, and remembers what does not depend on the input; see guard.go and
// memo.go. It decides the same.
type resident struct {
	decisions atomic.Int64
	once      sync.Once
	err       error
	places    inputPlaces
	rules     []residentRule // in the order of Engine.rules
	pure      *pureCalls
	memos     chan *memo // those that nobody uses
}

type residentRule struct {
	guard      guard
	veto, note ast.Body // note is nil if the rule has none
}

// again says whether there was a decision before.
func (r *resident) again() bool { return r.decisions.Add(1) > 1 }

// prepare finds out, once, all that can be known before an input is.
func (e *Engine) prepare(ctx context.Context) error {
	r := e.resident
	r.once.Do(func() {
		r.places.numbers = map[string]int{}
		for _, rule := range e.rules {
			var q residentRule
			var clauses []*ast.Rule
			for set, query := range map[string]*ast.Body{"veto": &q.veto, "note": &q.note} {
				ref := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("stopguard"), ast.StringTerm("rules"), ast.StringTerm(rule), ast.StringTerm(set)}
				ofSet := e.compiler.GetRulesExact(ref)
				if len(ofSet) == 0 {
					continue
				}
				clauses = append(clauses, ofSet...)
				if *query, r.err = e.compileQuery("rules", rule, set); r.err != nil {
					return
				}
			}
			q.guard = guardOf(clauses, &r.places)
			r.rules = append(r.rules, q)
		}
		settings, err := storage.ReadOne(ctx, e.store, storage.Path{"site"})
		if err != nil {
			r.err = err
			return
		}
		r.pure = pureCallsOf(e.compiler, settings.(ast.Value))
		r.memos = make(chan *memo, runtime.GOMAXPROCS(0))
	})
	return r.err
}

// askAgain asks the rules one by one, those that may have something to say.
func (e *Engine) askAgain(ctx context.Context, input *ast.Term) (answer, error) {
	if err := e.prepare(ctx); err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	defer e.store.Abort(ctx, txn)
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	r := e.resident
	m := r.memo()
	m.begin()
	run := func(query ast.Body) (ast.Value, error) {
		return oneValue(ctx, query, topdown.NewQuery(query).
			WithCompiler(e.compiler).
			WithStore(e.store).
			WithTransaction(txn).
			WithInput(input).
			WithCancel(cancel).
			WithMetrics(metrics.NoOp()).
			WithVirtualCache(m).
			WithStrictBuiltinErrors(true))
	}
	var a answer
	values := r.places.values(input.Value)
	for i, rule := range e.rules {
		q := &r.rules[i]
		if !q.guard.opens(values) {
			continue
		}
		veto, err := run(q.veto)
		var note ast.Value
		if err == nil && q.note != nil {
			note, err = run(q.note)
		}
		switch {
		case ctx.Err() != nil:
			return answer{}, tooLong(ctx)
		case err != nil:
			r.put(m)
			return e.evaluateEach(ctx, input)
		}
		a.reasons = append(a.reasons, readReasons(rule, veto)...)
		if note != nil {
			a.notes = append(a.notes, readReasons(rule, note)...)
		}
	}
	m.keep()
	r.put(m)
	return a, nil
}

func (r *resident) memo() *memo {
	select {
	case m := <-r.memos:
		return m
	default:
		return newMemo(r.pure)
	}
}

func (r *resident) put(m *memo) {
	select {
	case r.memos <- m:
	default:
	}
}
