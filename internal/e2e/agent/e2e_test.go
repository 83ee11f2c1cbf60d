//go:build e2e

// Package e2e tests the agent with the servers that it is made for: nginx for bundles, a registry,
// and Prometheus. All of them listen on loopback and end with the test.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
)

// agentProgram is the agent, as .ci/e2e built it.
const agentProgram = "STOPGUARD_E2E_AGENT"

// A process is a server that runs for a test.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// run starts a program that ends with the test.
func run(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A test that is killed takes its servers with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v; .ci/e2e installs what is missing", program, err)
	}
	p := &process{t: t, name: filepath.Base(program), cmd: cmd, log: log, done: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			content, _ := os.ReadFile(log.Name())
			t.Logf("%s said:\n%s", p.name, tail(content, 6000))
		}
		log.Close()
	})
	return p
}

func tail(content []byte, n int) []byte { return content[max(len(content)-n, 0):] }

// kill ends the process and all that it started, at once.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// A host is a folder with a host's files, and an agent.
type host struct {
	t      *testing.T
	root   string
	client *http.Client
	agent  *process
}

func newHost(t *testing.T, config string) *host {
	t.Helper()
	h := &host{t: t, root: t.TempDir()}
	h.write("/etc/stopguard/agent.yaml", config)
	socket := filepath.Join(h.root, "run/stopguard/agent.sock")
	h.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	return h
}

func (h *host) write(name, content string) {
	h.t.Helper()
	testhost.Put(h.t, h.root, name, content)
}

func (h *host) start() {
	h.t.Helper()
	program := os.Getenv(agentProgram)
	if program == "" {
		h.t.Fatalf("%s does not name the agent; run .ci/e2e", agentProgram)
	}
	h.agent = run(h.t, []string{"STOPGUARD_ROOT=" + h.root}, program)
	eventually(h.t, "the agent answers", func() error { _, err := h.get("/health"); return err })
}

func (h *host) get(path string) (string, error) {
	r, err := h.client.Get("http://agent" + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	content, err := io.ReadAll(r.Body)
	return string(content), err
}

// decide returns the messages of the decision about a domain.
func (h *host) decide() (string, error) {
	r, err := h.client.Post("http://agent/v1/data/stopguard/decision", "application/json", strings.NewReader(question))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Result struct {
			Outcome string
			Reasons []struct{ Message string }
		}
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return "", err
	}
	if r.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%d: %s", r.StatusCode, content)
	}
	parts := []string{answer.Result.Outcome}
	for _, reason := range answer.Result.Reasons {
		parts = append(parts, reason.Message)
	}
	return strings.Join(parts, ": "), nil
}

func (h *host) decides(want string) error {
	got, err := h.decide()
	if err == nil && got != want {
		err = fmt.Errorf("decided %q, not %q", got, want)
	}
	return err
}

const question = `{"input": {"version": 1, "operation": "stop", "time": "2026-11-22T12:00:00Z",
	"host": {"name": "kvm-07", "domains": []}, "caller": {"uid": -1, "user": "", "pid": 0},
	"domain": {"name": "web-01", "uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "id": 7, "type": "kvm", "title": "", "description": "",
		"memory_bytes": 1073741824, "vcpus": 1, "arch": "x86_64", "machine": "q35", "state": "running", "reason": "booted", "job": "",
		"disks": [], "interfaces": [], "hostdevs": [], "listed": [], "metadata": [], "metadata_error": ""},
	"xml": {"name": "domain", "namespace": "", "attributes": {}, "text": "", "children": []}}}`

// bundle is one whose rule vetoes every stop with the revision.
func bundle(t *testing.T, revision string) []byte {
	t.Helper()
	return testhost.Bundle(t, map[string]string{
		".manifest":       fmt.Sprintf(`{"revision": %q}`, revision),
		"fleet.rego":      fmt.Sprintf("package stopguard.rules.fleet\n\nveto contains %q if input.operation == \"stop\"\n", revision),
		"fleet_test.rego": "package stopguard.rules.fleet_test\n\ntest_a_stop if count(data.stopguard.rules.fleet.veto) == 1 with input as {\"operation\": \"stop\"}\n",
	})
}
