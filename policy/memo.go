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
	with                 int // how many "with" the evaluation is in: there nothing is remembered
	young, old           map[uint64]*remembered
	found                []*remembered // by the evaluation under way
}

// A remembered value is what a function gave for arguments.
type remembered struct {
	key      uint64
	function int
	args     []*ast.Term
	value    *ast.Term
}

// maxYoung is when the young ones become the old, and the old are forgotten: enough for what the settings say and a few
// hundred domains, in less than a MiB.
const maxYoung = 2048

// maxRemembered is the length of a text above which it is not worth to be kept.
const maxRemembered = 256

func newMemo(pure *pureCalls) *memo { return &memo{pure: pure, young: map[uint64]*remembered{}} }

// begin makes it ready for an evaluation.
func (m *memo) begin() {
	m.VirtualCache, m.with, m.found = topdown.NewVirtualCache(), 0, m.found[:0]
}

// keep remembers what the evaluation found.
func (m *memo) keep() {
	for _, r := range m.found {
		m.add(r)
	}
	clear(m.found)
	m.found = m.found[:0]
}

func (m *memo) add(r *remembered) {
	if len(m.young) >= maxYoung {
		m.young, m.old = map[uint64]*remembered{}, m.young
	}
	m.young[r.key] = r
}

// Push is called where a "with" begins.
func (m *memo) Push() { m.with++; m.VirtualCache.Push() }

// Pop is called where it ends.
func (m *memo) Pop() { m.with--; m.VirtualCache.Pop() }

// Get gives the value of a call, or of another reference, if it is known.
func (m *memo) Get(ref ast.Ref) (*ast.Term, bool) {
	if function := m.pure.sites[ref[0]]; function > 0 && m.with == 0 {
		if key, ok := m.pure.key(function, ref[1:]); ok {
			if r := m.recall(key); r != nil && r.function == function && slices.EqualFunc(r.args, ref[1:], (*ast.Term).Equal) {
				return r.value, false
			}
		}
	}
	return m.VirtualCache.Get(ref)
}

func (m *memo) recall(key uint64) *remembered {
	r := m.young[key]
	if r == nil {
		if r = m.old[key]; r != nil {
			m.add(r)
		}
	}
	return r
}

// Put notes the value of a call, or of another reference.
func (m *memo) Put(ref ast.Ref, value *ast.Term) {
	m.VirtualCache.Put(ref, value)
	if function := m.pure.sites[ref[0]]; function > 0 && m.with == 0 && value != nil {
		key, ok := m.pure.key(function, ref[1:])
		kept, alsoOK := own(value)
		if !ok || !alsoOK {
			return
		}
		r := &remembered{key: key, function: function, value: kept}
		for _, arg := range ref[1:] {
			if kept, ok := own(arg); ok {
				arg = kept
			}
			r.args = append(r.args, arg)
		}
		m.found = append(m.found, r)
	}
}

// own gives a scalar a life of its own: a text may be a part of a whole document.
func own(t *ast.Term) (*ast.Term, bool) {
	switch v := t.Value.(type) {
	case ast.String:
		return ast.StringTerm(strings.Clone(string(v))), len(v) <= maxRemembered
	case ast.Number, ast.Boolean, ast.Null:
		return t, true
	}
	return nil, false
}

// pureCalls are the calls of functions whose values may be remembered.
type pureCalls struct {
	sites    map[*ast.Term]int // the function that is called, by the place of the call
	settings map[int]bool      // the hashes of all objects, arrays and sets of settings and rules
}

// key gives a number for a function and its arguments, if these are of the settings, or short.
func (p *pureCalls) key(function int, args []*ast.Term) (uint64, bool) {
	key := uint64(function)
	for _, arg := range args {
		hash := arg.Value.Hash()
		switch v := arg.Value.(type) {
		case ast.String:
			if len(v) > maxRemembered {
				return 0, false
			}
		case ast.Number, ast.Boolean, ast.Null:
		default:
			if !p.settings[hash] {
				return 0, false
			}
		}
		key = (key ^ uint64(hash)) * 0x100000001b3
	}
	return key, true
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
