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

// prepare finds out, once, all that can be known before an input is.
func (e *Engine) prepare(ctx context.Context) error {
	r := e.resident
	r.once.Do(func() {
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

// askAgain asks, in one query, all rules that may have something to say, and one by one if any of them fails. quiet says of
// a rule that it has nothing to say; nil says nothing.
func (e *Engine) askAgain(ctx context.Context, input *ast.Term, quiet func(rule string) bool) (answer, error) {
	if err := e.prepare(ctx); err != nil {
		return answer{}, fmt.Errorf("policy: %w", err)
	}
	r := e.resident
	var asked []int
	var query ast.Body
	values := r.places.values(input.Value)
	m := r.memo()
	m.begin(subjectOf(input.Value))
	for i, rule := range e.rules {
		if quiet != nil && quiet(rule) || !r.rules[i].guard.opens(values, m) {
			continue
		}
		asked = append(asked, i)
		for _, set := range r.rules[i].sets {
			expr := *set.query
			expr.Index = len(query)
			query = append(query, &expr)
		}
	}
	if len(asked) == 0 {
		r.put(m)
		return answer{}, nil
	}
	found, err := e.queryAgain(ctx, query, input, m)
	if err == nil {
		m.keep()
	}
	r.put(m)
	switch {
	case ctx.Err() != nil:
		return answer{}, tooLong(ctx)
	case err != nil:
		return e.evaluateEach(ctx, input)
	}
	var a answer
	for _, i := range asked {
		for _, set := range r.rules[i].sets {
			reasons := readReasons(e.rules[i], valueOf(found[set.value]))
			if set.name == "veto" {
				a.reasons = append(a.reasons, reasons...)
			} else {
				a.notes = append(a.notes, reasons...)
			}
		}
	}
	return a, nil
}

func valueOf(t *ast.Term) ast.Value {
	if t == nil {
		return nil
	}
	return t.Value
}

func (e *Engine) queryAgain(ctx context.Context, query ast.Body, input *ast.Term, m *memo) (topdown.QueryResult, error) {
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
