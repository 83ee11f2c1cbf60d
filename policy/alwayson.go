package policy

import (
	"sync"
	"time"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/policy/internal/compile"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/library"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// Most stops are of unprotected domains, on hosts whose site does not have rules of its own, and
// each stop starts a new hook process. So if only the rules that are always on are configured, they
// are compiled only for a domain that they may refuse.

// mayApply reports whether a rule that is always on may have a reason or a note about a domain. It
// may return true for other domains, too, but never false for one that a rule refuses; a test shows
// that from the rules themselves. listed are the entries of the protected list that match the
// domain.
func mayApply(in Input, listed []string) bool {
	return len(listed) > 0 || len(in.Holds) > 0 || len(protection.Marks(in.Domain, time.Time{})) > 0
}

// alwaysOnReads has at least the paths of the input that the rules that are always on can read.
var alwaysOnReads = document.Reads{Paths: [][]string{
	{"operation"}, {"time"}, {"domain", "name"}, {"domain", "uuid"}, {"domain", "listed"}, {"domain", "marks"}, {"domain", "holds"},
	{"domain", "metadata"}, {"domain", "metadata_error"}, {"domain", "state"}, {"domain", "reason"},
}}

// compileLazily defers compilation until a rule is needed. The site's files are checked now.
func (e *Engine) compileLazily(src *source.Source) (err error) {
	if e.settings, err = settings.Read(src.Settings, src.Schemas, library.AlwaysOn, src.GoRules); err != nil {
		return err
	}
	e.rules, e.reads, e.onlyAlwaysOn = library.AlwaysOn, alwaysOnReads, true
	e.program = sync.OnceValues(func() (*program, error) {
		compiler, err := compile.AlwaysOn()
		if err != nil {
			return nil, err
		}
		return newProgram(compiler, e.store, library.AlwaysOn), nil
	})
	return nil
}
