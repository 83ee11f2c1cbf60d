package policy

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
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
	failing   sync.Map   // places of rules that have failed before: they are asked alone
}

type residentRule struct {
	guard guard
	sets  []residentSet
}

// A residentSet is a rule's veto or note.
type residentSet struct {
	name  string
	value ast.Var   // of it, in the query
	query *ast.Expr // what gives the value
}

// again says whether there was a decision before.
func (r *resident) again() bool { return r.decisions.Add(1) > 1 }

// prepare finds out, once, all that can be known before an input is. It may end later than ctx: decisions run in goroutines
// that nobody waits for then.
func (e *Engine) prepare(ctx context.Context) error {
	r := e.resident
	r.once.Do(func() {
		// Whoever asks first may have less time than this needs, or leave; what is not known then never will be.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), decideLimit)
		defer cancel()
		settings, err := storage.ReadOne(ctx, e.store, storage.Path{"site"})
		if err != nil {
			r.err = err
			return
		}
		r.pure = pureCallsOf(e.compiler, settings.(ast.Value))
		r.pure.evaluate = func(t *ast.Term) *ast.Term {
			body, err := e.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), t)))
			if err != nil {
				return nil
			}
			value, err := e.query(ctx, body, ast.InternedEmptyObject)
			if err != nil {
				return nil // then asking says what is wrong
			}
			return ast.NewTerm(value)
		}
		r.memos = make(chan *memo, runtime.GOMAXPROCS(0))
		r.places.numbers = map[string]int{}
		for i, rule := range e.rules {
			var q residentRule
			var clauses []*ast.Rule
			for _, set := range []string{"veto", "note"} {
				ref := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("stopguard"), ast.StringTerm("rules"), ast.StringTerm(rule), ast.StringTerm(set)}
				ofSet := e.compiler.GetRulesExact(ref)
				if len(ofSet) == 0 {
					continue
				}
				clauses = append(clauses, ofSet...)
				value := ast.Var(fmt.Sprintf("%s%d", set, i))
				q.sets = append(q.sets, residentSet{set, value, ast.Equality.Expr(ast.NewTerm(value), ast.NewTerm(ref))})
			}
			q.guard = guardOf(clauses, &r.places, r.pure)
			r.rules = append(r.rules, q)
		}
	})
	return r.err
}

// askAgain asks, in one query, all rules that may have something to say, and one by one if any of them fails. Which did is
// remembered, for it may fail each time. quiet says of a rule that it has nothing to say; nil says nothing.
func (e *Engine) askAgain(ctx context.Context, input *ast.Term, quiet func(rule string) bool) (answer, error) {
	if err := e.prepare(ctx); err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	r := e.resident
	var together, alone []int
	values := r.places.values(input.Value)
	m := r.memo()
	m.begin(subjectOf(input.Value))
	for i, rule := range e.rules {
		if quiet != nil && quiet(rule) || !r.rules[i].guard.opens(values, m) {
			continue
		}
		if _, failed := r.failing.Load(i); failed {
			alone = append(alone, i)
		} else {
			together = append(together, i)
		}
	}
	var a answer
	found, err := e.queryAgain(ctx, together, input, m)
	if err == nil {
		m.keep()
		r.read(&a, together, e.rules, found)
	} else {
		alone = append(alone, together...)
	}
	r.put(m)
	if ctx.Err() != nil {
		return answer{}, tooLong(ctx)
	}
	failed := err != nil
	for _, i := range alone {
		if found, err := e.queryAgain(ctx, []int{i}, input, nil); err == nil {
			r.read(&a, []int{i}, e.rules, found)
			continue
		}
		failed = true
		each, err := e.evaluateEach(ctx, input, e.rules[i:i+1])
		if err != nil {
			return answer{}, err
		}
		a.reasons = append(a.reasons, each.reasons...)
		r.failing.Store(i, true)
	}
	if failed {
		a.notes = nil // as evaluateEach has it
	}
	return a, nil
}

// read adds what was found of rules.
func (r *resident) read(a *answer, places []int, names []string, found topdown.QueryResult) {
	for _, i := range places {
		for _, set := range r.rules[i].sets {
			reasons := readReasons(names[i], valueOf(found[set.value]))
			if set.name == "veto" {
				a.reasons = append(a.reasons, reasons...)
			} else {
				a.notes = append(a.notes, reasons...)
			}
		}
	}
}

func valueOf(t *ast.Term) ast.Value {
	if t == nil {
		return nil
	}
	return t.Value
}

// queryAgain evaluates the sets of the rules at some places, in one query; with a memo, by what it remembers.
func (e *Engine) queryAgain(ctx context.Context, places []int, input *ast.Term, m *memo) (topdown.QueryResult, error) {
	var query ast.Body
	for _, i := range places {
		for _, set := range e.resident.rules[i].sets {
			expr := *set.query
			expr.Index = len(query)
			query = append(query, &expr)
		}
	}
	if len(query) == 0 {
		return nil, nil
	}
	results, err := e.run(ctx, query, input, m)
	switch {
	case err != nil:
		return nil, err
	case len(results) != 1:
		return nil, fmt.Errorf("%d values, not one", len(results))
	}
	return results[0], nil
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
