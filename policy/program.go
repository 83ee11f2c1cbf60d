package policy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/spelling"
)

// A program is the compiled rules of an engine.
type program struct {
	compiler *ast.Compiler
	store    storage.Store
	rules    []*rule        // sorted by name
	fields   *document.Tree // the fields of the input that they can read
}

// A rule is a package that has a veto.
type rule struct {
	name       string
	veto       set
	note       *set // nil if the rule does not have a note
	conditions conditions
	spelling   spelling.Spelling
	reads      func() document.Reads // the paths of the input that it and all that it calls can read; computed by the first call

	// hasFailed says that the rule has failed before. It may fail each time, and is then evaluated
	// alone: otherwise one slip of a site with 500 rules would cost each decision 500 evaluations.
	hasFailed atomic.Bool
}

// A set is a rule's veto or note, and the expression that gives it a variable of its own in a
// query.
type set struct {
	value ast.Var
	expr  *ast.Expr
}

// newProgram returns the program of the rules with the given names.
func newProgram(c *ast.Compiler, store storage.Store, names []string) *program {
	p := &program{compiler: c, store: store, fields: document.ReadsOf(c).Tree()}
	for i, name := range names {
		r := &rule{name: name}
		clauses := p.clauses(name)
		r.veto = newSet(name, "veto", i)
		if len(c.GetRulesExact(setRef(name, "note"))) > 0 {
			note := newSet(name, "note", i)
			r.note = &note
		}
		r.conditions = conditionsOf(clauses)
		r.reads = sync.OnceValue(func() document.Reads { return p.readsOfRule(clauses) })
		p.rules = append(p.rules, r)
	}
	return p
}

// clauses returns those of a rule's veto and note.
func (p *program) clauses(name string) []*ast.Rule {
	return slices.Concat(p.compiler.GetRulesExact(setRef(name, "veto")), p.compiler.GetRulesExact(setRef(name, "note")))
}

// rule returns the rule with the given name, which is loaded.
func (p *program) rule(name string) *rule {
	return p.rules[slices.IndexFunc(p.rules, func(r *rule) bool { return r.name == name })]
}

func newSet(rule, name string, i int) set {
	value := ast.Var(fmt.Sprintf("%s%d", name, i))
	return set{value, ast.Equality.Expr(ast.NewTerm(value), ast.NewTerm(setRef(rule, name)))}
}

// setRef returns the reference to data.stopguard.rules.RULE.SET.
func setRef(rule, set string) ast.Ref {
	return ast.Ref{ast.DefaultRootDocument, ast.InternedTerm("stopguard"), ast.InternedTerm("rules"), ast.StringTerm(rule), ast.InternedTerm(set)}
}

// evaluate evaluates all rules. Those that know an operation by its former name have inputs of
// their own.
func (p *program) evaluate(ctx context.Context, input *ast.Term) (answer, error) {
	var present []*rule
	var a answer
	for _, r := range p.rules {
		if !r.spelling.Former {
			present = append(present, r)
			continue
		}
		for _, other := range r.spelling.Inputs(input.Value) {
			b, err := p.evaluateRules(ctx, ast.NewTerm(other), r)
			if err != nil {
				return answer{}, err
			}
			a = a.and(b)
		}
	}
	b, err := p.evaluateRules(ctx, input, present...)
	return a.and(b), err
}

// evaluateRules evaluates all rules that may have a reason or a note in one query. If one of them
// fails, it evaluates them one by one, and leaves out the notes. Otherwise a failing rule would
// silence the others.
func (p *program) evaluateRules(ctx context.Context, input *ast.Term, rules ...*rule) (answer, error) {
	var together, alone []*rule
	for _, r := range rules {
		switch {
		case !r.conditions.mayHold(input.Value):
		case r.hasFailed.Load():
			alone = append(alone, r)
		default:
			together = append(together, r)
		}
	}
	a, err := p.query(ctx, input, together...)
	if ctx.Err() != nil {
		return answer{}, tooLong(ctx) // one by one, the first rule would be blamed for the time of another
	}
	if err != nil {
		a, alone = answer{}, append(alone, together...)
	}
	failed := false
	for _, r := range alone {
		one, err := p.query(ctx, input, r)
		if err != nil && r.note != nil && ctx.Err() == nil {
			r.hasFailed.Store(true)
			failed = true
			one, err = p.query(ctx, input, &rule{name: r.name, veto: r.veto})
		}
		switch {
		case topdown.IsCancel(err) || ctx.Err() != nil:
			return answer{}, fmt.Errorf("policy: rule %s took too long; make it simpler", r.name)
		case err != nil:
			r.hasFailed.Store(true)
			failed = true
			a.reasons = append(a.reasons, Reason{Rule: r.name, Message: "rule failed: " + module.EvaluationError(err)})
		default:
			a.reasons, a.notes = append(a.reasons, one.reasons...), append(a.notes, one.notes...)
		}
	}
	if failed {
		a.notes = nil
	}
	return a, nil
}

// query evaluates rules in one query.
func (p *program) query(ctx context.Context, input *ast.Term, rules ...*rule) (answer, error) {
	var query ast.Body
	add := func(s *set) {
		expr := *s.expr
		expr.Index = len(query)
		query = append(query, &expr)
	}
	for _, r := range rules {
		add(&r.veto)
		if r.note != nil {
			add(r.note)
		}
	}
	var a answer
	if len(query) == 0 {
		return a, nil
	}
	results, err := p.run(ctx, query, input)
	if err != nil {
		return a, err
	}
	if len(results) != 1 {
		return a, fmt.Errorf("%d values, not one", len(results))
	}
	for _, r := range rules {
		a.reasons = append(a.reasons, readReasons(r.name, results[0][r.veto.value])...)
		if r.note != nil {
			a.notes = append(a.notes, readReasons(r.name, results[0][r.note.value])...)
		}
	}
	return a, nil
}

// run evaluates a query.
func (p *program) run(ctx context.Context, query ast.Body, input *ast.Term, tracers ...topdown.QueryTracer) (topdown.QueryResultSet, error) {
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer p.store.Abort(ctx, txn)
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	q := topdown.NewQuery(query).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(txn).
		WithInput(input).
		WithCancel(cancel).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true)
	for _, tracer := range tracers {
		q = q.WithQueryTracer(tracer)
	}
	return q.Run(ctx)
}

// newStore makes the store that evaluations read settings from. Nothing ever writes to it.
func newStore(site map[string]any) storage.Store {
	return inmem.NewFromObjectWithOpts(map[string]any{"site": site}, inmem.OptReturnASTValuesOnRead(true), inmem.OptRoundTripOnWrite(false))
}
