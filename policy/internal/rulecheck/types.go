package rulecheck

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// maxListTypes bounds how many types of a list's members are told apart.
const maxListTypes = 32

// SettingsTypes returns the environment in which a site's rules are type-checked: the input's types
// and those of the settings below data.site of the site's own rules. It returns nil if there are no
// such settings.
//
// OPA has types for the input alone. A module that defines data.site by functions of known results
// makes an environment that has them for the settings, too.
func SettingsTypes(src *source.Source, rules []string, schemas *ast.SchemaSet) (*ast.TypeEnv, error) {
	functions := map[string]*ast.Builtin{}
	text := strings.Builder{}
	text.WriteString("package site\n")
	for _, key := range slices.Sorted(maps.Keys(src.Settings.Site)) {
		if !slices.Contains(rules, key) || library.IsRule(key) || ast.IsKeyword(key) {
			continue
		}
		name := "internal.settings_" + key
		functions[name] = &ast.Builtin{Name: name, Decl: types.NewFunction(nil, settingType(src.Settings.Site[key]))}
		fmt.Fprintf(&text, "%s := %s()\n", key, name)
	}
	if len(functions) == 0 {
		return nil, nil
	}
	module, err := ast.ParseModuleWithOpts("settings", text.String(), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	typed := *builtin.Capabilities()
	typed.Builtins = append(slices.Clone(typed.Builtins), slices.Collect(maps.Values(functions))...)
	c := ast.NewCompiler().
		WithCapabilities(&typed).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSchemas(schemas).
		WithSkipStages(ast.StageBuildRuleIndices, ast.StageBuildComprehensionIndices, ast.StageBuildRequiredCapabilities)
	if c.Compile(map[string]*ast.Module{"settings": module}); c.Failed() {
		return nil, c.Errors
	}
	return c.TypeEnv, nil
}

// settingType returns the type of a setting. An object may have other keys than those that are set:
// whether one that is read is set is another check's.
func settingType(value any) types.Type {
	switch value := value.(type) {
	case nil:
		return types.Nl
	case bool:
		return types.B
	case json.Number:
		return types.N
	case string:
		return types.S
	case []any:
		var member types.Type
		different := 0
		for _, item := range value {
			if t := settingType(item); member == nil || types.Compare(types.Or(member, t), member) != 0 {
				member = types.Or(member, t)
				if different++; different > maxListTypes {
					return types.NewArray(nil, types.A)
				}
			}
		}
		if member == nil {
			member = types.A
		}
		return types.NewArray(nil, member)
	case map[string]any:
		var properties []*types.StaticProperty
		for _, key := range slices.Sorted(maps.Keys(value)) {
			properties = append(properties, types.NewStaticProperty(key, settingType(value[key])))
		}
		return types.NewObject(properties, types.NewDynamicProperty(types.S, types.A))
	}
	return types.A
}

// kinds is a set of the kinds that a value may have.
type kinds uint8

const (
	isNull kinds = 1 << iota
	isBoolean
	isNumber
	isText
	isList
	isObject
	isSet

	anyKind = isNull | isBoolean | isNumber | isText | isList | isObject | isSet
)

var kindNames = []string{"null", "a boolean", "a number", "a text", "a list", "an object", "a set"}

// kindsOf returns the kinds of a type's values: all of them for a type that is not known.
func kindsOf(t types.Type) kinds {
	switch t := t.(type) {
	case types.Null:
		return isNull
	case types.Boolean:
		return isBoolean
	case types.Number:
		return isNumber
	case types.String:
		return isText
	case *types.Array:
		return isList
	case *types.Object:
		return isObject
	case *types.Set:
		return isSet
	case types.Any:
		var all kinds
		for _, one := range t {
			all |= kindsOf(one)
		}
		if all != 0 {
			return all
		}
	}
	return anyKind
}

func (k kinds) String() string {
	var names []string
	for i, name := range kindNames {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}
