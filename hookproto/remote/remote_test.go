package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/hookproto/remote/serve"
)

// host returns a folder with a socket in it, as an agent creates it.
func host(t testing.TB) (string, *net.UnixListener) {
	t.Helper()
	// The path of a socket must be short, and t.TempDir's is not.
	root, err := os.MkdirTemp("/tmp", "sg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	path := filepath.Join(root, remote.Socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return root, l.(*net.UnixListener)
}

func answering(t testing.TB, h hookproto.Handler) remote.Agent {
	t.Helper()
	root, l := host(t)
	mux := http.NewServeMux()
	mux.Handle(remote.Path, serve.Handler(h))
	s := &http.Server{Handler: mux}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return remote.Agent{Root: root}
}

func stop(name, xml string) *hookproto.Event {
	return &hookproto.Event{Domain: name, Op: hookproto.OpStop, SubOp: "begin", Extra: "-", Stdin: strings.NewReader(xml)}
}

func run(h hookproto.Handler, args []string, xml string) string {
	var stderr bytes.Buffer
	code := hookproto.Run(context.Background(), append([]string{"/hook"}, args...), strings.NewReader(xml), &stderr, h)
	return fmt.Sprintf("%d %s", code, stderr.String())
}

var names = []string{"vm", "päivä 1", "a&arg=b", "x\ny", "100%", "\xff\xfe", "-v", strings.Repeat("ж", 300), "a+b c?d#e"}

// A hook's output is the same with an agent and without one.
func TestWhatAnAgentSaysIsWhatWouldHaveBeenSaidHere(t *testing.T) {
	for _, tt := range []struct {
		why    string
		answer error
	}{
		{"an allow", nil},
		{"a veto", &hookproto.Veto{Reason: "protected until 2099", Rule: "protection_mark", More: 2, Note: "not recorded: disk full"}},
		{"a veto of nothing but its kind", &hookproto.Veto{}},
		{"a wrapped veto", fmt.Errorf("x: %w", &hookproto.Veto{Reason: "inner"})},
		{"no veto", (*hookproto.Veto)(nil)},
		{"a fault", errors.New("the list cannot be read; correct it")},
		{"a fault without a word", errors.New("")},
		{"what is not UTF-8", &hookproto.Veto{Reason: strings.Repeat("\xff\xc0\x80 ", 400), Rule: "\xf0\x9f"}},
		{"what a terminal obeys", errors.New("\x1b[2J\u202e\r\n")},
		{"more than a line holds", &hookproto.Veto{Reason: strings.Repeat("ж\xffa", 5000), Rule: strings.Repeat("r", 5000), Note: strings.Repeat("\xff", 5000)}},
		{"much more", errors.New(strings.Repeat("\xe2\x82", 100_000))},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := func(context.Context, *hookproto.Event) error { return tt.answer }
			agent := answering(t, h)
			for _, name := range names {
				args := []string{name, "stop", "begin", "-"}
				if want, got := run(h, args, "<domain/>"), run(agent.Ask, args, "<domain/>"); got != want {
					t.Errorf("%q\n%q, not\n%q", name, got, want)
				}
			}
		})
	}
}

func TestAnAgentGetsWhatLibvirtGave(t *testing.T) {
	type seen struct{ guest, op, sub, extra, xml string }
	got := make(chan seen, 1)
	agent := answering(t, func(ctx context.Context, e *hookproto.Event) error {
		xml, err := e.XML(ctx)
		got <- seen{e.Domain, string(e.Op), e.SubOp, e.Extra, string(xml)}
		return err
	})
	largest := hookproto.MaxXML
	if testing.Short() {
		largest = 4 << 20 // more than a socket takes at once, and a sixteenth of the time
	}
	documents := []string{"<domain/>", "\x00\r\n\r\nPOST / HTTP/1.1\r\n\r\n", strings.Repeat("x", largest)}
	for i, name := range names {
		for _, xml := range documents[:3-min(i, 1)] { // the largest only once
			for _, want := range []seen{{name, "stop", "begin", "-", xml}, {name, "release", "end", "from snapshot", xml}} {
				e := &hookproto.Event{Domain: want.guest, Op: hookproto.Op(want.op), SubOp: want.sub, Extra: want.extra, Stdin: strings.NewReader(xml)}
				if err := agent.Ask(context.Background(), e); err != nil {
					t.Fatal(err)
				}
				if last := <-got; last != want {
					t.Fatalf("%.200q, not %.200q", fmt.Sprint(last), fmt.Sprint(want))
				}
			}
		}
	}
}

// Anything but a complete answer of a trusted agent is NoAnswer, and never an allow.
func TestWhatIsNoAnswerIsNone(t *testing.T) {
	allows := "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"outcome\":\"allow\"}"
	t.Run("the answer that the others are made of", func(t *testing.T) {
		if err := fakeAgent(t, allows).Ask(context.Background(), stop("vm", "<domain/>")); err != nil {
			t.Fatal(err)
		}
	})
	for _, tt := range []struct{ why, says string }{
		{"it hangs up", ""},
		{"another protocol", "220 smtp ready\r\n"},
		{"another status", strings.Replace(allows, "200", "404", 1)},
		{"a status that only begins so", strings.Replace(allows, "200", "2000", 1)},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n{\"outcome\":\"allow\"}"},
		{"two lengths", strings.Replace(allows, "\r\n\r\n", "\r\nContent-Length: 19\r\n\r\n", 1)},
		{"a length below zero", strings.Replace(allows, "19", "-1", 1)},
		{"a length that is too large", strings.Replace(allows, "19", "99999999999", 1)},
		{"less than it says", strings.Replace(allows, "19", "20", 1)},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 19\r\n\r\n{\"outcome\":\"allow\"}"},
		{"a header without an end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)},
		{"more header than there may be", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1<<16)},
		{"no JSON", body("allow")},
		{"nothing", body("")},
		{"an empty object", body("{}")},
		{"an unknown outcome", body(`{"outcome":"maybe"}`)},
		{"an allow with a reason", body(`{"outcome":"allow","reason":"eA=="}`)},
		{"a fault with a rule", body(`{"outcome":"fault","rule":"eA=="}`)},
		{"a field of a later version", body(`{"outcome":"allow","unless":"eA=="}`)},
		{"a key in other letters", body(`{"Outcome":"allow"}`)},
		{"a key in letters that fold", body("{\"outcome\":\"veto\",\"rea\u017fon\":\"eA==\"}")},
		{"a key twice", body(`{"outcome":"veto","outcome":"allow"}`)},
		{"a key twice, once in other letters", body(`{"outcome":"veto","OUTCOME":"allow"}`)},
		{"a key twice, once escaped", body(`{"outcome":"veto","\u006futcome":"allow"}`)},
		{"no outcome, twice", body(`{"outcome":"allow","reason":null,"reason":null}`)},
		{"null in place of a text", body(`{"outcome":"allow","fault":null}`)},
		{"null", body("null")},
		{"a bracket behind it", body(`{"outcome":"allow"}]`)},
		{"a brace behind it", body(`{"outcome":"allow"}}`)},
		{"a comma behind it", body(`{"outcome":"allow"},`)},
		{"a zero byte behind it", body("{\"outcome\":\"allow\"}\x00")},
		{"a comma before its end", body(`{"outcome":"allow",}`)},
		{"a list of one", body(`[{"outcome":"allow"}]`)},
		{"an end that is missing", body(`{"outcome":"allow"`)},
		{"moot with a fault", body(`{"outcome":"moot","fault":"eA=="}`)},
		{"two answers", body(`{"outcome":"allow"}{"outcome":"veto"}`)},
		{"a text that is not as agreed", body(`{"outcome":"veto","reason":"plain text"}`)},
		{"fewer vetoes than none", body(`{"outcome":"veto","more":-1}`)},
	} {
		t.Run(tt.why, func(t *testing.T) { none(t, fakeAgent(t, tt.says), stop("vm", "<domain/>")) })
	}
	t.Run("a handler that panics", func(t *testing.T) {
		none(t, answering(t, func(context.Context, *hookproto.Event) error { panic(http.ErrAbortHandler) }), stop("vm", "<domain/>"))
	})
	t.Run("a handler that says too late", func(t *testing.T) {
		agent := answering(t, func(ctx context.Context, _ *hookproto.Event) error {
			<-ctx.Done()
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		var n remote.NoAnswer
		if err := agent.Ask(ctx, stop("vm", "<domain/>")); !errors.As(err, &n) {
			t.Error(err)
		}
	})
	t.Run("no XML", func(t *testing.T) {
		none(t, fakeAgent(t, allows), stop("vm", ""))
	})
	t.Run("a name that cannot be", func(t *testing.T) {
		agent := answering(t, func(context.Context, *hookproto.Event) error { return nil })
		for _, name := range []string{"", "a/b"} {
			none(t, agent, stop(name, "<domain/>"))
		}
		e := stop("vm", "<domain/>")
		e.Op = hookproto.OpReconnect
		none(t, agent, e)
	})
}

func body(text string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

func none(t *testing.T, agent remote.Agent, e *hookproto.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var n remote.NoAnswer
	if err := agent.Ask(ctx, e); !errors.As(err, &n) || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
}

// fakeAgent returns an agent that answers every request with text.
func fakeAgent(t *testing.T, text string) remote.Agent {
	t.Helper()
	root, l := host(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				head := make([]byte, 64<<10)
				_, _ = c.Read(head)
				_, _ = io.WriteString(c, text)
			}()
		}
	}()
	return remote.Agent{Root: root}
}

func TestASocketThatIsNotRootsIsNotAsked(t *testing.T) {
	for _, tt := range []struct {
		why   string
		spoil func(root, socket string) error
	}{
		{"mode 0666", func(_, socket string) error { return os.Chmod(socket, 0o666) }},
		{"mode 0660", func(_, socket string) error { return os.Chmod(socket, 0o660) }},
		{"mode 0400", func(_, socket string) error { return os.Chmod(socket, 0o400) }},
		{"a folder that everybody may write", func(_, socket string) error { return os.Chmod(filepath.Dir(socket), 0o777) }},
		{"likewise, with a sticky bit", func(_, socket string) error { return os.Chmod(filepath.Dir(socket), 0o777|os.ModeSticky) }},
		{"a root that everybody may write", func(root, _ string) error { return os.Chmod(root, 0o777) }},
		{"a link to the socket", func(root, socket string) error {
			return errors.Join(os.Rename(socket, filepath.Join(root, "real")), os.Symlink(filepath.Join(root, "real"), socket))
		}},
		{"a link to its folder", func(root, socket string) error {
			dir := filepath.Dir(socket)
			return errors.Join(os.Rename(dir, filepath.Join(root, "real")), os.Symlink(filepath.Join(root, "real"), dir))
		}},
		{"a file", func(_, socket string) error {
			return errors.Join(os.Remove(socket), os.WriteFile(socket, nil, 0o600), os.Chmod(socket, 0o600))
		}},
		{"a FIFO", func(_, socket string) error { return errors.Join(os.Remove(socket), syscall.Mkfifo(socket, 0o600)) }},
		{"nothing", func(_, socket string) error { return os.Remove(socket) }},
		{"no folder", func(_, socket string) error { return os.RemoveAll(filepath.Dir(socket)) }},
		{"another user's socket", func(_, socket string) error { return os.Chown(socket, 65534, 0) }},
		{"a folder of another user", func(_, socket string) error { return os.Chown(filepath.Dir(socket), 65534, 0) }},
		{"a folder that another group may write", func(_, socket string) error {
			return errors.Join(os.Chown(filepath.Dir(socket), -1, 65534), os.Chmod(filepath.Dir(socket), 0o775))
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			agent := answering(t, func(context.Context, *hookproto.Event) error { return nil })
			if err := agent.Ask(context.Background(), stop("vm", "<domain/>")); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(agent.Root, filepath.Join(agent.Root, remote.Socket)); err != nil {
				if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
					t.Skip("only root gives a file to another user")
				}
				t.Fatal(err)
			}
			none(t, agent, stop("vm", "<domain/>"))
		})
	}
	t.Run("nobody listens any more", func(t *testing.T) {
		root, l := host(t)
		l.SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		none(t, remote.Agent{Root: root}, stop("vm", "<domain/>"))
	})
	t.Run("its listener has no room", func(t *testing.T) {
		root, l := host(t)
		raw, err := l.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), 0) }); err != nil {
			t.Fatal(err)
		}
		for range 3 { // connections that are never accepted
			if c, err := net.DialTimeout("unix", filepath.Join(root, remote.Socket), 20*time.Millisecond); err == nil {
				defer c.Close()
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		var n remote.NoAnswer
		if err := (remote.Agent{Root: root}).Ask(ctx, stop("vm", "<domain/>")); !errors.As(err, &n) {
			t.Error(err)
		}
	})
}
