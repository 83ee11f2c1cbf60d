package policy

import (
	"slices"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/protection"
)

// Most stops are of unprotected domains, on hosts whose site does not have rules of its own, and
// each stop starts a new hook process. So if only the rules that are always on are configured, they
// are compiled only for a domain that they may refuse.

// mayApply reports whether a rule that is always on may have a reason or a note about a domain. It
// may be true of more domains than the rules speak of, never of fewer; a test shows that from the
// rules themselves. listed is what of the protected list matches the domain.
func mayApply(d *domainxml.Domain, listed []string) bool {
	return len(listed) > 0 || len(protection.Marks(d, time.Time{})) > 0
}

// alwaysOnReads are the paths of the input that the rules that are always on can read, and more.
var alwaysOnReads = readSet{paths: [][]string{
	{"operation"}, {"time"}, {"domain", "name"}, {"domain", "uuid"}, {"domain", "listed"}, {"domain", "marks"},
	{"domain", "metadata"}, {"domain", "metadata_error"}, {"domain", "state"}, {"domain", "reason"},
}}

// onlyAlwaysOn reports whether the site adds no rule to those that are always on, and configures
// none of the library's.
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

// compileLazily leaves the compiling for when a rule is needed. The site's files are checked now.
func (e *Engine) compileLazily(src *source) (err error) {
	if e.settings, err = readSettings(src, alwaysOn); err != nil {
		return err
	}
	e.rules, e.reads, e.onlyAlwaysOn = alwaysOn, alwaysOnReads, true
	e.program = sync.OnceValues(func() (*program, error) {
		compiler, err := compileAlwaysOn()
		if err != nil {
			return nil, err
		}
		return newProgram(compiler, e.store, alwaysOn), nil
	})
	return nil
}

// compileAlwaysOn compiles the rules that are always on, and nothing else. Their types are not
// checked: that takes a third of the time, and a test does it.
func compileAlwaysOn() (*ast.Compiler, error) {
	src := &source{}
	if err := src.addLibrary(src.libraryFiles()); err != nil {
		return nil, err
	}
	c := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithSkipStages(ast.StageCheckTypes)
	if c.Compile(src.library); c.Failed() {
		return nil, regoError(c.Errors)
	}
	return c, nil
}
