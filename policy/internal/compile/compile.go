// Package compile compiles the rules of a source, after every check of them.
package compile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/fallback"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/rulecheck"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// A Compilation is a policy that has passed every check.
type Compilation struct {
	Compiler *ast.Compiler
	Rules    []string // names, sorted
	Settings settings.Engine
}

// Policy compiles a policy, and applies every check. An error has all that can be told apart from
// each other's consequences.
func Policy(src *source.Source) (*Compilation, error) {
	if err := src.AddLibrary(src.LibraryFiles()); err != nil {
		return nil, err
	}
	if err := rulecheck.Packages(src); err != nil {
		return nil, err // and what belongs to a package would not be found, either
	}
	modules := maps.Clone(src.Library)
	for file, module := range src.Site {
		module = module.Copy()
		fallback.Add(module)
		modules[file] = module
	}
	var rules []string
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		if rule, ok := module.RuleOf(modules[file].Package.Path); ok {
			rules = append(rules, rule)
		}
	}
	slices.Sort(rules)
	set, settingsErr := settings.Read(src.Settings, src.Schemas, rules, src.GoRules)
	schema, err := library.TypeSchema()
	if err != nil {
		return nil, err
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, schema)
	c := ast.NewCompiler().
		SetErrorLimit(0).
		WithCapabilities(builtin.Capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithUseTypeCheckAnnotations(true).
		WithStrict(true)
	env, err := rulecheck.SettingsTypes(src, rules, schemas)
	if err != nil {
		return nil, fmt.Errorf("the types of data.site: %s; report this", problem.OneLine(err.Error()))
	}
	if env == nil {
		c.WithSchemas(schemas)
	} else { // it has the input's types, and reading them from the schema takes as long as parsing the library
		c.WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{Name: "SettingsTypes", Stage: func(c *ast.Compiler) *ast.Error {
			c.TypeEnv = env
			return nil
		}})
	}
	if c.Compile(modules); c.Failed() {
		return nil, problem.Join(settingsErr, module.Error(c.Errors, func() []string { return functionsOf(src) }))
	}
	if settingsErr != nil {
		return nil, settingsErr // a rule that reads the setting would be an error as well
	}
	if err := problem.Join(rulecheck.Reads(c, src), rulecheck.Expressions(c, src)); err != nil {
		return nil, err
	}
	return &Compilation{Compiler: c, Rules: rules, Settings: set}, nil
}

// functionsOf returns the names of the functions that a site's rules may call.
func functionsOf(src *source.Source) []string {
	names := library.Functions()
	for _, m := range src.Site {
		names = append(names, module.Functions(m)...)
	}
	return names
}

// AlwaysOn compiles the rules that are always on, and nothing else. Their types are not
// checked: that takes a third of the time, and a test does it.
func AlwaysOn() (*ast.Compiler, error) {
	src := &source.Source{}
	if err := src.AddLibrary(src.LibraryFiles()); err != nil {
		return nil, err
	}
	c := ast.NewCompiler().
		WithCapabilities(builtin.Capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSkipStages(ast.StageCheckTypes)
	if c.Compile(src.Library); c.Failed() {
		return nil, module.Error(c.Errors, nil)
	}
	return c, nil
}
