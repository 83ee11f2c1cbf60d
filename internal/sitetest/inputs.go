package sitetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
)

// A rule that reads a missing part of its input is undefined, which looks like a pass. On a host
// the input is always complete. So a test's input must have the form of the schema and every path
// that the rule reads.

// inputPrefix begins the line that a rule prints for its input. Tests do not print it by
// themselves.
const inputPrefix = "stopguard reads the input of rule "

// checkInputs adds the problems of the tests' inputs to their results.
func (k *kit) checkInputs(engine *policy.Engine, results []Result) error {
	rules, err := k.rules()
	if err != nil || len(rules) == 0 {
		return err
	}
	ran, err := k.runTests(false, func(modules map[string]*ast.Module) {
		for _, rule := range rules {
			replaceVeto(modules[rule.file], fmt.Sprintf("veto contains reason if {\n\tprint(%q, json.marshal(input))\n\tsome reason in policytest_veto\n}", inputPrefix+rule.name))
		}
	})
	if err != nil {
		return fmt.Errorf("the tests' inputs cannot be read: %w; report this", err)
	}
	reads, err := k.readsOf(engine)
	if err != nil {
		return err
	}
	for _, test := range ran {
		at := slices.IndexFunc(results, func(r Result) bool { return len(r.Name) > 1 && r.Name[1] == testName(test) })
		if test.Skip || at < 0 {
			continue
		}
		results[at].Problems = append(results[at].Problems, inputProblems(test, reads)...)
	}
	return nil
}

// readsOf returns the paths of the input that each rule reads.
func (k *kit) readsOf(engine *policy.Engine) (map[string][]string, error) {
	domain, err := domainxml.Parse([]byte("<domain type='kvm'><name>x</name><uuid>00000000-0000-4000-8000-000000000000</uuid></domain>"))
	if err != nil {
		return nil, err
	}
	x, err := engine.Explain(k.ctx, Input(domain, k.Time))
	if err != nil {
		return nil, fmt.Errorf("what the rules read cannot be found out: %w", err)
	}
	reads := map[string][]string{}
	for _, rule := range x.Rules {
		for _, read := range rule.Reads {
			if path, ok := strings.CutPrefix(read.Path, "input."); ok {
				reads[rule.Name] = append(reads[rule.Name], path)
			}
		}
	}
	return reads, nil
}

// inputProblems returns the problems of a test's inputs to rules, without repeated ones.
func inputProblems(test *tester.Result, reads map[string][]string) []string {
	var problems []string
	for line := range strings.Lines(string(test.Output)) {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), inputPrefix)
		if !ok {
			continue
		}
		rule, input, _ := strings.Cut(rest, " ")
		if defect := inputProblem(input, reads[rule]); defect != "" {
			problem := fmt.Sprintf("%s: %s asks rule %s %s", test.Location, test.Name, rule, defect)
			if !slices.Contains(problems, problem) {
				problems = append(problems, problem)
			}
		}
	}
	return problems
}

// inputProblem returns the problem of an input for a rule that reads these paths, or "".
func inputProblem(text string, reads []string) string {
	var input map[string]any
	if json.Unmarshal([]byte(text), &input) != nil {
		return "without an input, where every rule passes; write: with input as {\"operation\": \"stop\", \"domain\": {...}}"
	}
	if _, ok := input["version"]; !ok {
		input["version"] = 1
	}
	whole, err := json.Marshal(input)
	if err == nil {
		_, err = policy.ParseDocument(whole, nil)
	}
	if err != nil {
		return "with an input that no host has: " + strings.TrimPrefix(err.Error(), "policy: ")
	}
	var missing []string
	for _, path := range reads {
		if !holds(input, strings.Split(path, ".")) {
			missing = append(missing, "input."+path)
		}
	}
	if len(missing) > 0 {
		return fmt.Sprintf("with an input that lacks %s, which the rule reads; add it, as a host always has it", strings.Join(missing, ", "))
	}
	return ""
}

// holds reports whether an object has a value at the path.
func holds(object map[string]any, path []string) bool {
	value, ok := object[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	child, isObject := value.(map[string]any)
	return !isObject || holds(child, path[1:])
}
