// Package library reads the rule library: which rules it has, their files, and the schemas of the
// input and of settings.
package library

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
	"github.com/stopguard/stopguard/rego"
)

// SchemaEnding is how the name of the file ends that has the schema of a rule's settings.
const SchemaEnding = ".schema.json"

// AlwaysOn are the rules of the library that are on without being configured: they only concern
// domains that the operator named.
var AlwaysOn = []string{"hold", "protected_list", "protection_mark"}

// IsRule reports whether the library has a rule of the name: each has a folder, with the
// schema of its settings.
func IsRule(name string) bool {
	_, err := fs.Stat(rego.FS, path.Join(name, name+SchemaEnding))
	return err == nil
}

// Rules returns the names of the library's rules, including those that are off.
func Rules() []string {
	entries, _ := fs.ReadDir(rego.FS, ".") // embedded, and there
	var names []string
	for _, entry := range entries {
		if IsRule(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// File returns the file of a rule or a helper.
func File(name string) string { return path.Join(name, name+".rego") }

// Parse parses files of the library concurrently, and leaves out those that do not exist. Compiling
// refuses references to names that are then not defined.
func Parse(names []string) ([]*ast.Module, error) {
	modules, errs := make([]*ast.Module, len(names)), make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			content, err := fs.ReadFile(rego.FS, name)
			if err == nil {
				modules[i], err = module.ParseWithoutMetadata(path.Join("rego", name), content)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				errs[i] = err
			}
		})
	}
	group.Wait()
	return slices.DeleteFunc(modules, func(m *ast.Module) bool { return m == nil }), errors.Join(errs...)
}

// Helpers returns the files of the packages directly below stopguard that a module mentions.
func Helpers(m *ast.Module) []string {
	var helpers []string
	ast.WalkRefs(m, func(ref ast.Ref) bool {
		if ref[0].Equal(ast.DefaultRootDocument) {
			if parts := regovalue.Path(ref[1:]); len(parts) > 1 && parts[0] == "stopguard" && parts[1] != "rules" {
				helpers = append(helpers, File(parts[1]))
			}
		}
		return false
	})
	return helpers
}

// Functions returns the names of all functions that rules may call: OPA's, ours, and those of the
// library's helpers as data.stopguard.HELPER.NAME.
func Functions() []string {
	var names []string
	for _, b := range builtin.Capabilities().Builtins {
		if b.Infix == "" && !strings.HasPrefix(b.Name, "internal.") {
			names = append(names, b.Name)
		}
	}
	entries, _ := fs.ReadDir(rego.FS, ".") // embedded, and there
	for _, entry := range entries {
		if !entry.IsDir() || IsRule(entry.Name()) {
			continue
		}
		helpers, err := Parse([]string{File(entry.Name())})
		if err != nil {
			continue
		}
		for _, m := range helpers {
			names = append(names, module.Functions(m)...)
		}
	}
	return names
}

// InputSchema is rego/input.schema.json, read once.
var InputSchema = sync.OnceValues(func() (any, error) {
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

// SettingsSchema returns the schema of a library rule's settings, and its file.
func SettingsSchema(rule string) (name string, content []byte, err error) {
	name = path.Join(rule, rule+SchemaEnding)
	content, err = rego.FS.ReadFile(name)
	return path.Join("rego", name), content, err
}
