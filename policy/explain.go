package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// An Explanation is a decision together with the source of each reason, and with the values that
// the rules read.
type Explanation struct {
	Decision Decision

	// Rules are all loaded rules, also those with nothing against the operation: those in Rego
	// sorted by name, and then those in Go.
	Rules []ExplainedRule
}

// An ExplainedRule is the part of one rule in a decision.
type ExplainedRule struct {
	Name    string
	File    string // its source, as errors name it; "rego/NAME/NAME.rego" for a rule of the library; "" for a rule in Go
	Line    int    // the line of its package; 0 for a rule in Go
	Reasons []ExplainedReason
	Reads   []Read // the values that its vetoes, and all that they call, can read
}

// An ExplainedReason is a reason with the clause of the rule that gave it.
type ExplainedReason struct {
	Reason
	Enforced bool // whether it refuses the operation, or is only reported
	File     string
	Line     int    // of the clause; or of the package if no clause gave it, as when the rule failed
	Reads    []Read // the values that the clause, and all that it calls, can read
}

// A Read is a part of the input or the settings that a rule can read, with its value.
type Read struct {
	// Path is written as in a rule, cut at the first element that is not constant:
	// "input.domain.metadata" or "data.site.calendar.freezes".
	Path string

	// Value is the value as decoded from JSON: a string, a json.Number, a bool, []any or
	// map[string]any. It is nil if Withheld is set, or if the path does not exist.
	Value any

	// Withheld is set if the value is left out: input.xml contains secrets such as passwords.
	Withheld bool
}

// Explain decides as [Engine.Decide] does, with the same result, and returns the sources of the
// reasons. It evaluates every rule a second time and may take several times as long, so it is for
// people and not for a hook. Values of the input are returned as they are, and may hold text that a
// domain's owner wrote. An error means that no decision could be made.
func (e *Engine) Explain(ctx context.Context, in Input) (Explanation, error) {
	decision, err := e.Decide(ctx, in)
	if err != nil {
		return Explanation{}, err
	}
	p, err := e.program()
	if err != nil {
		return Explanation{}, err
	}
	in.Operation = operation.Expand(in.Operation)[0] // a former name: the sources for its first operation
	value, err := inputValue(in, e.list.Match(in.Domain.Name, in.Domain.UUID), p.fields)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Decision: decision}
	for _, name := range e.rules {
		rule := p.explainRule(ctx, name, value)
		sources := p.traceVeto(ctx, name, value)
		for _, r := range decision.Reasons {
			rule.add(ctx, p, r, true, sources, value)
		}
		for _, r := range decision.Monitored {
			rule.add(ctx, p, r, false, sources, value)
		}
		x.Rules = append(x.Rules, rule)
	}
	for _, name := range e.GoRules() {
		rule := ExplainedRule{Name: name}
		for _, r := range decision.Reasons {
			rule.add(ctx, p, r, true, nil, value)
		}
		for _, r := range decision.Monitored {
			rule.add(ctx, p, r, false, nil, value)
		}
		x.Rules = append(x.Rules, rule)
	}
	return x, ctx.Err()
}

// explainRule returns all of a rule but its reasons.
func (p *program) explainRule(ctx context.Context, name string, document ast.Value) ExplainedRule {
	rule := ExplainedRule{Name: name}
	clauses := p.compiler.GetRulesExact(setRef(name, "veto"))
	for _, clause := range clauses {
		rule.File, rule.Line = clause.Module.Package.Location.File, clause.Module.Package.Location.Row
	}
	rule.Reads = p.read(ctx, document, clauses...)
	return rule
}

// add adds a reason of the decision, if it is the rule's, with the clause that gave it.
func (x *ExplainedRule) add(ctx context.Context, p *program, r Reason, isEnforced bool, sources []reasonSource, document ast.Value) {
	if r.Rule != x.Name {
		return
	}
	reason := ExplainedReason{Reason: r, Enforced: isEnforced, File: x.File, Line: x.Line, Reads: x.Reads}
	if i := slices.IndexFunc(sources, func(s reasonSource) bool { return s.Message == r.Message && s.Until.Equal(r.Until) }); i >= 0 {
		clause := sources[i].clause
		reason.File, reason.Line = clause.Location.File, clause.Location.Row
		reason.Reads = p.read(ctx, document, clause)
	}
	x.Reasons = append(x.Reasons, reason)
}

// A reasonSource is a reason with the clause that gave it in a trace.
type reasonSource struct {
	Reason
	clause *ast.Rule
}

// traceVeto evaluates one rule and returns its reasons with their clauses. If the rule fails, it
// returns those up to the failure.
func (p *program) traceVeto(ctx context.Context, rule string, document ast.Value) []reasonSource {
	query := ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(setRef(rule, "veto"))))
	tracer := &vetoTracer{rule: rule}
	for _, input := range p.rule(rule).spelling.Inputs(document) {
		_, _ = p.run(ctx, query, ast.NewTerm(input), tracer)
	}
	slices.SortStableFunc(tracer.sources, func(a, b reasonSource) int { return cmp.Compare(a.clause.Location.Row, b.clause.Location.Row) })
	return tracer.sources
}

// A vetoTracer collects the reasons that each clause of a rule's veto adds to the set.
type vetoTracer struct {
	rule    string
	sources []reasonSource
}

func (*vetoTracer) Enabled() bool               { return true }
func (*vetoTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (v *vetoTracer) TraceEvent(event topdown.Event) {
	clause, ok := event.Node.(*ast.Rule)
	if event.Op != topdown.ExitOp || !ok || clause.Head.Key == nil || clause.Head.Name != "veto" {
		return
	}
	if rule, ok := module.RuleOf(clause.Module.Package.Path); !ok || rule != v.rule {
		return
	}
	v.sources = append(v.sources, reasonSource{readReason(v.rule, event.Plug(clause.Head.Key)), clause})
}

// read returns the values that clauses, and all rules and functions that they call, can read. A
// value that is part of another one is left out.
func (p *program) read(ctx context.Context, document ast.Value, clauses ...*ast.Rule) []Read {
	paths := p.paths(clauses)
	slices.SortFunc(paths, slices.Compare)
	var reads []Read
	var last []string
	for _, path := range paths {
		if last != nil && len(path) >= len(last) && slices.Equal(path[:len(last)], last) {
			continue // it is part of last
		}
		last = path
		reads = append(reads, p.value(ctx, document, path))
	}
	return reads
}

// paths returns the paths of the input and the settings that clauses, and all rules and functions
// that they call, mention.
func (p *program) paths(clauses []*ast.Rule) [][]string {
	var paths [][]string
	for _, clause := range p.reachedFrom(clauses) {
		ast.WalkRefs(clause, func(ref ast.Ref) bool {
			if path := append([]string{strings.Trim(ref[0].String(), `"`)}, regovalue.Path(ref[1:])...); path[0] == "input" || path[0] == "data" && len(path) > 1 && path[1] == "site" {
				paths = append(paths, path)
			}
			return false
		})
	}
	return paths
}

// reachedFrom returns clauses with all rules and functions that they call, directly or not.
func (p *program) reachedFrom(clauses []*ast.Rule) []*ast.Rule {
	seen := map[*ast.Rule]bool{}
	var reached []*ast.Rule
	for queue := slices.Clone(clauses); len(queue) > 0; queue = queue[1:] {
		clause := queue[0]
		if seen[clause] {
			continue
		}
		seen[clause] = true
		reached = append(reached, clause)
		for next := range p.compiler.Graph.Dependencies(clause) {
			if rule, ok := next.(*ast.Rule); ok {
				queue = append(queue, rule)
			}
		}
	}
	return reached
}

// value looks up a path of read.
func (p *program) value(ctx context.Context, document ast.Value, path []string) Read {
	r := Read{Path: strings.Join(path, ".")}
	var value ast.Value
	switch {
	case path[0] == "data":
		at, err := storage.ReadOne(ctx, p.store, storage.Path(path[1:]))
		if err != nil {
			return r
		}
		value, _ = at.(ast.Value)
	case len(path) == 1 || path[1] == "xml":
		r.Withheld = true
		return r
	default:
		value = document
		for _, key := range path[1:] {
			if value = regovalue.Member(value, key); value == nil {
				return r
			}
		}
	}
	if value != nil {
		r.Value, _ = ast.JSON(value)
	}
	return r
}
