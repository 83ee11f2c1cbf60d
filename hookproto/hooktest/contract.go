package hooktest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/stopguard/stopguard/hookproto"
)

const maxLine = 1024 // bytes, newline included

// contract is the set of assertions about a hook.
type contract struct {
	Config
	hook    hook
	process bool // the hook is a process of its own
	broken  bool // the hook's policy is broken

	endless map[string]func() (result, error) // the answers to the calls of endlessCalls, by key
}

func (c contract) assert(t tester) {
	t.Helper()
	t.Run("with its policy as it is", func(t tester) {
		c.all(t)
		if program, ok := c.hook.(program); ok && !c.SkipStop && !c.SkipState {
			c.letsTheDeadGo(t, program)
		}
	})
	if c.Break == nil {
		return
	}
	t.Run("with a broken policy", func(t tester) {
		t.breaks(c.Break)
		c.broken = true
		c.all(t)
	})
}

func (c contract) all(t tester) {
	var stops []stop
	if !c.SkipStop {
		stops = c.capturedStops(t)
	}
	var wait func()
	c.endless, wait = c.endlessCalls(stops)
	defer wait() // for those of assertions that -run left out
	c.ignoresWhatItDoesNotKnow(t)
	if !c.SkipStop {
		c.refusesWhatIsNoStop(t)
	}
	c.letsOperationsThrough(t)
	c.letsInputsThrough(t) // these two wait for the endless calls, and so are the last
	if !c.SkipStop {
		c.answersStops(t, stops)
	}
}

// letsOperationsThrough asserts that every operation but stop is let through.
func (c contract) letsOperationsThrough(t tester) {
	operations := operations()
	for _, reason := range []string{"unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon", ""} {
		t.Run(fmt.Sprintf("release is let through, since the domain ended by %q", reason), func(t tester) {
			c.harmless(t, call{args: []string{"pg-primary-01", "release", "end", reason}, stdin: stdin{data: capturedXML(hookproto.OpRelease)}})
		})
	}
	for _, name := range hostileNames {
		t.Run(fmt.Sprintf("every operation is let through for the name %.30q", name), func(t tester) {
			for _, op := range operations {
				args := arguments(op)
				args[0] = name
				c.harmless(t, call{args: args, stdin: stdin{data: namedXML(name)}})
			}
		})
	}
	t.Run("every operation is let through, however many arguments it has", func(t tester) {
		for _, op := range operations {
			whole := append(arguments(op), "-", "--help")
			for n := 2; n <= len(whole); n++ {
				if n != 4 {
					c.harmless(t, call{args: whole[:n], stdin: stdin{data: capturedXML(op.Op)}})
				}
			}
		}
	})
	t.Run("every operation is let through, whatever its sub-operation", func(t tester) {
		for _, op := range operations {
			for _, sub := range []string{"", "stop", "--help"} {
				c.harmless(t, call{args: []string{"vm", string(op.Op), sub, "-"}, stdin: stdin{data: capturedXML(op.Op)}})
			}
		}
	})
	t.Run("every operation is let through without a name, and with one that is none", func(t tester) {
		for _, op := range operations {
			for _, name := range []string{"", "/", "../../etc/passwd"} {
				c.harmless(t, call{args: []string{name, string(op.Op), op.SubOp, "-"}})
			}
		}
	})
	t.Run("operations are let through, several at once", func(t tester) {
		var calls []call
		for _, op := range operations {
			calls = append(calls, call{args: arguments(op), stdin: stdin{data: capturedXML(op.Op)}})
		}
		for i, r := range c.atOnce(t, calls) {
			c.checkHarmless(t, calls[i], r)
		}
	})
}

// letsInputsThrough asserts that every operation but stop is let through, in whatever way its XML
// arrives and its output is read.
func (c contract) letsInputsThrough(t tester) {
	for _, op := range operations() {
		for _, in := range variants(capturedXML(op.Op)) {
			t.Run(fmt.Sprintf("%s is let through, given %s", op.Op, in.name), func(t tester) {
				c.harmless(t, call{args: arguments(op), stdin: in})
			})
		}
		if c.process {
			t.Run(fmt.Sprintf("%s is let through, though nobody reads what it prints", op.Op), func(t tester) {
				for _, gone := range []closed{stdout, stderr, null} {
					c.harmless(t, call{args: arguments(op), stdin: stdin{data: capturedXML(op.Op)}, closed: gone})
				}
			})
		}
	}
}

// ignoresWhatItDoesNotKnow asserts that calls that are not the QEMU driver's, or not libvirt's, are
// let through.
func (c contract) ignoresWhatItDoesNotKnow(t tester) {
	for _, op := range []string{"", "-", "STOP", "Stop", " stop", "stop ", "stop\n", "stopp", "--stop", "--help", "-h", "begin", "pause", "shutdown", "destroy", "réveil"} {
		t.Run(fmt.Sprintf("the unknown operation %q is let through", op), func(t tester) {
			c.harmless(t, call{args: []string{"pg-primary-01", op, "begin", "-"}, stdin: stdin{data: capturedXML(hookproto.OpStarted)}})
			c.harmless(t, call{args: []string{"pg-primary-01", op, "begin", "-"}, stdin: stdin{name: "nothing and no end", endless: true}})
		})
	}
	for _, args := range [][]string{
		{}, {"pg-primary-01"}, {""}, {"stop"}, {"--help"}, {"-h"}, {"--version"}, {"stop", "start", "stop", "stop"}, {"vm", "begin", "stop", "-"},
		{"-", "start", "-", "start"}, {"-", "reload", "begin", "SIGHUP"}, {"-", "shutdown", "-", "shutdown"}, // of the daemon's hook
		{"default", "stopped", "end", "-"}, {"default", "port-deleted", "begin", "-"}, // of the network's
	} {
		t.Run(fmt.Sprintf("the arguments %q are let through", args), func(t tester) { c.harmless(t, call{args: args}) })
	}
}

// refusesWhatIsNoStop asserts that malformed stops are refused. libvirt does not call the hook in
// this way. Allowing such a call would decide about another operation than the requested one.
func (c contract) refusesWhatIsNoStop(t tester) {
	xml := mustRead("pg-primary-01/stop/stdin.xml")
	for _, tt := range []struct {
		why  string
		args []string
	}{
		{"without a sub-operation and an extra argument", []string{"pg-primary-01", "stop"}},
		{"without an extra argument", []string{"pg-primary-01", "stop", "begin"}},
		{"with a fifth argument", []string{"pg-primary-01", "stop", "begin", "-", "-"}},
		{"with a name of two words that nobody quoted", []string{"pg", "stop", "begin", "-", "primary"}},
		{"with the sub-operation end", []string{"pg-primary-01", "stop", "end", "-"}},
		{"with an empty sub-operation", []string{"pg-primary-01", "stop", "", "-"}},
		{"with the sub-operation Begin", []string{"pg-primary-01", "stop", "Begin", "-"}},
		{"with the sub-operation --help", []string{"pg-primary-01", "stop", "--help", "-"}},
		{"with an empty name", []string{"", "stop", "begin", "-"}},
		{"with the name /", []string{"/", "stop", "begin", "-"}},
		{"with a path for a name", []string{"../../../etc/passwd", "stop", "begin", "-"}},
		{"with the name --help and no more", []string{"--help", "stop"}},
		{"with the name -h and the sub-operation end", []string{"-h", "stop", "end", "-"}},
	} {
		t.Run("a stop "+tt.why+" is a fault", func(t tester) {
			for _, in := range []stdin{{data: xml}, {name: "nothing and no end", endless: true}} {
				c.fault(t, call{args: tt.args, stdin: in})
			}
		})
	}
	t.Run("a fault is one, though nobody reads what it says", func(t tester) {
		refused := call{args: []string{"pg-primary-01", "stop", "end", "-"}, stdin: stdin{data: xml}}
		c.fault(t, call{args: refused.args, stdin: refused.stdin, closed: stderr})
		if c.process {
			c.fault(t, call{args: refused.args, stdin: refused.stdin, closed: stdout})
			c.fault(t, call{args: refused.args, stdin: refused.stdin, closed: null})
		}
	})
}

// A stop is one that libvirt asked for, and its answer.
type stop struct {
	call           call
	result         result
	refused, fault bool
}

// capturedStops runs libvirt's stops, not within t.Run: the rest needs the results, and -run may
// leave a test out.
func (c contract) capturedStops(t tester) []stop {
	t.Helper()
	var stops []stop
	for _, dir := range capturedDomains {
		args, xml := capturedStop(dir)
		s := stop{call: call{args: args, stdin: stdin{data: xml}}}
		s.result = c.run(t, s.call)
		s.refused, s.fault = s.result.code != hookproto.ExitAllow && !s.result.late, s.result.code == hookproto.ExitFault
		stops = append(stops, s)
	}
	return stops
}

// exampleOf returns the first stop that was refused, or the first if none was.
func exampleOf(stops []stop) stop {
	return stops[max(slices.IndexFunc(stops, func(s stop) bool { return s.refused }), 0)]
}

// answersStops asserts the form of the answers to libvirt's stops.
func (c contract) answersStops(t tester, stops []stop) {
	example, refused := exampleOf(stops), 0
	for i, s := range stops {
		t.Run(fmt.Sprintf("a stop of %.40q is answered in due form", capturedDomains[i]), func(t tester) { c.checkAnswered(t, s.call, s.result) })
		if s.refused {
			refused++
		}
	}
	if !c.broken {
		t.Run("a stop can be decided", func(t tester) {
			if !slices.ContainsFunc(stops, func(s stop) bool { return !s.fault }) {
				t.Errorf("every captured domain's stop exits with 2, a fault: such a hook decides nothing; it prints %.400q", c.run(t, stops[0].call).stderr)
			}
		})
	}
	if c.broken {
		t.Run("a stop is a fault", func(t tester) {
			if !slices.ContainsFunc(stops, func(s stop) bool { return s.fault }) {
				t.Errorf("no captured domain's stop exits with 2: either Break breaks nothing that the hook reads, or the hook decides without a policy")
			}
		})
	}
	xml := example.call.stdin.data
	name := fmt.Sprintf("a stop of %.40q", example.call.args[0])
	keeps := func(t tester, next call) {
		t.Helper()
		if r := c.answered(t, next); example.refused && r.code == hookproto.ExitAllow && !r.late {
			t.Errorf("%v: %s, and the same stop was refused before: what cannot be read or said must not turn a refusal into an allow", next, r.status())
		}
	}
	t.Run(name+" stays refused if it was, though nobody reads what is said", func(t tester) {
		keeps(t, call{args: example.call.args, stdin: example.call.stdin, closed: stderr})
		if c.process {
			keeps(t, call{args: example.call.args, stdin: example.call.stdin, closed: stdout})
			keeps(t, call{args: example.call.args, stdin: example.call.stdin, closed: null})
		}
	})
	t.Run("stops are answered, several at once", func(t tester) {
		var calls []call
		for _, s := range stops {
			calls = append(calls, s.call)
		}
		for i, r := range c.atOnce(t, calls) {
			if c.checkAnswered(t, calls[i], r); stops[i].refused && r.code == hookproto.ExitAllow && !r.late {
				t.Errorf("%v: %s among others, and it was refused before", calls[i], r.status())
			}
		}
	})
	for _, hostile := range hostileNames {
		t.Run(fmt.Sprintf("a stop of the name %.30q is answered in due form", hostile), func(t tester) {
			next := call{args: []string{hostile, "stop", "begin", "-"}, stdin: stdin{data: namedXML(hostile)}}
			if r := c.answered(t, next); c.broken && refused == len(stops) && r.code == hookproto.ExitAllow && !r.late {
				t.Errorf("%v: %s, and every other stop is refused: no name may get past the policy", next, r.status())
			}
		})
	}
	for _, in := range variants(xml)[1:] {
		t.Run(name+" is answered, and stays refused if it was, given "+in.name, func(t tester) {
			keeps(t, call{args: example.call.args, stdin: in})
		})
	}
}

func (c contract) run(t tester, next call) result {
	t.Helper()
	answer, isEndless := c.endless[next.key()]
	if !isEndless {
		answer = func() (result, error) { return c.hook.answer(next) }
	}
	r, err := answer()
	if err != nil {
		t.Fatalf("%v: it cannot be run: %v", next, err)
	}
	return r
}

// endlessCalls returns the answers to the calls whose stdin does not end and that a hook may answer
// only when its time is over: releases, and stops of the example. These calls run at once, so that
// they wait once. Those of a process have begun, and wait waits for them.
func (c contract) endlessCalls(stops []stop) (answers map[string]func() (result, error), wait func()) {
	var calls []call
	add := func(args []string, xml []byte) {
		for _, in := range variants(xml) {
			if in.endless {
				calls = append(calls, call{args: args, stdin: in})
			}
		}
	}
	for _, op := range operations() {
		if op.Op == hookproto.OpRelease {
			add(arguments(op), capturedXML(op.Op))
		}
	}
	if len(stops) > 0 {
		example := exampleOf(stops).call
		add(example.args, example.stdin.data)
	}
	results, errs := make([]result, len(calls)), make([]error, len(calls))
	var group sync.WaitGroup
	begin := sync.OnceFunc(func() {
		for i, next := range calls {
			group.Go(func() { results[i], errs[i] = c.hook.answer(next) })
		}
	})
	if c.process {
		begin()
	}
	answers = map[string]func() (result, error){}
	for i, next := range calls {
		answers[next.key()] = func() (result, error) {
			begin()
			group.Wait()
			// It is not known which of several calls of a function has printed.
			if !c.process && slices.ContainsFunc(results, func(r result) bool { return r.stdout != "" }) {
				return c.hook.answer(next)
			}
			return results[i], errs[i]
		}
	}
	return answers, group.Wait
}

func (c contract) atOnce(t tester, calls []call) []result {
	t.Helper()
	results, errs := make([]result, len(calls)), make([]error, len(calls))
	var group sync.WaitGroup
	limit := make(chan struct{}, 4) // so that a small machine does not delay each of them
	for i, next := range calls {
		group.Go(func() {
			limit <- struct{}{}
			results[i], errs[i] = c.hook.answer(next)
			<-limit
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%v: it cannot be run: %v", calls[i], err)
		}
	}
	return results
}

func (c contract) harmless(t tester, next call) {
	t.Helper()
	c.checkHarmless(t, next, c.run(t, next))
}

func (c contract) answered(t tester, next call) result {
	t.Helper()
	r := c.run(t, next)
	c.checkAnswered(t, next, r)
	return r
}

func (c contract) fault(t tester, next call) {
	t.Helper()
	if r := c.answered(t, next); r.code != hookproto.ExitFault && !r.late && !r.hasDiedOfClosedStderr(next) {
		t.Errorf("%v: %s, want 2: what is not the protocol's must be refused as a fault", next, r.status())
	}
}

func (c contract) checkHarmless(t tester, next call, r result) {
	t.Helper()
	c.checkSound(t, next, r)
	if (r.code != hookproto.ExitAllow || r.signal != "") && !r.late {
		t.Errorf("%v: %s, want 0: a hook's failure %s; it prints %.200q", next, r.status(), effect(next.op()), r.stderr)
	} else if r.stderr != "" {
		t.Errorf("%v: %.200q on stderr, want nothing: only a refused stop has something to say", next, r.stderr)
	}
}

func (c contract) checkAnswered(t tester, next call, r result) {
	t.Helper()
	c.checkSound(t, next, r)
	switch {
	case r.late, r.hasDiedOfClosedStderr(next):
	case r.signal != "" || r.code < hookproto.ExitAllow || r.code > hookproto.ExitFault:
		t.Errorf("%v: %s, want 0 (go on), 1 (a veto) or 2 (a fault); it prints %.200q", next, r.status(), r.stderr)
	case next.closed == none:
		if wrong := misshapen(r.code, r.stderr); wrong != "" {
			t.Errorf("%v: %s: %s: %.200q", next, r.status(), wrong, r.stderr)
		}
	}
}

// checkSound asserts the properties that every call must have.
func (c contract) checkSound(t tester, next call, r result) {
	t.Helper()
	if r.late {
		t.Errorf("%v: it still ran after %v: libvirt has no timeout, and the whole host waits", next, c.Bound)
	}
	for _, left := range r.leftovers {
		t.Errorf("%v: it left behind %s: libvirt waits for all that holds its pipes", next, left)
	}
	if r.stdout != "" {
		t.Errorf("%v: %.200q on stdout, want nothing: %s", next, r.stdout, stdoutEffect(next.op()))
	}
}

// misshapen returns the error in the text of a stop's answer, or "".
func misshapen(code int, text string) string {
	if code == hookproto.ExitAllow {
		if text != "" {
			return "it lets the domain go and has something to say"
		}
		return ""
	}
	kind := map[int]string{hookproto.ExitVeto: "veto", hookproto.ExitFault: "fault"}[code]
	line, hasNewline := strings.CutSuffix(text, "\n")
	switch {
	case text == "":
		return "it refuses without saying why"
	case len(text) > maxLine:
		return fmt.Sprintf("it says %d bytes, at most 1024 with the newline stay readable behind libvirt's own text", len(text))
	case !utf8.ValidString(text):
		return "it says invalid UTF-8"
	case strings.Contains(line, "\n"):
		return "it says more than one line"
	case !hasNewline:
		return "its line does not end"
	}
	for _, r := range line {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("it says %U, which a terminal acts on", r)
		}
	}
	switch {
	case !strings.HasPrefix(line, "stopguard: "+kind+": "):
		return fmt.Sprintf("its line does not begin with %q, as that of exit %d", "stopguard: "+kind+": ", code)
	case kind == "fault" && !strings.Contains(line, "; to switch the guard off: chmod -x "):
		return "its line does not say how to switch the guard off"
	}
	return ""
}

// operations returns the operations of every driver but stop, each pair of operation and
// sub-operation once.
func operations() []hookproto.Operation {
	var found []hookproto.Operation
	seen := map[string]bool{string(hookproto.OpStop) + " begin": true}
	for _, op := range hookproto.Operations() {
		if key := string(op.Op) + " " + op.SubOp; !seen[key] {
			seen[key] = true
			found = append(found, op)
		}
	}
	return found
}

func arguments(op hookproto.Operation) []string {
	return []string{"pg-primary-01", string(op.Op), op.SubOp, "-"}
}

func effect(op hookproto.Op) string {
	for _, o := range hookproto.Operations() {
		if o.Op == op && o.Driver == "qemu" {
			return o.NonZero
		}
	}
	return "of what it does not know may break what it is not asked about"
}

func stdoutEffect(op hookproto.Op) string {
	if op == hookproto.OpMigrate || op == hookproto.OpRestore {
		return "it replaces the domain's XML"
	}
	return "in qemu.d it is the next hook's XML"
}
