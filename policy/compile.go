package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/stopguard/stopguard/rego"
)

// A compilation is a policy that has passed every check.
type compilation struct {
	compiler *ast.Compiler
	rules    []string // names, sorted
	settings settings
}

func compile(src *source) (*compilation, error) {
	if err := src.addLibrary(src.libraryFiles()); err != nil {
		return nil, err
	}
	if err := checkPackages(src); err != nil {
		return nil, err
	}
	modules := maps.Clone(src.library)
	for file, module := range src.site {
		module = module.Copy()
		addFallbacks(module)
		modules[file] = module
	}
	var rules []string
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		if err := checkHeads(modules[file]); err != nil {
			return nil, err
		}
		if rule, ok := ruleOf(modules[file].Package.Path); ok {
			rules = append(rules, rule)
		}
	}
	slices.Sort(rules)
	settings, err := readSettings(src, rules)
	if err != nil {
		return nil, err
	}
	schema, err := typeSchema()
	if err != nil {
		return nil, err
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, schema)
	c := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).
		WithStrict(true)
	env, err := settingsTypes(src, rules, schemas)
	if err != nil {
		return nil, fmt.Errorf("the types of data.site: %s; report this", oneLine(err.Error()))
	}
	if env != nil {
		c.WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{Name: "SettingsTypes", Stage: func(c *ast.Compiler) *ast.Error {
			c.TypeEnv = env
			return nil
		}})
	}
	if c.Compile(modules); c.Failed() {
		return nil, regoError(c.Errors)
	}
	if err := checkRead(c, src); err != nil {
		return nil, err
	}
	if err := checkExpressions(c, src); err != nil {
		return nil, err
	}
	return &compilation{compiler: c, rules: rules, settings: settings}, nil
}

// inputSchema is rego/input.schema.json, read once.
var inputSchema = sync.OnceValues(func() (any, error) {
	content, err := rego.FS.ReadFile("input.schema.json")
	if err != nil {
		return nil, err
	}
	var schema any
	if err := json.Unmarshal(content, &schema); err != nil {
		return nil, fmt.Errorf("rego/input.schema.json: %w", err)
	}
	return schema, nil
})

// newStore makes the store that evaluations read settings from. Nothing ever writes to it.
func newStore(site map[string]any) storage.Store {
	return inmem.NewFromObjectWithOpts(map[string]any{"site": site}, inmem.OptReturnASTValuesOnRead(true), inmem.OptRoundTripOnWrite(false))
}
