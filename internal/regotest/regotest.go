// Package regotest runs the Rego tests of a policy, for the policy's kit, the agent and the tool
// alike. The tests see the rule library, the policy's own rules and data, and exactly the built-in
// functions that rules may call.
package regotest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/rego"
)

// A Policy is a policy with its tests, and the rule library without the library's own tests.
type Policy struct {
	Modules map[string]*ast.Module // by file name
	Data    map[string]any
}

// New returns a policy of the rule library alone.
func New() (*Policy, error) {
	p := &Policy{Modules: map[string]*ast.Module{}, Data: map[string]any{"site": map[string]any{}}}
	err := fs.WalkDir(rego.FS, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".rego") || strings.HasSuffix(file, "_test.rego") {
			return err
		}
		content, err := fs.ReadFile(rego.FS, file)
		if err != nil {
			return err
		}
		return p.AddModule(path.Join("rego", file), content)
	})
	return p, err
}

// AddModule parses a file with rules or tests and adds it.
func (p *Policy) AddModule(name string, content []byte) error {
	module, err := ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{
		ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: capabilities(),
	})
	if module != nil {
		p.Modules[name] = module
	}
	return err
}

// AddData adds a data file, data.json or data.yaml. Its folder in the policy is the path of its
// content in data.
func (p *Policy) AddData(file string, content []byte) error {
	var value any
	if err := util.Unmarshal(content, &value); err != nil {
		return fmt.Errorf("%s: %s; correct it", file, problem.OneLine(err.Error()))
	}
	if value == nil {
		return nil // nothing but comments
	}
	if folder := path.Dir(file); folder != "." {
		for _, part := range slices.Backward(strings.Split(folder, "/")) {
			value = map[string]any{part: value}
		}
	}
	top, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%s holds no object; correct it", file)
	}
	merge(p.Data, top)
	return nil
}

func merge(to, from map[string]any) {
	for key, value := range from {
		a, isObject := to[key].(map[string]any)
		b, alsoObject := value.(map[string]any)
		if isObject && alsoObject {
			merge(a, b)
		} else {
			to[key] = value
		}
	}
}

// Run runs all tests and returns their results, sorted by location. If trace is set, the results
// have the expressions that failed, and the run takes longer. A timeout of 0 means OPA's default.
func (p *Policy) Run(ctx context.Context, timeout time.Duration, trace bool) ([]*tester.Result, error) {
	runner := tester.NewRunner().
		SetCompiler(ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(true)).
		SetStore(inmem.NewFromObject(p.Data)).
		SetModules(p.Modules).
		RaiseBuiltinErrors(true). // as in decisions
		CapturePrintOutput(true).
		EnableTracing(trace)
	if timeout > 0 {
		runner.SetTimeout(timeout)
	}
	channel, err := runner.RunTests(ctx, nil)
	if err != nil {
		return nil, err
	}
	var results []*tester.Result
	for r := range channel {
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b *tester.Result) int { return a.Location.Compare(b.Location) })
	return results, nil
}

// capabilities are the engine's, and the functions that the runner itself needs.
var capabilities = sync.OnceValue(func() *ast.Capabilities {
	c, err := ast.LoadCapabilitiesJSON(bytes.NewReader(policy.Capabilities()))
	if err != nil {
		panic(fmt.Sprintf("regotest: the engine's capabilities: %v", err)) // they are constant
	}
	if c.AllowNet == nil {
		c.AllowNet = []string{} // nil would mean any host
	}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if slices.Contains(runnersOwn, b.Name) && !slices.ContainsFunc(c.Builtins, func(have *ast.Builtin) bool { return have.Name == b.Name }) {
			c.Builtins = append(c.Builtins, b)
		}
	}
	return c
})

// runnersOwn are the functions that OPA's runner adds to tests, for several cases in one test and
// for print.
var runnersOwn = []string{"internal.test_case", "internal.print", "print"}
