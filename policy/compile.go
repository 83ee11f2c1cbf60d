package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/fallback"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/rulecheck"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// A compilation is a policy that has passed every check.
type compilation struct {
	compiler *ast.Compiler
	rules    []string // names, sorted
	settings settings.Engine
}

func compile(src *source.Source) (*compilation, error) {
	if err := src.AddLibrary(src.LibraryFiles()); err != nil {
		return nil, err
	}
	if err := rulecheck.Packages(src); err != nil {
		return nil, err
	}
	modules := maps.Clone(src.Library)
	for file, module := range src.Site {
		module = module.Copy()
		fallback.Add(module)
		modules[file] = module
	}
	var rules []string
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		if err := rulecheck.Heads(modules[file]); err != nil {
			return nil, err
		}
		if rule, ok := module.RuleOf(modules[file].Package.Path); ok {
			rules = append(rules, rule)
		}
	}
	slices.Sort(rules)
	set, err := settings.Read(src.Settings, src.Schemas, rules, src.GoRules)
	if err != nil {
		return nil, err
	}
	schema, err := library.TypeSchema()
	if err != nil {
		return nil, err
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, schema)
	c := ast.NewCompiler().
		WithCapabilities(builtin.Capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).
		WithStrict(true)
	env, err := rulecheck.SettingsTypes(src, rules, schemas)
	if err != nil {
		return nil, fmt.Errorf("the types of data.site: %s; report this", problem.OneLine(err.Error()))
	}
	if env != nil {
		c.WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{Name: "SettingsTypes", Stage: func(c *ast.Compiler) *ast.Error {
			c.TypeEnv = env
			return nil
		}})
	}
	if c.Compile(modules); c.Failed() {
		return nil, module.Error(c.Errors)
	}
	if err := rulecheck.Reads(c, src); err != nil {
		return nil, err
	}
	if err := rulecheck.Expressions(c, src); err != nil {
		return nil, err
	}
	return &compilation{compiler: c, rules: rules, settings: set}, nil
}

// newStore makes the store that evaluations read settings from. Nothing ever writes to it.
func newStore(site map[string]any) storage.Store {
	return inmem.NewFromObjectWithOpts(map[string]any{"site": site}, inmem.OptReturnASTValuesOnRead(true), inmem.OptRoundTripOnWrite(false))
}
