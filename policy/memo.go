package policy

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// A memo remembers from one decision to the next what functions of the library gave: whether a name is one of those that a
// setting names, when a freeze ends. It is the cache that OPA keeps for one evaluation, less its end. A function is
// remembered only if nothing that it leads to reads the input, so that its value follows from its arguments, the rules and
// the settings, none of which an engine ever changes. What an evaluation that failed has found is forgotten.
//
// A memo serves one evaluation at a time.
type memo struct {
	topdown.VirtualCache // of the evaluation under way
	pure                 *pureCalls
	with                 int                    // how many "with" the evaluation is in: there nothing is remembered
	young, old, found    map[uint64]*remembered // found by the evaluation under way
}

// A remembered value is what a function gave for arguments.
type remembered struct {
	function int
	args     []*ast.Term
	value    *ast.Term
}

// maxYoung is when the young ones become the old, and the old are forgotten: enough for what the settings say and a few
// hundred domains, in less than a MiB.
const maxYoung = 2048

// maxRemembered is the length of a text above which it is not worth to be kept.
const maxRemembered = 256

func newMemo(pure *pureCalls) *memo {
	return &memo{pure: pure, young: map[uint64]*remembered{}, found: map[uint64]*remembered{}}
}

// begin makes it ready for an evaluation.
func (m *memo) begin() {
	m.VirtualCache, m.with = topdown.NewVirtualCache(), 0
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

// Get gives the value of a call, or of another reference, if it is known.
func (m *memo) Get(ref ast.Ref) (*ast.Term, bool) {
	function, key, ok := m.call(ref)
	if !ok {
		return m.VirtualCache.Get(ref)
	}
	r := m.recall(key)
	if r == nil || r.function != function || !slices.EqualFunc(r.args, ref[1:], (*ast.Term).Equal) {
		return m.VirtualCache.Get(ref)
	}
	return r.value, false
}

// Put notes the value of a call, or of another reference.
func (m *memo) Put(ref ast.Ref, value *ast.Term) {
	function, key, ok := m.call(ref)
	if ok {
		value, ok = m.pure.own(value)
	}
	if !ok {
		m.VirtualCache.Put(ref, value)
		return
	}
	r := &remembered{function: function, args: make([]*ast.Term, len(ref)-1), value: value}
	for i, arg := range ref[1:] {
		r.args[i], _ = m.pure.own(arg)
	}
	m.found[key] = r
}

// call says whether a reference is a call that may be remembered.
func (m *memo) call(ref ast.Ref) (function int, key uint64, ok bool) {
	function = m.pure.sites[ref[0]]
	if function == 0 || m.with > 0 {
		return 0, 0, false
	}
	key, ok = m.pure.key(function, ref[1:])
	return function, key, ok
}

func (m *memo) recall(key uint64) *remembered {
	if r := m.young[key]; r != nil {
		return r
	}
	if r := m.old[key]; r != nil {
		m.add(key, r)
		return r
	}
	return m.found[key]
}

// pureCalls are the calls of functions whose values may be remembered.
type pureCalls struct {
	sites    map[*ast.Term]int // the function that is called, by the place of the call
	settings map[int]bool      // the hashes of all objects, arrays and sets of settings and rules
}

// key gives a number for a function and its arguments, if these may be kept.
func (p *pureCalls) key(function int, args []*ast.Term) (uint64, bool) {
	key := uint64(function)
	for _, arg := range args {
		if !p.mayKeep(arg.Value) {
			return 0, false
		}
		key = (key ^ uint64(arg.Value.Hash())) * 0x100000001b3
	}
	return key, true
}

// mayKeep says whether a value is small, or of the settings and so there anyway.
func (p *pureCalls) mayKeep(v ast.Value) bool {
	switch v := v.(type) {
	case ast.String:
		return len(v) <= maxRemembered
	case ast.Number, ast.Boolean, ast.Null:
		return true
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

// pureCallsOf finds them. Only functions of the library count, whose tests show that none has two values.
func pureCallsOf(c *ast.Compiler, settings ast.Value) *pureCalls {
	p := &pureCalls{sites: map[*ast.Term]int{}, settings: map[int]bool{}}
	functions := map[string]int{}
	readsInput := map[*ast.Rule]bool{}
	for _, m := range c.Modules {
		if !ofLibrary(m) {
			continue
		}
		for _, rule := range m.Rules {
			name := rule.Ref().String()
			if len(rule.Head.Args) == 0 || functions[name] != 0 {
				continue
			}
			functions[name] = len(functions) + 1
			if slices.ContainsFunc(c.GetRulesExact(rule.Ref()), func(r *ast.Rule) bool { return leadsToInput(c, r, readsInput) }) {
				functions[name] = -1
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
				if function := functions[operator.Value.String()]; function > 0 {
					p.sites[operator] = function
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

// leadsToInput says whether a rule, or anything that it leads to, reads the input or changes what others read.
func leadsToInput(c *ast.Compiler, rule *ast.Rule, known map[*ast.Rule]bool) bool {
	if reads, ok := known[rule]; ok {
		return reads
	}
	known[rule] = false // rules do not lead to themselves
	reads := false
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		reads = reads || ref[0].Equal(ast.InputRootDocument)
		return reads
	})
	ast.WalkWiths(rule, func(*ast.With) bool { reads = true; return true })
	for next := range c.Graph.Dependencies(rule) {
		if next, ok := next.(*ast.Rule); ok && !reads {
			reads = leadsToInput(c, next, known)
		}
	}
	known[rule] = reads
	return reads
}
