package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/rego"
)

// testTime bounds the tests of one bundle.
const testTime = 20 * time.Second

// runTests runs the tests that a bundle ships, *_test.rego, as opa test would: with the bundle's own rules and data and the
// rule library, and not with the host's files. It gives their number. A bundle without tests has none to pass.
func runTests(ctx context.Context, site policy.Site) (int, error) {
	modules, data, tests, err := parseTests(site)
	if err != nil || tests == 0 {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	type outcome struct {
		ran int
		err error
	}
	done := make(chan outcome, 1)
	go func() { // a built-in function cannot be cancelled, and nobody shall wait for it
		defer func() {
			if p := recover(); p != nil {
				done <- outcome{0, fmt.Errorf("the tests of %s panicked: %v; correct them", site.Name, p)}
			}
		}()
		ran, err := runModules(ctx, site.Name, modules, data)
		done <- outcome{ran, err}
	}()
	select {
	case o := <-done:
		return o.ran, o.err
	case <-ctx.Done():
		return 0, fmt.Errorf("the tests of %s did not end within %v; make them simpler", site.Name, testTime)
	}
}

func runModules(ctx context.Context, name string, modules map[string]*ast.Module, data map[string]any) (int, error) {
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(false)
	results, err := tester.NewRunner().
		SetCompiler(compiler).
		SetStore(inmem.NewFromObject(data)).
		SetModules(modules).
		RaiseBuiltinErrors(true). // as when deciding
		SetTimeout(testTime).
		RunTests(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("the tests of %s cannot be compiled: %s; correct them", name, oneLine(err))
	}
	ran := 0
	var failed []string
	for r := range results {
		switch {
		case r.Skip:
		case r.Pass():
			ran++
		case r.Error != nil:
			failed = append(failed, fmt.Sprintf("%s (%s)", r.Name, oneLine(r.Error)))
		default:
			failed = append(failed, r.Name)
		}
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return 0, fmt.Errorf("%d of the %d tests of %s fail here: %s; correct the rules or the tests",
			len(failed), len(failed)+ran, name, strings.Join(failed, ", "))
	}
	if err := ctx.Err(); err != nil {
		return 0, errors.New("the tests were interrupted; they are run again at the next download")
	}
	return ran, nil
}

// parseTests parses the bundle with its tests, and the rule library without its own.
func parseTests(site policy.Site) (modules map[string]*ast.Module, data map[string]any, tests int, err error) {
	modules = map[string]*ast.Module{}
	parse := func(fsys fs.FS, file, name string) error {
		content, err := fs.ReadFile(fsys, file)
		if err != nil {
			return err
		}
		module, err := ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{
			ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: capabilities(),
		})
		if module != nil {
			modules[name] = module
		}
		return err
	}
	err = fs.WalkDir(site.FS, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if !strings.HasSuffix(file, ".rego") {
			return nil
		}
		if strings.HasSuffix(file, "_test.rego") {
			tests++
		}
		return parse(site.FS, file, path.Join(site.Name, file))
	})
	if err != nil || tests == 0 {
		return nil, nil, 0, err
	}
	settings, err := policy.ReadSettings([]policy.Site{site})
	if err != nil {
		return nil, nil, 0, err
	}
	err = fs.WalkDir(rego.FS, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".rego") || strings.HasSuffix(file, "_test.rego") {
			return err
		}
		return parse(rego.FS, file, path.Join("rego", file))
	})
	return modules, map[string]any{"site": settings}, tests, err
}

// capabilities are OPA's, less what would let a bundle's tests reach out of the evaluation: they run as root.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{} // nil would mean any host
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return b.Name == "http.send" || b.Name == "opa.runtime" || strings.HasPrefix(b.Name, "net.lookup")
	})
	return c
}
