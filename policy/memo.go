package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A memo remembers from one decision to the next what functions of the library gave, and rules of it that have one value:
// whether a name is one of those that a setting names, when a freeze ends, which freezes are for a domain. It is the cache
// that OPA keeps for one evaluation, less its end. They are remembered only if nothing that they lead to reads more of the
// input than a few short texts, the subject, so that their value follows from their arguments, the subject, the rules and the
// settings, of which an engine never changes the last two. What an evaluation that failed has found is forgotten.
//
// A memo serves one evaluation at a time.
type memo struct {
	topdown.VirtualCache // of the evaluation under way
	pure                 *pureCalls
	with                 int // how many "with" the evaluation is in: there nothing is remembered
	about                subject
	key                  []*ast.Term            // of the last call
	young, old, found    map[uint64]*remembered // found by the evaluation under way
}

// A subject is what remembered values may depend on besides arguments: what subjectPaths lead to, nil where nothing is. It is
// not the time, which is another one at each decision.
type subject [5]*ast.Term

var subjectPaths = [len(subject{})][]*ast.Term{
	ast.MustParseRef("input.operation")[1:],
	ast.MustParseRef("input.domain.name")[1:],
	ast.MustParseRef("input.domain.uuid")[1:],
	ast.MustParseRef("input.domain.state")[1:],
	ast.MustParseRef("input.domain.reason")[1:],
}

// subjectOf finds it in an input.
func subjectOf(input ast.Value) (s subject) {
	for i, path := range subjectPaths {
		if v := lookUp(input, path); v != nil {
			s[i] = ast.NewTerm(v)
		}
	}
	return s
}

// A remembered value is what a function gave for arguments and a part of a subject, or a rule for the latter alone.
type remembered struct {
	function int
	key      []*ast.Term
	value    *ast.Term // nil if there is none
}

// maxYoung is when the young ones become the old, and the old are forgotten: enough for what the settings say and a few
// hundred domains, in less than a MiB.
const maxYoung = 2048

// maxRemembered is the length of a text above which it is not worth to be kept.
const maxRemembered = 256

func newMemo(pure *pureCalls) *memo {
	return &memo{pure: pure, young: map[uint64]*remembered{}, found: map[uint64]*remembered{}}
}

// begin makes it ready for a decision.
func (m *memo) begin(about subject) {
	m.VirtualCache, m.with, m.about = topdown.NewVirtualCache(), 0, about
	clear(m.found)
}

// keep remembers what the evaluation found.
func (m *memo) keep() {
	for key, r := range m.found {
		m.add(key, r)
	}
}

func (m *memo) add(key uint64, r *remembered) {
	if len(m.young) >= maxYoung {
		m.young, m.old = map[uint64]*remembered{}, m.young
	}
	m.young[key] = r
}

// Push is called where a "with" begins.
func (m *memo) Push() { m.with++; m.VirtualCache.Push() }

// Pop is called where it ends.
func (m *memo) Pop() { m.with--; m.VirtualCache.Pop() }

// Get gives the value of a call, or of another reference, if it is known; true if it is known that there is none.
func (m *memo) Get(ref ast.Ref) (*ast.Term, bool) {
	function, args := m.pure.called(ref)
	if r := m.recall(function, args); r != nil {
		return r.value, r.value == nil
	}
	return m.VirtualCache.Get(ref)
}

// Put notes the value of a call, or of another reference.
func (m *memo) Put(ref ast.Ref, value *ast.Term) {
	function, args := m.pure.called(ref)
	hash, ok := m.hash(function, args)
	if ok && value != nil {
		value, ok = m.pure.own(value)
	}
	if !ok {
		m.VirtualCache.Put(ref, value)
		return
	}
	r := &remembered{function: function, key: make([]*ast.Term, len(m.key)), value: value}
	for i, part := range m.key {
		r.key[i], _ = m.pure.own(part)
	}
	m.found[hash] = r
}

// recall gives what is known of a function or a rule; nil if nothing is.
func (m *memo) recall(function int, args []*ast.Term) *remembered {
	hash, ok := m.hash(function, args)
	if !ok {
		return nil
	}
	r := m.young[hash]
	if r == nil {
		if r = m.old[hash]; r != nil {
			m.add(hash, r)
		} else {
			r = m.found[hash]
		}
	}
	if r == nil || r.function != function || !slices.EqualFunc(r.key, m.key, (*ast.Term).Equal) {
		return nil
	}
	return r
}

// hash makes m.key of arguments and the subject, and gives a number for it; false if it may not be kept.
func (m *memo) hash(function int, args []*ast.Term) (uint64, bool) {
	if function == 0 || m.with > 0 {
		return 0, false
	}
	m.key = append(m.key[:0], args...)
	for i, read := range m.pure.functions[function].reads {
		if read {
			m.key = append(m.key, m.about[i])
		}
	}
	hash := uint64(function)
	for _, part := range m.key {
		if part == nil || !m.pure.mayKeep(part.Value) {
			return 0, false
		}
		hash = (hash ^ uint64(part.Value.Hash())) * 0x100000001b3
	}
	return hash, true
}

// pureCalls are the functions and rules whose values may be remembered.
type pureCalls struct {
	functions []pureFunction    // from 1 on
	sites     map[*ast.Term]int // their numbers, by the last term of a reference to it
	settings  map[int]bool      // the hashes of all objects, arrays and sets of settings and rules

	evaluate func(*ast.Term) *ast.Term // gives the value of what reads no input; nil if there is none
}

// A pureFunction is a function, or a rule of one value.
type pureFunction struct {
	ref    ast.Ref
	isCall bool
	reads  subjectParts
}

// subjectParts are the parts of a subject that something reads.
type subjectParts [len(subject{})]bool

// called gives the number of what a reference calls or names, and its arguments; 0 if it may not be remembered.
func (p *pureCalls) called(ref ast.Ref) (function int, args []*ast.Term) {
	if function = p.sites[ref[0]]; function != 0 {
		return function, ref[1:]
	}
	// A term may stand in two places, but then not with the same before it.
	if function = p.sites[ref[len(ref)-1]]; function != 0 && ref.Equal(p.functions[function].ref) {
		return function, nil
	}
	return 0, nil
}

// named gives the number of the rule that a term names; 0 if it is none that may be remembered.
func (p *pureCalls) named(t *ast.Term) int {
	if ref, ok := t.Value.(ast.Ref); ok {
		if function, _ := p.called(ref); !p.functions[function].isCall {
			return function
		}
	}
	return 0
}

// constant gives the value of the rule that a term names, if that is the same for every input; else nil.
func (p *pureCalls) constant(t *ast.Term) *ast.Term {
	rule := p.named(t)
	if rule == 0 || p.functions[rule].reads != (subjectParts{}) {
		return nil
	}
	return p.evaluate(t)
}

// maxKept is the length of a list above which it is not worth to be kept.
const maxKept = 64

// mayKeep says whether a value is small, or of the settings and so there anyway.
func (p *pureCalls) mayKeep(v ast.Value) bool {
	switch v := v.(type) {
	case ast.String:
		return len(v) <= maxRemembered
	case ast.Number, ast.Boolean, ast.Null:
		return true
	case *ast.Array:
		if p.settings[v.Hash()] {
			return true
		}
		return v.Len() <= maxKept && !v.Until(func(item *ast.Term) bool { return !p.settings[item.Value.Hash()] })
	}
	return p.settings[v.Hash()]
}

// own gives a value that may be kept a life of its own: a text may be a part of a whole document.
func (p *pureCalls) own(t *ast.Term) (*ast.Term, bool) {
	if s, ok := t.Value.(ast.String); ok {
		return ast.StringTerm(strings.Clone(string(s))), p.mayKeep(s)
	}
	return t, p.mayKeep(t.Value)
}

// pureCallsOf finds them. Only the library's count, whose tests show that none has two values.
func pureCallsOf(c *ast.Compiler, settings ast.Value) *pureCalls {
	p := &pureCalls{functions: make([]pureFunction, 1), sites: map[*ast.Term]int{}, settings: map[int]bool{}}
	numbers := map[string]int{}
	known := map[*ast.Rule]subjectReads{}
	for _, m := range c.Modules {
		if !ofLibrary(m) {
			continue
		}
		for _, rule := range m.Rules {
			name := rule.Ref().String()
			if _, again := numbers[name]; again || rule.Head.RuleKind() != ast.SingleValue || !rule.Ref().IsGround() {
				continue
			}
			numbers[name] = 0
			f := pureFunction{ref: rule.Ref(), isCall: len(rule.Head.Args) > 0}
			more := false
			for _, clause := range c.GetRulesExact(rule.Ref()) {
				reads := subjectReadsOf(c, clause, known)
				f.reads, more = f.reads.and(reads.parts), more || reads.more
			}
			if !more {
				numbers[name] = len(p.functions)
				p.functions = append(p.functions, f)
			}
		}
	}
	composite := func(t *ast.Term) bool {
		switch t.Value.(type) {
		case *ast.Array, ast.Object, ast.Set:
			if t.IsGround() {
				p.settings[t.Value.Hash()] = true
			}
		}
		return false
	}
	ast.WalkTerms(ast.NewTerm(settings), composite)
	for _, m := range c.Modules {
		ast.WalkTerms(m, composite)
		ast.WalkExprs(m, func(e *ast.Expr) bool {
			if e.IsCall() {
				operator := e.Terms.([]*ast.Term)[0]
				if function := numbers[operator.Value.String()]; function > 0 && p.functions[function].isCall {
					p.sites[operator] = function
				}
			}
			return false
		})
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			for n := range len(ref) {
				if function := numbers[ref[:n+1].String()]; function > 0 && !p.functions[function].isCall {
					p.sites[ref[n]] = function
				}
			}
			return false
		})
	}
	return p
}

// ofLibrary says whether a module is the library's: no site's can have a package of that name.
func ofLibrary(m *ast.Module) bool {
	rule, isRule := ruleOf(m.Package.Path)
	return isRule && isLibraryRule(rule) || !isRule && packageRoot(m) == "stopguard"
}

func packageRoot(m *ast.Module) string { return constant(m.Package.Path[1:])[0] }

// subjectReads are what of the input something reads: parts of a subject, or more than that.
type subjectReads struct {
	parts subjectParts
	more  bool
}

func (p subjectParts) and(other subjectParts) subjectParts {
	for i, read := range other {
		p[i] = p[i] || read
	}
	return p
}

// subjectReadsOf gives what a rule, or anything that it leads to, reads of the input; more, too, if it changes what others
// read.
func subjectReadsOf(c *ast.Compiler, rule *ast.Rule, known map[*ast.Rule]subjectReads) subjectReads {
	if reads, ok := known[rule]; ok {
		return reads
	}
	known[rule] = subjectReads{} // rules do not lead to themselves
	var reads subjectReads
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		if ref[0].Equal(ast.InputRootDocument) {
			part := slices.IndexFunc(subjectPaths[:], func(path []*ast.Term) bool { return slices.EqualFunc(path, ref[1:], (*ast.Term).Equal) })
			if part < 0 {
				reads.more = true
			} else {
				reads.parts[part] = true
			}
		}
		return reads.more
	})
	ast.WalkWiths(rule, func(*ast.With) bool { reads.more = true; return true })
	for next := range c.Graph.Dependencies(rule) {
		if next, ok := next.(*ast.Rule); ok && !reads.more {
			below := subjectReadsOf(c, next, known)
			reads.parts, reads.more = reads.parts.and(below.parts), reads.more || below.more
		}
	}
	known[rule] = reads
	return reads
}
