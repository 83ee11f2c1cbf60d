package policytest

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/version"

	"github.com/stopguard/stopguard/internal/regotest"
)

// testFormat holds every Rego file against what opa fmt would make of it.
func (k *kit) testFormat(t *testing.T) {
	rules, tests := k.ruleFiles()
	for _, name := range slices.Concat(rules, tests) {
		content := k.files[name].Data
		formatted, err := format.SourceWithOpts(name, content, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Errorf("%s: cannot be formatted: %v; correct it", path.Join(k.policy, name), err)
			continue
		}
		if !bytes.Equal(formatted, content) {
			t.Errorf("%s:%d: is not as opa fmt writes it; run: go run github.com/open-policy-agent/opa@v%s fmt -w %s",
				path.Join(k.policy, name), firstDifference(formatted, content), version.Version, k.policy)
		}
	}
}

// firstDifference returns the number of the first line that differs, from 1.
func firstDifference(a, b []byte) int {
	first, second := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(first), len(second)) {
		if !bytes.Equal(first[i], second[i]) {
			return i + 1
		}
	}
	return min(len(first), len(second))
}

// testRego runs the policy's Rego tests, and then looks whether they would notice a rule that does
// nothing or too much. It gives the number of tests.
func (k *kit) testRego(t *testing.T) int {
	t.Helper()
	var results []*tester.Result
	passed := t.Run("rego", func(t *testing.T) {
		var err error
		if results, err = k.runTests(false, nil); err != nil {
			t.Fatalf("the tests cannot be compiled: %v; correct them", err)
		}
		if rules, _ := k.ruleFiles(); len(results) == 0 && len(rules) > 0 {
			t.Fatalf("%s: no Rego test ran; write rules named test_... into a file %s, in a package named like the rule's with _test",
				k.policy, strings.TrimSuffix(path.Join(k.policy, rules[0]), ".rego")+"_test.rego")
		}
		if slices.ContainsFunc(results, func(r *tester.Result) bool { return !r.Pass() && !r.Skip }) {
			if results, err = k.runTests(true, nil); err != nil { // says more, and is slower
				t.Fatal(err)
			}
		}
		for _, r := range results {
			t.Run(strings.TrimPrefix(r.Package, "data.")+"."+r.Name, func(t *testing.T) { report(t, r) })
		}
	})
	t.Run("rules", func(t *testing.T) {
		if !passed {
			t.Skip("the tests must pass first")
		}
		k.testEveryRuleIsTested(t)
	})
	return len(results)
}

// report reports the result of a Rego test.
func report(t *testing.T, r *tester.Result) {
	t.Helper()
	if r.Skip {
		t.Skip("is named todo_")
	}
	if len(r.Output) > 0 {
		t.Logf("%s", r.Output)
	}
	switch {
	case r.Error != nil:
		t.Errorf("%s: %s ends in an error: %v; correct the test or the rule", r.Location, r.Name, r.Error)
	case r.Fail:
		at := failedAt(r)
		t.Errorf("%s: %s fails, for this is not so: %s; correct the test or the rule", at, r.Name, firstLine(at.Text))
	}
	for names, sub := range r.SubResults.Iter {
		if sub.Fail {
			t.Errorf("%s: %s fails for %s; correct the test or the rule", r.Location, r.Name, names[len(names)-1])
		}
	}
}

// failedAt returns the last expression of the test itself that did not hold.
func failedAt(r *tester.Result) *ast.Location {
	for _, e := range slices.Backward(r.Trace) {
		if e.Op == topdown.FailOp && e.Location != nil && e.Location.File == r.Location.File {
			return e.Location
		}
	}
	return r.Location
}

func firstLine(text []byte) string {
	line, more, _ := strings.Cut(string(text), "\n")
	if more != "" {
		line += " ..."
	}
	return line
}

// runTests runs all Rego tests of the policy and gives the results, sorted by place. change, if it
// is there, may alter the modules first.
func (k *kit) runTests(trace bool, change func(map[string]*ast.Module)) ([]*tester.Result, error) {
	tested, err := k.tested()
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(tested.Modules)
	}
	return tested.Run(context.Background(), 0, trace)
}

// tested parses the policy with its tests. That its data files do not contradict each other was
// checked when it was loaded.
func (k *kit) tested() (*regotest.Policy, error) {
	tested, err := regotest.New()
	if err != nil {
		return nil, err
	}
	rules, tests := k.ruleFiles()
	for _, name := range slices.Concat(rules, tests) {
		if err := tested.AddModule(path.Join(k.policy, name), k.files[name].Data); err != nil {
			return nil, err
		}
	}
	for _, name := range k.names() {
		if base := path.Base(name); base != "data.json" && base != "data.yaml" {
			continue
		}
		if err := tested.AddData(name, k.files[name].Data); err != nil {
			return nil, fmt.Errorf("%s/%w", k.policy, err)
		}
	}
	return tested, nil
}

// testEveryRuleIsTested replaces each rule by one that never vetoes, and by one that vetoes where
// it did not before. A test that has seen the rule veto fails with the former, and one that has
// seen it let pass with the latter. So it does not matter how tests are written, only that they
// look.
func (k *kit) testEveryRuleIsTested(t *testing.T) {
	files, _ := k.ruleFiles()
	tested, err := k.tested()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		file = path.Join(k.policy, file)
		name, isRule := strings.CutPrefix(tested.Modules[file].Package.Path.String(), "data.stopguard.rules.")
		if !isRule {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if k.allPass(t, file, "veto contains reason if {\n\tsome reason in policytest_veto\n\treason != reason\n}") {
				t.Errorf("%s: no test has rule %s veto; write one with a domain that it protects: %s.veto == {\"...\"} with input as ...", file, name, name)
			}
			if k.allPass(t, file, "veto contains reason if some reason in policytest_veto\n\nveto contains \"rule vetoes too much\" if count(policytest_veto) == 0") {
				t.Errorf("%s: no test has rule %s let a domain pass; write one with a domain that may be stopped: %s.veto == set() with input as ...", file, name, name)
			}
		})
	}
}

// allPass reports whether all tests pass if the veto of the rule in file is replaced. In the
// replacement the original is called policytest_veto.
func (k *kit) allPass(t *testing.T, file, replacement string) bool {
	t.Helper()
	results, err := k.runTests(false, func(modules map[string]*ast.Module) {
		module := modules[file]
		for _, rule := range module.Rules {
			if rule.Head.Name == "veto" {
				rule.Head.Name = "policytest_veto"
				rule.Head.SetRef(ast.Ref{ast.VarTerm("policytest_veto")})
			}
		}
		more := ast.MustParseModule(fmt.Sprintf("%s\n\n%s\n", module.Package, replacement))
		for _, rule := range more.Rules {
			rule.Module = module
			module.Rules = append(module.Rules, rule)
		}
	})
	if err != nil {
		t.Fatalf("%s: the rule cannot be replaced to see whether a test notices: %v", file, err)
	}
	return !slices.ContainsFunc(results, func(r *tester.Result) bool { return !r.Pass() && !r.Skip })
}
