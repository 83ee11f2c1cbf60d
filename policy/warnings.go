package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
	"github.com/stopguard/stopguard/policy/internal/spelling"
)

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
