package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
	"github.com/stopguard/stopguard/policy/internal/spelling"
)

// ErrEveryOperation is wrapped by a warning about a rule that does not mention input.operation.
// Such a rule may be intended. On a host with only a hook, which asks about stops alone, it does no
// harm.
var ErrEveryOperation = errors.New("the rule is for every operation")

// Warnings returns warnings about the site's rules, which are in force all the same. Each has the
// form "what is wrong; what to do".
func (e *Engine) Warnings() []error {
	warnings := slices.Clone(e.warnings)
	if e.onlyAlwaysOn {
		return warnings
	}
	p, err := e.program()
	if err != nil {
		return warnings
	}
	for _, r := range p.rules {
		clauses := p.compiler.GetRulesExact(setRef(r.name, "veto"))
		if reads := p.readsOfRule(clauses); library.IsRule(r.name) || reads.Has("operation") || reads.Has("request", "procedure") {
			continue
		}
		if refused := slices.DeleteFunc(Operations(), func(name string) bool { return e.settings.IsMonitored(r.name, name) }); len(refused) > 0 {
			warnings = append(warnings, &problem.Error{
				What: fmt.Sprintf("%s: rule %s does not mention input.operation, so that it refuses each of %s", clauses[0].Location, r.name, strings.Join(refused, ", ")),
				Cure: "compare input.operation with the operations that it is for",
				Err:  ErrEveryOperation,
			})
		}
	}
	return warnings
}

// noteNames notes by which name the site's rules mention a renamed operation, and returns a warning
// for each place that has the former one.
func (p *program) noteNames(src *source.Source) []error {
	var all spelling.Spelling
	all.AddSetting(src.Settings.Site)
	for _, m := range src.Site {
		all.AddTerms(m)
	}
	if !all.Former {
		return nil
	}
	var places []string
	for _, r := range p.rules {
		clauses := p.clauses(r.name)
		if src.Site[fileOf(clauses[0])] == nil || !r.reads().Has("operation") && !r.reads().Has("domain", "marks") {
			continue
		}
		for _, clause := range p.reachedFrom(clauses) {
			var of spelling.Spelling
			if of.AddTerms(clause); src.Site[fileOf(clause)] == nil {
				continue // the library knows present names only
			}
			if of.Former {
				places = append(places, clause.Location.String())
			}
			r.spelling = r.spelling.Or(of)
		}
		for _, path := range p.paths(clauses) {
			if path[0] != "data" {
				continue
			}
			var of spelling.Spelling
			if of.AddSetting(settings.At(src.Settings.Site, path[2:])); of.Former {
				places = append(places, strings.Join(path, "."))
			}
			r.spelling = r.spelling.Or(of)
		}
	}
	slices.Sort(places)
	var warnings []error
	for _, place := range slices.Compact(places) {
		warnings = append(warnings, &problem.Error{
			What: fmt.Sprintf("%s names the operation %q, which is called %s or %s now", place, operation.Former(OperationModify), OperationModify, OperationDelete),
			Cure: "write " + OperationModify + ", " + OperationDelete + " or both",
		})
	}
	return warnings
}

func fileOf(clause *ast.Rule) string { return clause.Module.Package.Location.File }
