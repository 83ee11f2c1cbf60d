package hookproto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

type failing struct{ text string }

func (f failing) Error() string { return f.text }

type panicking struct{}

func (panicking) Error() string { panic("in Error") }

// handlers misbehave in every way that a Handler can; want is the answer to a stop.
var handlers = []struct {
	why     string
	handler Handler
	code    int
	line    string
}{
	{"allows", func(context.Context, *Event) error { return nil }, 0, ""},
	{"vetoes", func(context.Context, *Event) error { return &Veto{Reason: "protected", Rule: "calendar"} }, 1,
		"stopguard: veto: vm: protected (rule calendar)\n"},
	{"wraps a veto", func(context.Context, *Event) error { return fmt.Errorf("wrapped: %w", &Veto{Reason: "protected"}) }, 1,
		"stopguard: veto: vm: protected\n"},
	{"joins a veto", func(context.Context, *Event) error { return errors.Join(io.EOF, &Veto{Reason: "protected"}) }, 1,
		"stopguard: veto: vm: protected\n"},
	{"fails", func(context.Context, *Event) error { return failing{"the list is unreadable; fix it"} }, 2,
		faultLine("vm", "the list is unreadable; fix it", hookFile)},
	{"fails without a word", func(context.Context, *Event) error { return failing{} }, 2,
		faultLine("vm", "the guard failed without saying why; report this as a bug", hookFile)},
	{"returns a nil veto", func(context.Context, *Event) error { var v *Veto; return v }, 2,
		faultLine("vm", "the guard answered with a nil veto; report this as a bug", hookFile)},
	{"panics", func(context.Context, *Event) error { panic("oh\nno") }, 2,
		faultLine("vm", "the guard crashed: oh\nno; report this as a bug", hookFile)},
	{"panics with nil", func(context.Context, *Event) error { panic(nil) }, 2,
		faultLine("vm", "the guard crashed: panic called with nil argument; report this as a bug", hookFile)},
	{"panics in its error", func(context.Context, *Event) error { return panicking{} }, 2,
		faultLine("vm", "the guard crashed: in Error; report this as a bug", hookFile)},
	{"leaves by Goexit", func(context.Context, *Event) error { runtime.Goexit(); return nil }, 2,
		faultLine("vm", "the guard gave up without an answer; report this as a bug", hookFile)},
	{"is nil", nil, 2, faultLine("vm", "the guard has no handler; build the hook with one", hookFile)},
	{"hangs", func(context.Context, *Event) error { time.Sleep(time.Hour); return nil }, 2,
		faultLine("vm", "no decision within 2 s; try again, and look for a slow rule, a stuck disk or a host under load", hookFile)},
	{"hangs and then allows", func(context.Context, *Event) error { time.Sleep(answerTime + time.Millisecond); return nil }, 2,
		faultLine("vm", "no decision within 2 s; try again, and look for a slow rule, a stuck disk or a host under load", hookFile)},
	{"keeps to its context", func(ctx context.Context, _ *Event) error { <-ctx.Done(); return ctx.Err() }, 2,
		faultLine("vm", "context deadline exceeded", hookFile)},
	{"reads a stuck stdin", func(ctx context.Context, e *Event) error { _, err := e.XML(ctx); return err }, 2,
		faultLine("vm", "the domain XML on stdin did not end in time; run the stop again", hookFile)},
}

var stuck = readerFunc(func([]byte) (int, error) { time.Sleep(time.Hour); return 0, io.EOF })

// outlive waits in a synctest bubble until blocked handlers have ended.
func outlive() { time.Sleep(2 * time.Hour) }

func TestAStopGetsOneAnswer(t *testing.T) {
	for _, tt := range handlers {
		t.Run("the handler "+tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stderr bytes.Buffer
				began := time.Now()
				code := Run(t.Context(), []string{hookFile, "vm", "stop", "begin", "-"}, stuck, &stderr, tt.handler)
				if code != tt.code {
					t.Errorf("exit %d, want %d", code, tt.code)
				}
				if diff := cmp.Diff(tt.line, stderr.String()); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
				outlive()
			})
		})
	}
}

// A failing reconnect kills a running guest, and a failing prepare keeps a guest from starting.
// Even with a broken guard only a stop can be refused.
func TestOnlyAStopCanBeRefused(t *testing.T) {
	ops := Operations()
	for _, odd := range []Op{"", "STOP", "stop ", "stop\n", "stopp", "-", "start\x00", "shutdown", "port-created", "release "} {
		ops = append(ops, Operation{Driver: "qemu", Op: odd, SubOp: "begin"})
	}
	for _, op := range ops {
		if op.Op == OpStop {
			continue
		}
		t.Run(op.Driver+" "+string(op.Op)+" is never refused", func(t *testing.T) {
			for _, tt := range handlers {
				synctest.Test(t, func(t *testing.T) {
					var called, read atomic.Bool
					h := func(ctx context.Context, e *Event) error {
						called.Store(true)
						if tt.handler == nil {
							return failing{"x"}
						}
						return tt.handler(ctx, e)
					}
					stdin := readerFunc(func(p []byte) (int, error) { read.Store(true); return stuck(p) })
					stderr := writerFunc(func(p []byte) (int, error) { t.Errorf("printed %q", p); return len(p), nil })
					if code := Run(t.Context(), []string{hookFile, "vm", string(op.Op), op.SubOp, "-"}, stdin, stderr, h); code != 0 {
						t.Errorf("the handler %s: exit %d", tt.why, code)
					}
					if called.Load() != (op.Op == OpRelease) {
						t.Errorf("the handler %s: called is %t", tt.why, called.Load())
					}
					if read.Load() && op.Op != OpRelease {
						t.Errorf("the handler %s: stdin was read", tt.why)
					}
					outlive()
				})
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		why  string
		args []string
		code int
		says string
	}{
		{"nothing at all", nil, 0, ""},
		{"no arguments", []string{hookFile}, 0, ""},
		{"a name only", []string{hookFile, "stop"}, 0, ""},
		{"too few for a stop", []string{hookFile, "vm", "stop"}, 2, "fault: vm: 2 arguments instead of 4; "},
		{"three for a stop", []string{hookFile, "vm", "stop", "begin"}, 2, "3 arguments instead of 4; "},
		{"too many for a stop", []string{hookFile, "vm", "stop", "begin", "-", "x"}, 2, "5 arguments instead of 4; "},
		{"the wrong sub-operation", []string{hookFile, "vm", "stop", "end", "-"}, 2, "sub-operation is not begin; "},
		{"an empty sub-operation", []string{hookFile, "vm", "stop", "", "-"}, 2, "sub-operation is not begin; "},
		{"an empty name", []string{hookFile, "", "stop", "begin", "-"}, 2, `fault: "": the domain's name is empty; `},
		{"a name with a slash", []string{hookFile, "../x", "stop", "begin", "-"}, 2, "fault: ../x: the domain's name has a slash"},
		{"too few for a release", []string{hookFile, "vm", "release"}, 0, ""},
		{"a release of no name", []string{hookFile, "", "release", "end", "-"}, 0, ""},
		{"a release with a slash", []string{hookFile, "a/b", "release", "end", "-"}, 0, ""},
		{"a release that begins", []string{hookFile, "vm", "release", "begin", "-"}, 0, ""},
		{"too few for a start", []string{hookFile, "vm", "start"}, 0, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var stderr bytes.Buffer
			code := Run(t.Context(), tt.args, nil, &stderr, func(context.Context, *Event) error {
				t.Error("the handler was called")
				return nil
			})
			if code != tt.code || !strings.Contains(stderr.String(), tt.says) || (tt.says == "") != (stderr.Len() == 0) {
				t.Errorf("exit %d, %q", code, stderr.String())
			}
		})
	}
}

func TestANameIsNeverAFlag(t *testing.T) {
	for _, name := range []string{"--help", "-h", "-", "--", "-test.v", "stop", "release", "$(reboot)", "a b", "a\nb"} {
		t.Run(name, func(t *testing.T) {
			var got Event
			code := Run(t.Context(), []string{hookFile, name, "stop", "begin", "-"}, nil, io.Discard, func(_ context.Context, e *Event) error {
				got.Domain, got.Op, got.SubOp, got.Extra = e.Domain, e.Op, e.SubOp, e.Extra
				return &Veto{Reason: "r"}
			})
			if code != 1 || got.Domain != name || got.Op != OpStop || got.SubOp != "begin" || got.Extra != "-" {
				t.Errorf("exit %d, event %q %q %q %q", code, got.Domain, got.Op, got.SubOp, got.Extra)
			}
		})
	}
}

func TestTheCapturesOfLibvirt(t *testing.T) {
	files, _ := filepath.Glob("../testdata/captures/*/*/argv.json")
	if len(files) == 0 {
		t.Fatal("there are none")
	}
	for _, file := range files {
		t.Run(filepath.Dir(file)[len("../testdata/captures/"):], func(t *testing.T) {
			var argv []string
			data, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(data, &argv)
			}
			if err != nil {
				t.Fatal(err)
			}
			xml, err := os.ReadFile(filepath.Join(filepath.Dir(file), "stdin.xml"))
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			calls := 0
			code := Run(t.Context(), append([]string{hookFile}, argv...), bytes.NewReader(xml), &stderr, func(ctx context.Context, e *Event) error {
				calls++
				if got, err := e.XML(ctx); !bytes.Equal(got, xml) || err != nil || e.Domain != argv[0] || string(e.Op) != argv[1] || e.Extra != argv[3] {
					t.Errorf("the event is %q %q with %d bytes, %v", e.Domain, e.Op, len(got), err)
				}
				return &Veto{Reason: "protected"}
			})
			want := struct {
				code, calls int
				line        string
			}{}
			switch argv[1] {
			case "stop":
				want.code, want.calls, want.line = 1, 1, vetoLine(argv[0], &Veto{Reason: "protected"})
			case "release":
				want.calls = 1
			}
			if code != want.code || calls != want.calls || stderr.String() != want.line {
				t.Errorf("exit %d, %d calls, %q", code, calls, stderr.String())
			}
		})
	}
}

func TestTheHandlerHasLessTimeThanTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		Run(t.Context(), []string{hookFile, "vm", "stop", "begin", "-"}, nil, io.Discard, func(ctx context.Context, _ *Event) error {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != 1900*time.Millisecond {
				t.Errorf("the context ends in %v", time.Until(deadline))
			}
			return nil
		})
	})
}

func TestTheExitCodeStandsWithoutStderr(t *testing.T) {
	for _, tt := range []struct {
		why    string
		stderr io.Writer
	}{
		{"it is nil", nil},
		{"it fails", writerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe })},
		{"it panics", writerFunc(func([]byte) (int, error) { panic("oh no") })},
		{"it is stuck", writerFunc(func([]byte) (int, error) { time.Sleep(time.Hour); return 0, nil })},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				code := Run(t.Context(), []string{hookFile, "vm", "stop", "begin", "-"}, nil, tt.stderr,
					func(context.Context, *Event) error { return &Veto{Reason: "r"} })
				if code != 1 || time.Since(began) > time.Second {
					t.Errorf("exit %d after %v", code, time.Since(began))
				}
				outlive()
			})
		})
	}
}

func TestALineIsWrittenAtOnce(t *testing.T) {
	writes := 0
	Run(t.Context(), []string{hookFile, "vm", "stop", "begin", "-"}, nil,
		writerFunc(func(p []byte) (int, error) { writes++; return len(p), nil }),
		func(context.Context, *Event) error { return &Veto{Reason: strings.Repeat("r", 1<<20)} })
	if writes != 1 {
		t.Errorf("%d writes", writes)
	}
}

func FuzzRunArgs(f *testing.F) {
	f.Add("vm", "stop", "begin", "-", 4)
	f.Add("vm", "reconnect", "begin", "-", 4)
	f.Add("--help", "release", "end", "destroyed", 3)
	f.Fuzz(func(t *testing.T, name, op, subOp, extra string, n int) {
		args := []string{hookFile, name, op, subOp, extra, extra}
		args = args[:min(max(n, 0), 5)+1]
		var stderr bytes.Buffer
		called := false
		code := Run(t.Context(), args, nil, &stderr, func(context.Context, *Event) error { called = true; return failing{extra} })
		if len(args) > 2 && op == "stop" {
			if code != 2 {
				t.Errorf("%q: exit %d", args, code)
			}
			checkLine(t, stderr.String())
			return
		}
		if code != 0 || stderr.Len() > 0 || called && op != "release" {
			t.Errorf("%q: exit %d, called %t, %q", args, code, called, stderr.String())
		}
	})
}
