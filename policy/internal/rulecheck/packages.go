// Package rulecheck refuses rules that Rego accepts and that would never be heard: most mistakes in
// Rego are not errors, and the rule is just never true.
package rulecheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/nearest"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/builtin"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/module"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// Most mistakes in Rego are not errors: the veto is just never true. The checks of this file refuse
// them at load. Those of the first half need the parsed modules only, those of the second the
// compiled ones.

// Packages refuses site modules that would not be evaluated, or that would add rules to a package
// of the library or of another file.
func Packages(src *source.Source) error {
	owner := map[string]string{}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(src.Site)) {
		errs = append(errs, checkPackage(src, file, owner))
	}
	if err := problem.Join(errs...); err != nil {
		return err
	}
	return checkReach(src)
}

// checkPackage checks one file. owner has the packages of the files before it, and gets its own.
func checkPackage(src *source.Source, file string, owner map[string]string) error {
	m := src.Site[file]
	at, name := m.Package.Location, module.PackageName(m)
	if other, taken := owner[name]; taken {
		return fmt.Errorf("%s: package %s is in %s already, and one could switch off the other's vetoes; give each file a package of its own", at, name, other)
	}
	owner[name] = file
	if rule, ok := module.RuleOf(m.Package.Path); ok && library.IsRule(rule) || isLibraryPackage(src, name) {
		return fmt.Errorf("%s: package %s is the library's; name yours differently", at, name)
	}
	if err := checkPackageName(m); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return problem.Join(checkAnnotations(m), checkNames(m), checkImports(src, m), checkHeads(m))
}

// checkReach refuses a head that defines something in a package that another module or the library
// owns, or in its place. Otherwise package lib with helpers.drained if true would add to package
// lib.helpers of another file, and could take its veto away.
func checkReach(src *source.Source) error {
	packages := map[string]ast.Ref{} // by file
	for _, modules := range []map[string]*ast.Module{src.Site, src.Library} {
		for file, m := range modules {
			packages[file] = m.Package.Path
		}
	}
	files := slices.Sorted(maps.Keys(packages))
	for _, file := range slices.Sorted(maps.Keys(src.Site)) {
		m := src.Site[file]
		own := m.Package.Path
		for _, rule := range m.Rules {
			head := rule.Head.Ref()
			name := ast.StringTerm(string(head[0].Value.(ast.Var)))
			defines := slices.Concat(own, ast.Ref{name}, head[1:1+regovalue.CountConstants(head[1:])])
			for _, other := range files {
				owned := packages[other]
				isBelow := len(owned) > len(own) && defines.HasPrefix(owned)
				isAbove := owned.HasPrefix(defines) // a variable in the head, or the value itself, would lead there
				if other != file && !owned.Equal(own) && (isBelow || isAbove) {
					return fmt.Errorf("%s: %s reaches into package %s of %s, and could switch off its vetoes; write it in that file, or name it differently",
						rule.Location, headText(rule), strings.TrimPrefix(owned.String(), "data."), other)
				}
			}
		}
	}
	return nil
}

// checkNames refuses rules and imports with the name of a built-in function: a call of the function
// would be one of the rule.
func checkNames(m *ast.Module) error {
	for _, rule := range m.Rules {
		if name := rule.Head.Ref().String(); builtin.IsAllowed(name) {
			return fmt.Errorf("%s: %s has the name of a built-in function, and would take its place; name it differently", rule.Location, name)
		}
	}
	for _, imported := range m.Imports {
		if name := string(imported.Name()); builtin.IsAllowed(name) {
			return fmt.Errorf("%s: the import %s has the name of a built-in function, and would take its place; import it as another name", imported.Location, name)
		}
	}
	return nil
}

// checkImports refuses an import that makes a rule of a package one with the name of a built-in
// function, as glob.match.
func checkImports(src *source.Source, m *ast.Module) error {
	for _, imported := range m.Imports {
		for _, other := range src.Site {
			if path, ok := imported.Path.Value.(ast.Ref); !ok || !path.Equal(other.Package.Path) {
				continue
			}
			for _, rule := range other.Rules {
				if name := fmt.Sprintf("%s.%s", imported.Name(), rule.Head.Ref()); builtin.IsAllowed(name) {
					return fmt.Errorf("%s: the import makes %s that of %s, which would take the place of the built-in function; import it as another name",
						imported.Location, name, module.PackageName(other))
				}
			}
		}
	}
	return nil
}

// isLibraryPackage reports whether the library, as far as it is loaded, has the package.
func isLibraryPackage(src *source.Source, name string) bool {
	for _, m := range src.Library {
		if module.PackageName(m) == name {
			return true
		}
	}
	return false
}

func checkPackageName(m *ast.Module) error {
	name := module.PackageName(m)
	if rule, ok := module.RuleOf(m.Package.Path); ok {
		switch {
		case strings.HasSuffix(rule, "_test"):
			return fmt.Errorf("package %s holds tests; put it in a file named *_test.rego, which is not loaded on a host", name)
		case !module.IsRuleName(rule):
			return fmt.Errorf("package %s: a rule's name is lower-case letters, digits and _; rename it", name)
		case slices.Contains(settings.Reserved, rule):
			return fmt.Errorf("package %s: data.site.%s means something else; rename the rule", name, rule)
		}
		return nil
	}
	root := regovalue.Path(m.Package.Path[1:])[0]
	switch {
	case root == "stopguard":
		return fmt.Errorf("package %s is read by nothing; a rule's package is stopguard.rules.NAME", name)
	case root == "site":
		return fmt.Errorf("package %s would replace settings; a rule's package is stopguard.rules.NAME", name)
	case root == "system":
		return fmt.Errorf("package %s is read by nothing; a rule's package is stopguard.rules.NAME", name)
	case strings.HasSuffix(name, "_test"):
		return fmt.Errorf("package %s holds tests; put it in a file named *_test.rego, which is not loaded on a host", name)
	}
	return nil
}

// checkAnnotations refuses an input schema of a site module's own, for it replaces ours, and with
// it the check that every field the module reads exists.
func checkAnnotations(m *ast.Module) error {
	for _, a := range m.Annotations {
		for _, s := range a.Schemas {
			if s.Path.HasPrefix(ast.InputRootRef) {
				return fmt.Errorf("%s: METADATA sets a schema for %s, which would switch off the check of what the rule reads; remove it", a.Location, s.Path)
			}
		}
	}
	return nil
}

// checkHeads refuses rules that look like a veto and are not, in packages of rules.
func checkHeads(m *ast.Module) error {
	if _, ok := module.RuleOf(m.Package.Path); !ok {
		return nil
	}
	var errs []error
	vetoes := 0
	for _, rule := range m.Rules {
		head := rule.Head
		ref := head.Ref()
		first := string(ref[0].Value.(ast.Var))
		if first != "veto" && !slices.Contains(regovalue.Path(ref[1:]), "veto") {
			continue
		}
		if first != "veto" || len(ref) != 1 || head.RuleKind() != ast.MultiValue || rule.Default || len(head.Args) != 0 {
			errs = append(errs, fmt.Errorf("%s: %s is no set of reasons, and would not be heard; write veto contains reason if { ... }", rule.Location, headText(rule)))
		}
		vetoes++
	}
	if vetoes == 0 {
		return fmt.Errorf("%s: package %s has no veto, and protects nothing; write veto contains reason if { ... }", m.Package.Location, module.PackageName(m))
	}
	return problem.Join(errs...)
}

func headText(rule *ast.Rule) string {
	if rule.Default {
		return "default " + rule.Head.String()
	}
	return rule.Head.String()
}

// Reads refuses definitions that nothing reads, such as a misspelt veto, or a library that no rule
// imports. It also refuses references to names that nothing defines: a misspelt helper, import or
// setting would be undefined for ever.
func Reads(c *ast.Compiler, src *source.Source) error {
	var uses []use
	for file, m := range c.Modules {
		if module.PackageName(m) == "stopguard" {
			continue // the entrypoint reads every package
		}
		uses = append(uses, usesOf(file, m)...)
	}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(src.Site)) {
		errs = append(errs, checkIsRead(c.Modules[file], uses))
	}
	slices.SortFunc(uses, func(a, b use) int { return a.at.Compare(b.at) })
	for _, u := range uses {
		if src.Library[u.at.File] != nil {
			continue // a rule of the library may leave a setting to a default; its tests hold what it reads against its schema
		}
		if !defined(c, src.Settings, u.ref) {
			errs = append(errs, fmt.Errorf("%s: %s", u.at, undefinedText(c, src, u.ref)))
		}
	}
	return problem.Join(errs...)
}

// A use is a place where a rule reads something below data.
type use struct {
	rule ast.Ref // the rule that reads
	ref  ast.Ref // the path that it reads, up to the first element that is not a constant string
	at   *ast.Location
}

func usesOf(file string, m *ast.Module) []use {
	var uses []use
	for _, rule := range m.Rules {
		ast.WalkRefs(rule, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.DefaultRootDocument) {
				at := ref[0].Location
				if at == nil {
					at = rule.Location
				}
				uses = append(uses, use{rule.Ref(), ref[:1+len(regovalue.Path(ref[1:]))], at})
			}
			return false
		})
	}
	return uses
}

func checkIsRead(m *ast.Module, uses []use) error {
	_, isRule := module.RuleOf(m.Package.Path)
	read := false
	for _, rule := range m.Rules {
		ref := rule.Ref().GroundPrefix()
		if name := string(rule.Head.Name); isRule && (name == "veto" || name == "note") {
			read = true
			continue
		}
		used := slices.ContainsFunc(uses, func(u use) bool {
			return !u.rule.Equal(rule.Ref()) && (u.ref.HasPrefix(ref) || ref.HasPrefix(u.ref))
		})
		if isRule && !used {
			return fmt.Errorf("%s: nothing reads %s; if it was to veto, write veto contains reason if { ... }, else remove it", rule.Location, headText(rule))
		}
		read = read || used
	}
	if !read {
		return fmt.Errorf("%s: no rule reads package %s; a rule's package is stopguard.rules.NAME", m.Package.Location, module.PackageName(m))
	}
	return nil
}

// defined reports whether a module or a setting defines the value of ref. References into the value
// of a rule are left to OPA's type checker.
func defined(c *ast.Compiler, data settings.Data, ref ast.Ref) bool {
	if len(c.GetRulesWithPrefix(ref)) > 0 {
		return true
	}
	for n := len(ref) - 1; n > 1; n-- {
		if len(c.GetRulesExact(ref[:n])) > 0 {
			return true
		}
	}
	var value any = map[string]any{"site": data.Site}
	for _, key := range regovalue.Path(ref[1:]) {
		object, ok := value.(map[string]any)
		if !ok {
			return false
		}
		if value, ok = object[key]; !ok {
			return false
		}
	}
	return true
}

func undefinedText(c *ast.Compiler, src *source.Source, ref ast.Ref) string {
	if ref.HasPrefix(ast.Ref{ast.DefaultRootDocument, ast.StringTerm("site")}) {
		hint := likelySetting(src.Settings.Site, regovalue.Path(ref[2:]))
		if hint != "" {
			hint = " (" + hint + "?)"
		}
		return fmt.Sprintf("no data file sets %s, so the rule would never fire; set it, or correct the name%s", ref, hint)
	}
	known := library.Functions()
	for _, m := range c.Modules {
		for _, rule := range m.Rules {
			known = append(known, rule.Ref().GroundPrefix().String())
		}
		known = append(known, m.Package.Path.String())
	}
	return fmt.Sprintf("nothing defines %s, so the rule would never fire; correct the name%s", ref, nearest.Hint(ref.String(), known))
}

// likelySetting returns the path of the setting that a misspelt one was probably meant to be, or ""
// if no setting is similar.
func likelySetting(site map[string]any, path []string) string {
	likely := "data.site"
	var value any = site
	for _, key := range path {
		object, _ := value.(map[string]any)
		if _, ok := object[key]; !ok {
			if key = nearest.Word(key, slices.Collect(maps.Keys(object))); key == "" {
				return ""
			}
		}
		likely += "." + key
		value = object[key]
	}
	return likely
}
