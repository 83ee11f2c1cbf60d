package hooktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
)

// hookProgram keeps the contract, or breaks it as HOOK_DEFECT names.
var hookProgram = testhost.Program{Source: "./testdata/hook"}

func TestMain(m *testing.M) {
	code := m.Run()
	hookProgram.Remove()
	os.Exit(code)
}

// config returns the Config for a program with a defect; "" is none.
func config(t *testing.T, defect string) Config {
	t.Helper()
	flag := filepath.Join(t.TempDir(), "broken")
	return Config{
		Env: []string{"HOOK_DEFECT=" + defect, "HOOK_BROKEN=" + flag},
		Break: func(t *testing.T) {
			t.Helper()
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// recorder replaces a *testing.T and records the kit's failures.
type recorder struct {
	t     *testing.T
	name  string
	found *[]finding
	ran   map[string]bool
	skip  *regexp.Regexp // assertions that are left out to save time
}

type finding struct{ name, message string }

func record(t *testing.T) recorder {
	return recorder{t: t, found: new([]finding), ran: map[string]bool{}}
}

func (r recorder) Helper()                   {}
func (r recorder) breaks(f func(*testing.T)) { f(r.t) }
func (r recorder) Errorf(s string, args ...any) {
	*r.found = append(*r.found, finding{r.name, fmt.Sprintf(s, args...)})
}

func (r recorder) Fatalf(s string, args ...any) {
	r.Errorf(s, args...)
	r.t.Fatalf(s, args...)
}

func (r recorder) Run(name string, f func(tester)) {
	child := r
	child.name = r.name + "/" + name
	if r.ran[child.name] {
		r.t.Errorf("two assertions are called %q", child.name)
	}
	if r.ran[child.name] = true; r.skip == nil || !r.skip.MatchString(child.name) {
		f(child)
	}
}

func TestAGoodProgramKeepsTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel() // in parallel with the bad ones
	Binary(t, hookProgram.File(t), config(t, ""))
}

func TestAGoodHandlerKeepsTheContract(t *testing.T) {
	broken := false
	protect := func(ctx context.Context, e *hookproto.Event) error {
		if broken {
			return errors.New("the policy cannot be read; repair it")
		}
		xml, err := e.XML(ctx)
		switch {
		case err != nil:
			return err
		case bytes.Contains(xml, []byte("urn:stopguard:protection:1")):
			return &hookproto.Veto{Reason: "it is marked", Rule: "mark"}
		case !bytes.Contains(xml, []byte("</domain>")):
			return errors.New("this is no XML of a domain")
		}
		return nil
	}
	c := Config{Break: func(t *testing.T) {
		broken = true
		t.Cleanup(func() { broken = false })
	}}
	if testing.Short() {
		c.Break = nil // TestABadHandlerIsNamed breaks a policy
	}
	t.Parallel() // the tests that run beside it print nothing in this process
	Handler(t, protect, c)
	if broken {
		t.Error("what Break undoes is not undone")
	}
}

// slow matches assertions that do not concern the bad hooks, or that repeat others.
var slow = regexp.MustCompile(`the name "[^-a]|(a stop of "pg-primary-01"|release) .* no end|given (100|what|an end)|without a name|whatever its sub|however many`)

// Each defect is found where it is and nowhere else, and the message describes it.
func TestABadProgramIsNamed(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	program := hookProgram.File(t)
	const due = "is answered in due form"
	for _, tt := range []struct {
		defect string
		bound  time.Duration // 0 for the kit's own
		found  string        // in the name of an assertion that fails
		says   string
		only   string // a pattern that the names of all failing assertions match
	}{
		{"prints on reconnect", 0, "reconnect is let through, given its XML", `"reconnected\n" on stderr, want nothing`, `reconnect|every operation|operations`},
		{"exits 1 on start", 0, "start is let through, given its XML", "exit 1, want 0: a hook's failure aborts the start", `start |every operation|operations|arguments`},
		{"dies on started", 0, "started is let through, given its XML", "ended by the signal killed, want 0", `started |every operation|operations`},
		{"exits 1 on all that it does not know", 0, `the unknown operation "pause" is let through`, "exit 1, want 0", `unknown operation|the arguments`},
		{"parses flags", 0, `every operation is let through for the name "--help"`, "on stdout, want nothing: it replaces the domain's XML", ` "-|"stop" is|\["-|name --help|name -h|looks-like-a-flag|several at once`},
		{"takes help for a question", 0, "a stop with the name --help and no more is a fault", "exit 0, want 2", `--help|-h|looks-like-a-flag|several at once`},
		{"leaves a child that holds stderr", 0, "attach is let through, given its XML", `left behind the process "sleep"`, `attach|every operation|operations`},
		{"leaves a child that holds nothing", 0, "attach is let through, given its XML", `left behind the process "sleep"`, `attach|every operation|operations`},
		{"leaves a child of another session", 0, "attach is let through, given its XML", "left behind something that holds stderr", `attach|every operation|operations`},
		{"prints XML on migrate", 0, "migrate is let through, given its XML", "on stdout, want nothing: it replaces the domain's XML", `migrate|every operation|operations`},
		{"reads stdin for prepare", 5 * time.Second, "prepare is let through, given its XML and no end", "it still ran after 5s", `prepare is let through, given (its XML|nothing) and no end`},
		{"hangs on a stop", 50 * time.Millisecond, "a stop with an empty name is a fault", "libvirt has no timeout", `stop|a fault is one|prepare|start|release|attach|restore|migrate|reconnect|operation|arguments`},
		{"prints to stdout on stop", 0, `a stop of "web-01" ` + due, `"asked\n" on stdout, want nothing`, `stop|a fault`},
		{"refuses whatever its host says", 0, `a stop of "pg-primary-01" is let go, since it is dead`, "half stopped for ever; put a rule of its own into stopguard.Config.Rules", `pg-primary-01.* is let go, since`},
		{"warns and allows", 0, `a stop of "web-01" ` + due, "it lets the domain go and has something to say", `"web-01"|several at once`},
		{"prints two lines", 0, `a stop of "pg-primary-01" ` + due, "it says more than one line", `pg-primary-01|several at once`},
		{"prints an escape sequence", 0, `a stop of "pg-primary-01" ` + due, "it says U+001B, which a terminal acts on", `pg-primary-01|several at once`},
		{"prints 2 KiB", 0, `a stop of "pg-primary-01" ` + due, "at most 1024", `pg-primary-01|several at once`},
		{"exits 3", 0, `a stop of "pg-primary-01" ` + due, "exit 3, want 0 (go on), 1 (a veto) or 2 (a fault)", `pg-primary-01|several at once`},
		{"prints the name as it is", 0, `a stop of the name "a\nb" ` + due, "it says more than one line", `a stop of the name`},
		{"allows a stop without all of its arguments", 0, "a stop with a fifth argument is a fault", "exit 0, want 2", `a stop with`},
		{"vetoes a name with a slash", 0, "a stop with the name / is a fault", "exit 1, want 2", `the name /|a path`},
		{"allows if it cannot say why not", 0, `stays refused if it was, though nobody reads`, "must not turn a refusal into an allow", `though nobody reads`},
		{"allows what it cannot read", 0, "stays refused if it was, given half of its XML", "must not turn a refusal into an allow", `stays refused if it was`},
		{"allows when its policy is broken", 0, "with a broken policy/a stop is a fault", "no captured domain's stop exits with 2", `^/with a broken policy/a stop`},
		{"fails on release when its policy is broken", 0, "with a broken policy/release is let through, given its XML", "exit 2, want 0", `^/with a broken policy/.*(release|operation)`},
	} {
		t.Run(tt.defect, func(t *testing.T) {
			t.Parallel()
			c := config(t, tt.defect)
			if c.Bound = tt.bound; !strings.Contains(tt.defect, "broken") {
				c.Break = nil
			}
			r := record(t)
			r.skip = slow
			binary(r, program, c)
			judge(t, *r.found, tt.found, tt.says, tt.only)
		})
	}
}

func TestWhatAStopSays(t *testing.T) {
	const veto, fault, out = "stopguard: veto: vm: ", "stopguard: fault: vm: ", "; to switch the guard off: chmod -x hook\n"
	for _, tt := range []struct {
		why, text string
		code      int
		wrong     string // "" if nothing is wrong
	}{
		{"it allows", "", 0, ""},
		{"it vetoes", veto + "no\n", 1, ""},
		{"it vetoes in another script", veto + "Müller sagt ✓ нет\n", 1, ""},
		{"it fails", fault + "broken" + out, 2, ""},
		{"the longest line", veto + strings.Repeat("x", 1023-len(veto)) + "\n", 1, ""},
		{"one byte more", veto + strings.Repeat("x", 1024-len(veto)) + "\n", 1, "it says 1025 bytes"},
		{"an allow with a newline", "\n", 0, "has something to say"},
		{"silence", "", 1, "without saying why"},
		{"half a line", veto + "no", 1, "does not end"},
		{"two lines", veto + "no\nno\n", 1, "more than one line"},
		{"an empty line after it", veto + "no\n\n", 1, "more than one line"},
		{"a carriage return", veto + "no\rstopguard: allowed\n", 1, "it says U+000D"},
		{"a C1 control character", veto + "\u009b31m\n", 1, "it says U+009B"},
		{"a bidi character", veto + "\u202eno\n", 1, "it says U+202E"},
		{"a zero-width character", veto + "\u200bno\n", 1, "it says U+200B"},
		{"invalid UTF-8", veto + "\xff\n", 1, "invalid UTF-8"},
		{"a fault that means a veto", fault + "no" + out, 1, `does not begin with "stopguard: veto: ", as that of exit 1`},
		{"a veto that means a fault", veto + "no\n", 2, `does not begin with "stopguard: fault: ", as that of exit 2`},
		{"a fault without a way out", fault + "no\n", 2, "how to switch the guard off"},
		{"text of somebody else", "panic: no\n", 2, "does not begin"},
	} {
		if wrong := misshapen(tt.code, tt.text); !strings.Contains(wrong, tt.wrong) || (wrong == "") != (tt.wrong == "") {
			t.Errorf("%s: %q, want %q", tt.why, wrong, tt.wrong)
		}
	}
}

func judge(t *testing.T, findings []finding, found, says, only string) {
	t.Helper()
	named := false
	narrow := regexp.MustCompile(only)
	for _, f := range findings {
		named = named || strings.Contains(f.name, found) && strings.Contains(f.message, says)
		if !narrow.MatchString(f.name) {
			t.Errorf("%s fails too: %s", f.name, f.message)
		}
	}
	if !named {
		t.Errorf("nothing like %q: %q was found, but %q", found, says, findings)
	}
}

func TestABadHandlerIsNamed(t *testing.T) {
	for _, tt := range []struct {
		defect            string
		handler           hookproto.Handler
		found, says, only string
	}{
		{"it prints to stdout", func(_ context.Context, e *hookproto.Event) error {
			fmt.Print("asked about ", e.Op)
			return nil
		}, "release is let through, given its XML", `"asked about release" on stdout, want nothing`, "stop|release|every operation|operations"},
		{"it allows what it cannot read", func(ctx context.Context, e *hookproto.Event) error {
			if xml, err := e.XML(ctx); err == nil && bytes.Contains(xml, []byte("</domain>")) {
				return &hookproto.Veto{Reason: "it is marked"}
			}
			return nil
		}, "stays refused if it was, given half of its XML", "must not turn a refusal into an allow", "stays refused if it was, given"},
		{"it decides nothing", func(_ context.Context, e *hookproto.Event) error {
			if e.Op == hookproto.OpStop {
				return errors.New("the Go rule is called as another; give it another name")
			}
			return nil
		}, "with its policy as it is/a stop can be decided", "a fault: such a hook decides nothing", "with its policy as it is/a stop can be decided"},
		{"its Break breaks nothing", func(_ context.Context, e *hookproto.Event) error {
			if e.Op == hookproto.OpStop {
				return &hookproto.Veto{Reason: "as ever"}
			}
			return nil
		}, "with a broken policy/a stop is a fault", "either Break breaks nothing", "with a broken policy/a stop is a fault"},
	} {
		t.Run(tt.defect, func(t *testing.T) {
			r := record(t)
			r.skip = slow
			handler(r, tt.handler, Config{Break: func(*testing.T) {}})
			judge(t, *r.found, tt.found, tt.says, "with a broken policy/a stop is a fault|"+tt.only)
		})
	}
}

type hookFunc func(call) (result, error)

func (f hookFunc) answer(c call) (result, error) { return f(c) }

// The output of a function's calls that run at once is that of whichever ends first.
func TestWhatAFunctionPrintsIsOfItsOwnCall(t *testing.T) {
	var mutex sync.Mutex
	var printed string
	var calls atomic.Int32
	const atOnce = 4
	var all sync.WaitGroup
	all.Add(atOnce)
	hook := hookFunc(func(c call) (r result, err error) {
		if c.op() == hookproto.OpStop {
			mutex.Lock()
			printed += "asked\n"
			mutex.Unlock()
		}
		if calls.Add(1) <= atOnce {
			all.Done()
			all.Wait()
		}
		mutex.Lock()
		defer mutex.Unlock()
		r.stdout, printed = printed, ""
		return r, nil
	})
	args, xml := capturedStop("pg-primary-01")
	answers, _ := contract{hook: hook}.endlessCalls([]stop{{call: call{args: args, stdin: stdin{data: xml}}}})
	if len(answers) != atOnce {
		t.Errorf("%d calls, want %d", len(answers), atOnce)
	}
	for key, answer := range answers {
		r, err := answer()
		if want := map[bool]string{true: "asked\n"}[strings.Contains(key, `"stop"`)]; r.stdout != want || err != nil {
			t.Errorf("%s: %q, want %q; %v", key, r.stdout, want, err)
		}
	}
}

// This runs the kit with a real *testing.T, as a user does: the test runs itself in a child
// process.
func TestBinaryFailsTheTestOfABadProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	if path := os.Getenv("HOOKTEST_BAD"); path != "" {
		Binary(t, path, Config{Env: []string{"HOOK_DEFECT=exits 1 on start"}, SkipStop: true})
		return
	}
	for _, tt := range []struct{ path, says string }{
		{hookProgram.File(t), "--- FAIL: TestBinaryFailsTheTestOfABadProgram/with_its_policy_as_it_is/start_is_let_through,_given_its_XML"},
		{filepath.Join(t.TempDir(), "nothing"), "is no program; build it first"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestBinaryFailsTheTestOfABadProgram$")
		cmd.Env = append(os.Environ(), "HOOKTEST_BAD="+tt.path)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !bytes.Contains(out, []byte(tt.says)) {
			t.Errorf("%v; %q is not in %.2000s", err, tt.says, out)
		}
		if bytes.Contains(out, []byte("a_stop")) {
			t.Error("a stop is asked for despite SkipStop")
		}
	}
}

func TestNothingOfABadProgramRunsOn(t *testing.T) {
	t.Parallel() // it waits for a second
	c := config(t, "leaves a child that holds nothing")
	p := program{path: hookProgram.File(t), env: c.Env, bound: time.Minute}
	r, err := p.answer(call{args: []string{"pg-primary-01", "attach", "begin", "-"}})
	if err != nil || len(r.leftovers) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	// A zombie does not have an environment any more. A container's init may not reap it.
	running := func() (found []string) {
		entries, _ := os.ReadDir("/proc")
		for _, entry := range entries {
			environment, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
			if bytes.Contains(environment, []byte(c.Env[1])) {
				found = append(found, entry.Name())
			}
		}
		return found
	}
	for began := time.Now(); len(running()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > defaultBound/2 {
			t.Fatalf("processes %v run on", running())
		}
	}
}

// The captures of the package equal the module's, byte for byte.
func TestTheCapturesAreTheModules(t *testing.T) {
	n := 0
	err := fs.WalkDir(captures, "captures", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		want, err := os.ReadFile(filepath.Join("../../testdata", path))
		if err != nil {
			return err
		}
		if got, err := captures.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", path, err)
		}
		return nil
	})
	const calls = 11
	if err != nil || n != 2*calls {
		t.Errorf("%d files, %v", n, err)
	}
}

func TestTheArgumentsAreThoseOfTheCaptures(t *testing.T) {
	for _, op := range operations() {
		want, err := captures.ReadFile("captures/pg-primary-01/" + string(op.Op) + "/argv.json")
		if err != nil {
			continue // not captured
		}
		if got := `["` + strings.Join(arguments(op), `", "`) + `"]`; got != strings.TrimSpace(string(want)) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
