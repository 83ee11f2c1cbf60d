package policy

import (
	"slices"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/protection"
)

// Most stops are of domains that nobody named, on hosts whose site has no rules of its own, and a hook would parse and
// compile the library anew for each of them only to hear nothing. So where the rules that are always on are all there is,
// each is compiled when it is first asked, and asked only about domains that it may have something to say about.

// speaks says, of each rule that is always on, whether it may have a reason or a note about a domain. It may be true of more
// domains than the rule speaks of, never of fewer; tests prove that from the rules themselves. listed is what of the
// protected list matches the domain.
var speaks = map[string]func(d *domainxml.Domain, listed []string) bool{
	"protected_list": func(_ *domainxml.Domain, listed []string) bool { return len(listed) > 0 },
	"protection_mark": func(d *domainxml.Domain, _ []string) bool {
		return len(protection.Marks(d, time.Time{})) > 0
	},
}

// quietAbout says of a rule that it has nothing to say about a domain. It is false where that is not known.
func quietAbout(d *domainxml.Domain, listed []string) func(rule string) bool {
	return func(rule string) bool {
		mayHave, known := speaks[rule]
		return known && !mayHave(d, listed)
	}
}

// alwaysOnReads is what the rules that are always on can read of the input, and more.
var alwaysOnReads = reach{paths: [][]string{
	{"operation"}, {"time"}, {"domain", "name"}, {"domain", "uuid"}, {"domain", "listed"}, {"domain", "marks"},
	{"domain", "metadata"}, {"domain", "metadata_error"}, {"domain", "state"}, {"domain", "reason"},
}}

// onlyAlwaysOn reports whether the site adds no rule to those that are always on, and configures none of the library's.
func (src *source) onlyAlwaysOn() bool {
	if len(src.site) > 0 {
		return false
	}
	for key := range src.settings.site {
		if !slices.Contains(reservedNames, key) {
			return false
		}
	}
	return true
}

// wait leaves the compiling for when a rule is asked. The site's files can be wrong in all ways but those of rules.
func (e *Engine) wait(src *source) (err error) {
	e.rules, e.reads = alwaysOn, alwaysOnReads
	if e.settings, err = readSettings(src, alwaysOn); err != nil {
		return err
	}
	e.parts = make([]func() (*Engine, error), 1<<len(alwaysOn)) // by the rules' places in alwaysOn, as bits
	for set := range e.parts {
		var rules []string
		for i, rule := range alwaysOn {
			if set&(1<<i) != 0 {
				rules = append(rules, rule)
			}
		}
		e.parts[set] = sync.OnceValues(func() (*Engine, error) {
			part := *e
			var err error
			if part.compiler, err = compileLibrary(rules); err != nil {
				return nil, err
			}
			part.parts, part.rules, part.reads = nil, rules, reachOf(part.compiler)
			part.places = sync.OnceValue(func() *place { return part.reads.placesFor(true) })
			part.ruleReads, part.resident = sync.OnceValue(part.readsOfRules), &resident{}
			part.decision, err = part.compileDecision()
			return &part, err
		})
	}
	return nil
}

// compileDecision makes the query for what decision.rego gathers of e's rules, which takes less time than that file.
func (e *Engine) compileDecision() (ast.Body, error) {
	var vetoes, notes [][2]*ast.Term
	for _, rule := range e.rules {
		ref := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("stopguard"), ast.StringTerm("rules"), ast.StringTerm(rule)}
		vetoes = append(vetoes, [2]*ast.Term{ast.StringTerm(rule), ast.NewTerm(ref.Append(ast.StringTerm("veto")))})
		if note := ref.Append(ast.StringTerm("note")); len(e.compiler.GetRulesExact(note)) > 0 {
			notes = append(notes, [2]*ast.Term{ast.StringTerm(rule), ast.NewTerm(note)})
		}
	}
	decision := ast.ObjectTerm(
		[2]*ast.Term{ast.StringTerm("vetoes"), ast.ObjectTerm(vetoes...)},
		[2]*ast.Term{ast.StringTerm("notes"), ast.ObjectTerm(notes...)},
	)
	return e.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), decision)))
}

// asked gives the engine of those rules that may have something to say about the domain, and nil if none has.
func (e *Engine) asked(d *domainxml.Domain, listed []string) (*Engine, error) {
	if e.parts == nil {
		return e, nil
	}
	set := 0
	for i, rule := range alwaysOn {
		if speaks[rule](d, listed) {
			set |= 1 << i
		}
	}
	if set == 0 {
		return nil, nil
	}
	return e.parts[set]()
}

// whole gives the engine of all rules.
func (e *Engine) whole() (*Engine, error) {
	if e.parts == nil {
		return e, nil
	}
	return e.parts[len(e.parts)-1]()
}

// provenStages are those of OPA's compiler that do nothing to the library: they look for mistakes, which it has none of, put
// conditions into an order that they have already, or rewrite what it does not use. A test compiles it with all of them, and
// a site's rules go through each.
var provenStages = []ast.StageID{
	ast.StageCheckUnusedImports, ast.StageCheckKeywordOverrides, ast.StageCheckDuplicateImports, ast.StageCheckVoidCalls,
	ast.StageCheckRuleConflicts, ast.StageCheckUndefinedFuncs, ast.StageCheckSafetyRuleHeads, ast.StageCheckRecursion,
	ast.StageCheckTypes, ast.StageCheckUnsafeBuiltins, ast.StageCheckDeprecatedBuiltins,
	ast.StageRewriteTemplateStrings, ast.StageRewritePrintCalls, ast.StageRewriteRegoMetadataCalls, ast.StageRewriteWithValues,
	ast.StageRewriteTestRulesForTracing, ast.StageRewriteComprehensionTerms, ast.StageRewriteRuleHeadRefs, ast.StageCheckSafetyRuleBodies,
	ast.StageParseMetadataBlocks, ast.StageSetAnnotationSet, ast.StageBuildRequiredCapabilities, // nobody asks for these
	ast.StageBuildComprehensionIndices, // none of its comprehensions can have one
}

// compileLibrary compiles rules of the library, and nothing else.
func compileLibrary(rules []string) (*ast.Compiler, error) {
	src := &source{}
	var names []string
	for _, rule := range rules {
		names = append(names, libraryFile(rule))
	}
	if err := src.addLibrary(names); err != nil {
		return nil, err
	}
	c := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSkipStages(provenStages...)
	if c.Compile(src.library); c.Failed() {
		return nil, regoError(c.Errors)
	}
	return c, nil
}
