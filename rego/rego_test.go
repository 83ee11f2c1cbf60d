package rego_test

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/stopguard/stopguard/rego"
)

// library parses every file of the library, tests included.
func library(t testing.TB) map[string]*ast.Module {
	t.Helper()
	modules := map[string]*ast.Module{}
	err := fs.WalkDir(rego.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".rego") {
			return err
		}
		content, err := fs.ReadFile(rego.FS, name)
		if err != nil {
			return err
		}
		modules[name], err = ast.ParseModuleWithOpts(name, string(content), ast.ParserOptions{ProcessAnnotation: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

func TestTheLibrarysOwnTestsPassAndReachEveryLine(t *testing.T) {
	modules := library(t)
	coverage := cover.New()
	results, err := tester.NewRunner().
		SetStore(inmem.New()).
		SetModules(modules).
		SetCoverageQueryTracer(coverage).
		RunTests(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for result := range results {
		ran++
		t.Run(result.Package+"."+result.Name, func(t *testing.T) {
			if !result.Pass() {
				t.Errorf("%s: %v", result.Location, result)
			}
		})
	}
	if ran == 0 {
		t.Fatal("no test ran")
	}
	report := coverage.Report(modules)
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		if strings.HasSuffix(name, "_test.rego") || name == "decision.rego" {
			continue
		}
		file := report.Files[name]
		if file == nil || len(file.Covered) == 0 {
			t.Errorf("%s: no test reaches it", name)
			continue
		}
		for _, r := range file.NotCovered {
			t.Errorf("%s: no test reaches lines %d to %d", name, r.Start.Row, r.End.Row)
		}
	}
}

func TestEveryFileIsFormatted(t *testing.T) {
	for name := range library(t) {
		content, err := fs.ReadFile(rego.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := format.SourceWithOpts(name, content, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, content) {
			t.Errorf("%s: opa fmt would change it:\n%s", name, cmp.Diff(string(want), string(content)))
		}
	}
}

func TestEveryRuleHasItsFolderItsTestAndItsMetadata(t *testing.T) {
	modules := library(t)
	for name, module := range modules {
		rule, ok := strings.CutPrefix(module.Package.Path.String(), "data.stopguard.rules.")
		if !ok || strings.HasSuffix(name, "_test.rego") {
			continue
		}
		if want := rule + "/" + rule + ".rego"; name != want {
			t.Errorf("%s holds rule %s, whose file is %s", name, rule, want)
		}
		if modules[rule+"/"+rule+"_test.rego"] == nil {
			t.Errorf("rule %s has no test beside it", rule)
		}
		about := module.Annotations
		if len(about) == 0 || about[0].Scope != "package" || about[0].Title != rule || about[0].Description == "" || about[0].Custom["reads"] == nil {
			t.Errorf("%s: its METADATA must have title %s, a description, and under custom what it reads of data.site", name, rule)
		}
	}
}

func TestWhatRulesShareHasItsFolderAndItsMetadata(t *testing.T) {
	for name, module := range library(t) {
		share, ok := strings.CutPrefix(module.Package.Path.String(), "data.stopguard.")
		if !ok || strings.HasPrefix(share, "rules.") || strings.HasSuffix(name, "_test.rego") {
			continue
		}
		if want := share + "/" + share + ".rego"; name != want {
			t.Errorf("%s holds package stopguard.%s, whose file is %s", name, share, want)
		}
		titles := map[string]bool{}
		for _, about := range module.Annotations {
			if about.Description == "" {
				t.Errorf("%s: METADATA of %s has no description", name, about.Title)
			}
			titles[about.Title] = true
		}
		for _, rule := range module.Rules {
			if called := string(rule.Head.Name); !titles[called] && !strings.HasPrefix(called, "_") {
				t.Errorf("%s: %s has no METADATA", name, called)
			}
		}
		if !titles[share] {
			t.Errorf("%s: package stopguard.%s has no METADATA", name, share)
		}
	}
}
