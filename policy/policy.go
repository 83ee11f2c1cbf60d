// Package policy decides by Rego rules whether a domain may be stopped.
//
// An [Engine] is made once from a [Config]: the rule library, a site's own rules and settings, and
// the protected list. Loading checks what Rego itself lets pass in silence (a misspelt rule, field
// or setting), so that a slip is an error and not an allow. [Engine.Decide] is a function of its
// [Input]: no clock, no network, no files. It collects every reason against the stop; a rule that
// fails vetoes in its own name.
//
// Errors of this package have the form "what is wrong; what to do".
package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/protectedlist"
	"github.com/stopguard/stopguard/policy/internal/compile"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/mask"
	"github.com/stopguard/stopguard/policy/internal/settings"
	"github.com/stopguard/stopguard/policy/internal/source"
)

// A Config holds the rules, settings and list of an [Engine]. Its zero value is the rule library
// alone, with an empty list.
type Config struct {
	// Sites are the site's own rules and settings, from a folder, a bundle, or both. No two may set
	// the same setting or hold the same package.
	Sites []Site

	// List is the content of the protected list: a name, glob or UUID a line.
	List []byte

	// ListName is the name of List in errors; "" means "protected-domains".
	ListName string

	// Rules are rules written in Go, by their names. See [Rule], and [Engine.WithRules] for adding
	// them later.
	Rules map[string]Rule
}

// An Engine decides. It is immutable and safe for concurrent use. Its zero value is not usable;
// make it with [New].
type Engine struct {
	rules    []string // names, sorted
	revision string
	list     *protectedlist.List
	settings settings.Engine
	reads    document.Reads
	store    storage.Store
	mask     mask.Mask
	warnings []error

	// program returns the compiled rules. If only the rules that are always on are loaded, they are
	// compiled by the first call; see alwayson.go.
	program      func() (*program, error)
	onlyAlwaysOn bool

	goRules []goRule // sorted by name
}

// New loads and checks rules and settings and compiles them. If it returns an error, nothing may be
// decided by this configuration. The error's text is about the first mistake; if there are more,
// its method Unwrap() []error returns all. Compiling cannot be cancelled: if ctx is done meanwhile,
// New returns an error when it is over.
func New(ctx context.Context, c Config) (*Engine, error) {
	if c.ListName == "" {
		c.ListName = "protected-domains"
	}
	protected, err := protectedlist.Parse(c.ListName, c.List)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	src, err := source.Load(treesOf(c.Sites))
	if err != nil {
		return nil, problem.Wrap("policy: ", err)
	}
	src.GoRules = slices.Collect(maps.Keys(c.Rules))
	e := &Engine{revision: src.Revision, list: protected, store: newStore(src.Settings.Site)}
	if src.HasOnlyAlwaysOn() {
		err = e.compileLazily(src)
	} else {
		err = e.compile(src)
	}
	if err != nil {
		return nil, problem.Wrap("policy: ", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("policy: loading took too long (%w); make the policy smaller", err)
	}
	if e.mask, err = mask.Compile(src.Mask); err != nil {
		return nil, problem.Wrap("policy: ", err)
	}
	return e.WithRules(c.Rules)
}

func (e *Engine) compile(src *source.Source) error {
	compiled, err := compile.Policy(src)
	if err != nil {
		return err
	}
	p := newProgram(compiled.Compiler, e.store, compiled.Rules)
	p.fields.Shallow = len(src.Site) == 0
	e.rules, e.settings, e.reads = compiled.Rules, compiled.Settings, document.ReadsOf(compiled.Compiler).WithSources()
	e.warnings = p.noteNames(src)
	e.program = func() (*program, error) { return p, nil }
	return nil
}

// A Path is a part of the input, such as "host.domains"; [Engine.Reads] says whether it is needed.
type Path string

// The parts of the input that cost the most to gather.
const (
	PathHostName    Path = "host.name"
	PathHostDomains Path = "host.domains" // the running domains
	PathHolds       Path = "domain.holds"
)

// Reads reports whether any loaded rule can read the input at path or below it. Otherwise that part
// of the input can be left out. A Go rule can read all of it, but reads the running domains by
// Host.Running.
func (e *Engine) Reads(path Path) bool {
	return e.reads.Has(strings.Split(string(path), ".")...) || len(e.goRules) > 0 && !strings.HasPrefix(string(path), string(PathHostDomains))
}
