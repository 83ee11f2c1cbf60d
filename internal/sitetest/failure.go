package sitetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A failed is the expression for which a test failed.
type failed struct {
	location *ast.Location
	values   []shownValue
}

// A shownValue is the value of a part of the expression.
type shownValue struct{ part, value string }

// explainFailures runs the tests again: with a trace to find the expressions that do not hold, and
// then with print for their values. It returns the expressions by the tests' names.
func (k *kit) explainFailures() (map[string]*failed, error) {
	traced, err := k.runTests(true, nil)
	if err != nil {
		return nil, err
	}
	failures := map[string]*failed{}
	for _, test := range traced {
		if test.Fail {
			failures[testName(test)] = &failed{location: failedAt(test)}
		}
	}
	shown, err := k.runTests(false, func(modules map[string]*ast.Module) {
		for _, f := range failures {
			printValues(modules[f.location.File], f.location)
		}
	})
	if err != nil {
		return failures, nil // without values
	}
	for _, test := range shown {
		if f := failures[testName(test)]; f != nil {
			f.values = valuesIn(string(test.Output), f.location)
		}
	}
	return failures, nil
}

// failedAt returns the location of the test's own last expression that did not hold.
func failedAt(r *tester.Result) *ast.Location {
	for _, e := range slices.Backward(r.Trace) {
		if e.Op == topdown.FailOp && e.Location != nil && e.Location.File == r.Location.File {
			return e.Location
		}
	}
	return r.Location
}

// valuePrefix begins the line with a value. Tests do not print it by themselves.
const valuePrefix = "stopguard shows the value of "

// printValues inserts, before an expression, expressions that print the values of its parts.
func printValues(module *ast.Module, at *ast.Location) {
	if module == nil {
		return
	}
	insert := func(body ast.Body) ast.Body {
		i := slices.IndexFunc(body, func(e *ast.Expr) bool {
			return e.Location != nil && e.Location.Row == at.Row && e.Location.Col == at.Col
		})
		if i < 0 {
			return body
		}
		var prints []*ast.Expr
		for _, part := range partsOf(body[i]) {
			// A comprehension has a value even if the part is undefined. print does not allow with.
			value, shown := ast.VarTerm("policytest_value"), ast.VarTerm(fmt.Sprintf("policytest_shown_%d", i+len(prints)))
			bind := ast.Equality.Expr(shown, ast.ArrayComprehensionTerm(value, ast.NewBody(ast.Equality.Expr(value.Copy(), part.term.Copy()))))
			for _, with := range body[i].With {
				bind.With = append(bind.With, with.Copy())
			}
			show := ast.NewExpr([]*ast.Term{
				ast.NewTerm(ast.Print.Ref()), ast.StringTerm(fmt.Sprintf("%s%d:%d %s:", valuePrefix, at.Row, at.Col, part.name)), shown.Copy(),
			})
			prints = append(prints, bind.SetLocation(body[i].Location), show.SetLocation(body[i].Location))
		}
		whole := slices.Insert(slices.Clone(body), i, prints...)
		for i, e := range whole {
			e.Index = i
		}
		return whole
	}
	for _, rule := range module.Rules {
		ast.WalkClosures(rule, func(closure any) bool {
			switch c := closure.(type) {
			case *ast.ArrayComprehension:
				c.Body = insert(c.Body)
			case *ast.SetComprehension:
				c.Body = insert(c.Body)
			case *ast.ObjectComprehension:
				c.Body = insert(c.Body)
			case *ast.Every:
				c.Body = insert(c.Body)
			}
			return false
		})
		rule.Body = insert(rule.Body)
	}
}

// A part is a part of an expression whose value is shown.
type part struct {
	name string
	term *ast.Term
}

// partsOf returns the two sides of a comparison, or otherwise the whole expression, without
// constants.
func partsOf(expr *ast.Expr) []part {
	var parts []part
	switch terms := expr.Terms.(type) {
	case *ast.Term:
		parts = []part{{"it", terms}}
	case []*ast.Term:
		if !slices.Contains([]string{"eq", "equal", "neq", "lt", "lte", "gt", "gte"}, expr.Operator().String()) || len(terms) != 3 {
			parts = []part{{"it", ast.CallTerm(terms...)}}
			break
		}
		parts = []part{{"the left side", terms[1]}, {"the right side", terms[2]}}
	}
	return slices.DeleteFunc(parts, func(p part) bool {
		constant := true
		ast.WalkTerms(p.term, func(t *ast.Term) bool {
			switch t.Value.(type) {
			case ast.Ref, ast.Var, ast.Call:
				constant = false
			}
			return !constant
		})
		return constant
	})
}

// valuesIn returns the values that a test has printed for an expression, without repeated ones.
func valuesIn(output string, at *ast.Location) []shownValue {
	var values []shownValue
	for line := range strings.Lines(output) {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), fmt.Sprintf("%s%d:%d ", valuePrefix, at.Row, at.Col))
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(rest, ": ")
		if value = strings.TrimSuffix(strings.TrimPrefix(value, "["), "]"); value == "" {
			value = "undefined"
		}
		if v := (shownValue{name, value}); !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}

// The limits of the values that are shown for an expression.
const (
	maxValue  = 2000 // bytes of a value
	maxValues = 4
)

// valuesText returns the values as a clause of a sentence, such as ", for the left side is {...}".
func (f *failed) valuesText() string {
	var texts []string
	for _, v := range f.values[:min(len(f.values), maxValues)] {
		if len(v.value) > maxValue {
			v.value = strings.ToValidUTF8(v.value[:maxValue], "") + "..."
		}
		texts = append(texts, v.part+" is "+v.value)
	}
	if len(texts) == 0 {
		return ""
	}
	return ", for " + strings.Join(texts, " and ")
}

func firstLine(text []byte) string {
	line, more, _ := strings.Cut(string(text), "\n")
	if more != "" {
		line += " ..."
	}
	return line
}
