package thinhook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/hookproto/remote/serve"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/record"
)

// programs are the thin program and the full one beside it, as a host has them.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sgthin")
	if err != nil {
		return "", err
	}
	folder = dir
	// The thin one is built as it is packaged, and starts faster than with a C library.
	if err := testhost.Build(repository+"cmd/"+thin, filepath.Join(dir, thin), "CGO_ENABLED=0"); err != nil {
		return "", err
	}
	if err := testhost.Build(repository+"cmd/"+full, filepath.Join(dir, full)); err != nil {
		return "", err
	}
	const first = "\nprogram=/usr/libexec/stopguard-hook\n"
	script := strings.Replace(hookproto.Front, first, "\nprogram="+filepath.Join(dir, full)+"\n", 1)
	return dir, os.WriteFile(filepath.Join(dir, front), []byte(script), 0o755)
})

var folder string

// TestMain lets a test run this binary as an agent.
func TestMain(m *testing.M) {
	if socket := os.Getenv("THIN_TEST_AGENT"); socket != "" {
		agentProcess(socket)
		return
	}
	code := m.Run()
	if folder != "" {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// agentProcess listens, and prints a line then and for each request. Depending on its environment
// it allows everything, or never answers.
func agentProcess(socket string) {
	l, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o600)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("listens")
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Println("asked")
		if os.Getenv("THIN_TEST_ALLOWS") != "" {
			serve.Handler(func(context.Context, *hookproto.Event) error { return nil }).ServeHTTP(w, r)
			return
		}
		<-r.Context().Done()
	})}
	_ = s.Serve(l)
}

func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

const (
	thin  = "stopguard-hook-thin"
	full  = "stopguard-hook"
	front = "50-stopguard" // the shell script before them
)

const (
	repository = "../../"
	pgPrimary  = "pg-primary-01"
	pgCapture  = repository + "testdata/captures/pg-primary-01/stop/stdin.xml"
	pgVeto     = "exit 1\nstopguard: veto: pg-primary-01: protected until 2099-06-30T00:00Z: billing primary (rule protection_mark)\n"
)

// newHost makes a host's folder of pairs of path and content, with a daemon if libvirt keeps any
// state there. Its path is short enough for that of a socket.
func newHost(t testing.TB, pairs ...string) string {
	t.Helper()
	root := testhost.SocketDir(t)
	testhost.Put(t, root, pairs...)
	if slices.ContainsFunc(pairs, func(path string) bool { return strings.HasPrefix(path, "run/libvirt/qemu/") }) {
		testhost.Daemon(t, root)
	}
	return root
}

// command is a hook program as the front runs it.
func command(t testing.TB, root, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin", "HOME=/", "STOPGUARD_ROOT=" + root, "STOPGUARD_HOOK=/etc/libvirt/hooks/qemu.d/50-stopguard"}
	return cmd
}

// answer runs a command and returns the answer as the front would pass it on.
func answer(t testing.TB, cmd *exec.Cmd, root string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return ended(t, cmd, root)
}

func ended(t testing.TB, cmd *exec.Cmd, root string) string {
	t.Helper()
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if out := cmd.Stdout.(*bytes.Buffer).String(); out != "" {
		t.Errorf("stdout: %q", out)
	}
	line := strings.TrimSuffix(cmd.Stderr.(*bytes.Buffer).String(), "stopguard: allow\n")
	line = strings.ReplaceAll(line, filepath.Join(folder, front), "/etc/libvirt/hooks/qemu.d/50-stopguard")
	return fmt.Sprintf("exit %d\n%s", cmd.ProcessState.ExitCode(), strings.ReplaceAll(line, root, "ROOT"))
}

func ask(t testing.TB, root, name, stdin string, args ...string) string {
	t.Helper()
	cmd := command(t, root, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return answer(t, cmd, root)
}

func askStop(t testing.TB, root, name string) string {
	t.Helper()
	return ask(t, root, name, string(read(t, pgCapture)), pgPrimary, "stop", "begin", "-")
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// listen opens the agent's socket below the root.
func listen(t testing.TB, root string) net.Listener {
	t.Helper()
	socket := filepath.Join(root, remote.Socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// withAgent runs an agent that decides by the host's files. requests returns the number of its
// requests.
func withAgent(t testing.TB, root string) (requests func() int) {
	t.Helper()
	var n int
	var mutex sync.Mutex
	h := serve.Handler(stopguard.Handler(stopguard.Config{Root: root}))
	mux := http.NewServeMux()
	mux.HandleFunc(remote.Path, func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		n++
		mutex.Unlock()
		h.ServeHTTP(w, r)
	})
	s, l := &http.Server{Handler: mux}, listen(t, root)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return func() int {
		mutex.Lock()
		defer mutex.Unlock()
		return n
	}
}

var varies = regexp.MustCompile(`"(decision_id|timestamp|timer_stopguard_decide_ns|time|pid|start)":("[^"]*"|\d+),?|,"metrics":\{[^}]*\}|in /tmp/[^"]*`)

// records returns the records below a root, without the parts that differ from run to run.
func records(t testing.TB, root string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, record.File))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return varies.ReplaceAllString(strings.ReplaceAll(string(content), root, "ROOT"), "")
}

// startAgent starts an agent's process. It allows everything if it runs as another user, and never
// answers otherwise.
func startAgent(t *testing.T, root string, as *syscall.Credential) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	socket := filepath.Join(root, remote.Socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if as != nil { // for as long as it makes the socket
		copied := filepath.Join(root, "agent")
		if err := os.WriteFile(copied, read(t, self), 0o755); err != nil {
			t.Fatal(err)
		}
		self = copied
		if err := errors.Join(os.Chown(root, int(as.Uid), 0), os.Chown(filepath.Dir(socket), int(as.Uid), 0)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(self)
	cmd.Dir = "/"
	cmd.Env = []string{"THIN_TEST_AGENT=" + socket}
	if as != nil {
		cmd.Env = append(cmd.Env, "THIN_TEST_ALLOWS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); line != "listens\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd, said
}
