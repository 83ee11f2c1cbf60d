package rego_test

import (
	"context"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"

	_ "github.com/stopguard/stopguard/policy" // the built-ins
)

// A query evaluates the library for an input. A failing built-in is an error, as in the engine.
type query struct{ prepared oparego.PreparedEvalQuery }

func newQuery(t testing.TB, text string) query {
	t.Helper()
	modules := library(t)
	for name := range modules {
		if strings.HasSuffix(name, "_test.rego") {
			delete(modules, name)
		}
	}
	compiler := ast.NewCompiler().WithStrict(true)
	if compiler.Compile(modules); compiler.Failed() {
		t.Fatal(compiler.Errors)
	}
	prepared, err := oparego.New(oparego.Query(text), oparego.Compiler(compiler), oparego.StrictBuiltinErrors(true)).
		PrepareForEval(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return query{prepared}
}

// ask returns the value of the query's only expression.
func (q query) ask(t testing.TB, input any) (any, error) {
	t.Helper()
	results, err := q.prepared.Eval(context.Background(), oparego.EvalInput(input))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		t.Fatalf("%v has no single value: %v", input, results)
	}
	return results[0].Expressions[0].Value, nil
}

// The engine asks a rule in the same way, with the settings below data.site.
const (
	askCalendar = `data.stopguard.rules.calendar.veto with input as input.request with data.site.calendar as input.settings`
	askMatch    = `{i | some i, case in input; data.stopguard.match.one_of([case.entry], case.name, "d19e7151-4c02-4aa7-a443-59213be70aba")}`
	askSchema   = `json.match_schema(input.settings, input.schema)`
)
