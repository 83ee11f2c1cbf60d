package sitetest

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/stopguard/stopguard/internal/regotest"
	"github.com/stopguard/stopguard/policy"
)

// testFormat compares every Rego file with the output of opa fmt.
func (k *kit) testFormat() Result {
	r := Result{Name: []string{"format"}}
	rules, tests := k.ruleFiles()
	for _, name := range slices.Concat(rules, tests) {
		content, file := k.files[name].Data, path.Join(k.Policy, name)
		formatted, err := format.SourceWithOpts(name, content, format.Opts{RegoVersion: ast.RegoV1})
		switch {
		case err != nil:
			r.Problems = append(r.Problems, fmt.Sprintf("%s: cannot be formatted: %v; correct it", file, err))
		case bytes.Equal(formatted, content):
		case k.Format:
			if err := os.WriteFile(file, formatted, 0o644); err != nil {
				r.Problems = append(r.Problems, fmt.Sprintf("%v; make it writable", err))
				continue
			}
			r.Notes = append(r.Notes, file+": is formatted anew")
		default:
			r.Problems = append(r.Problems, fmt.Sprintf("%s:%d: is not as opa fmt writes it; %s", file, firstDifference(formatted, content), k.Cures.Format))
		}
	}
	return r
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

// testRego runs the policy's Rego tests and checks their inputs. It also checks whether they would
// notice a rule that never vetoes, or vetoes too much.
func (k *kit) testRego(engine *policy.Engine) []Result {
	whole := Result{Name: []string{"rego"}}
	ran, err := k.runTests(false, nil)
	if err != nil {
		whole.Problems = []string{fmt.Sprintf("the tests cannot be compiled: %v; correct them", err)}
		return []Result{whole}
	}
	rules, _ := k.ruleFiles()
	if len(ran) == 0 && len(rules) > 0 {
		whole.Problems = []string{fmt.Sprintf("%s: no Rego test ran; write rules named test_... into a file %s, in a package named like the rule's with _test",
			k.Policy, strings.TrimSuffix(path.Join(k.Policy, rules[0]), ".rego")+"_test.rego")}
		return []Result{whole}
	}
	passed := !slices.ContainsFunc(ran, hasFailed)
	failures := map[string]*failed{}
	if !passed {
		if failures, err = k.explainFailures(); err != nil {
			whole.Problems = []string{err.Error()}
			return []Result{whole}
		}
	}
	results := []Result{whole}
	for _, test := range ran {
		results = append(results, testResult(test, failures[testName(test)]))
	}
	if !passed {
		return append(results, Result{Name: []string{"rules"}, Skipped: "the tests must pass first"})
	}
	if err := k.checkInputs(engine, results); err != nil {
		results[0].Problems = []string{err.Error()}
	}
	return append(results, k.testEveryRuleIsTested()...)
}

func hasFailed(r *tester.Result) bool { return !r.Pass() && !r.Skip }

// testName returns the name of a test in results.
func testName(r *tester.Result) string { return strings.TrimPrefix(r.Package, "data.") + "." + r.Name }

// testResult returns the result of a Rego test.
func testResult(test *tester.Result, at *failed) Result {
	r := Result{Name: []string{"rego", testName(test)}}
	if test.Skip {
		r.Skipped = "is named todo_"
		return r
	}
	if len(test.Output) > 0 {
		r.Notes = []string{strings.TrimSuffix(string(test.Output), "\n")}
	}
	switch {
	case test.Error != nil:
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %s ends in an error: %v; correct the test or the rule", test.Location, test.Name, test.Error))
	case test.Fail && at != nil:
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %s fails, for this is not so: %s%s; correct the test or the rule", at.location, test.Name, firstLine(at.location.Text), at.valuesText()))
	case test.Fail:
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %s fails; correct the test or the rule", test.Location, test.Name))
	}
	for names, sub := range test.SubResults.Iter {
		if sub.Fail {
			r.Problems = append(r.Problems, fmt.Sprintf("%s: %s fails for %s; correct the test or the rule", test.Location, test.Name, names[len(names)-1]))
		}
	}
	return r
}

// runTests runs all Rego tests of the policy and returns the results, sorted by location. change,
// if it is not nil, may alter the modules first.
func (k *kit) runTests(trace bool, change func(map[string]*ast.Module)) ([]*tester.Result, error) {
	tested, err := k.parsePolicy()
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(tested.Modules)
	}
	return tested.Run(k.ctx, 0, trace)
}

// parsePolicy parses the policy with its tests. Loading the policy has checked that its data files
// do not contradict each other.
func (k *kit) parsePolicy() (*regotest.Policy, error) {
	tested, err := regotest.New()
	if err != nil {
		return nil, err
	}
	rules, tests := k.ruleFiles()
	for _, name := range slices.Concat(rules, tests) {
		if err := tested.AddModule(path.Join(k.Policy, name), k.files[name].Data); err != nil {
			return nil, err
		}
	}
	for _, name := range k.names() {
		if base := path.Base(name); base != "data.json" && base != "data.yaml" {
			continue
		}
		if err := tested.AddData(name, k.files[name].Data); err != nil {
			return nil, fmt.Errorf("%s/%w", k.Policy, err)
		}
	}
	return tested, nil
}

// testEveryRuleIsTested replaces each rule by one that never vetoes, and by one that vetoes where
// the rule does not. With the first, a test that sees the rule veto must fail. With the second, a
// test that sees the rule let a domain pass must fail. So the form of the tests does not matter.
func (k *kit) testEveryRuleIsTested() []Result {
	results := []Result{{Name: []string{"rules"}}}
	rules, err := k.rules()
	if err != nil {
		results[0].Problems = []string{err.Error()}
	}
	for _, rule := range rules {
		r := Result{Name: []string{"rules", rule.name}}
		for _, mutation := range []struct{ replacement, problem string }{
			{"veto contains reason if {\n\tsome reason in policytest_veto\n\treason != reason\n}",
				"%s: no test has rule %s veto; write one with a domain that it protects: %[2]s.veto == {\"...\"} with input as ..."},
			{"veto contains reason if some reason in policytest_veto\n\nveto contains \"rule vetoes too much\" if count(policytest_veto) == 0",
				"%s: no test has rule %s let a domain pass; write one with a domain that may be stopped: %[2]s.veto == set() with input as ..."},
		} {
			ran, err := k.runTests(false, func(modules map[string]*ast.Module) { replaceVeto(modules[rule.file], mutation.replacement) })
			switch {
			case err != nil:
				r.Problems = append(r.Problems, fmt.Sprintf("%s: the rule cannot be replaced to see whether a test notices: %v", rule.file, err))
			case !slices.ContainsFunc(ran, hasFailed):
				r.Problems = append(r.Problems, fmt.Sprintf(mutation.problem, rule.file, rule.name))
			}
		}
		results = append(results, r)
	}
	return results
}

// A rule is a rule of the policy.
type rule struct{ name, file string }

// rules returns the policy's rules.
func (k *kit) rules() ([]rule, error) {
	tested, err := k.parsePolicy()
	if err != nil {
		return nil, err
	}
	var rules []rule
	files, _ := k.ruleFiles()
	for _, file := range files {
		file = path.Join(k.Policy, file)
		if name, ok := strings.CutPrefix(tested.Modules[file].Package.Path.String(), "data.stopguard.rules."); ok {
			rules = append(rules, rule{name, file})
		}
	}
	return rules, nil
}

// replaceVeto replaces the veto of a rule. In the replacement the original is named
// policytest_veto.
func replaceVeto(module *ast.Module, replacement string) {
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
}
