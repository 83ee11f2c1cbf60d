package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/logging"
	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/agent/bundles"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/testhost"
)

// A host is a folder that stands for one.
type host struct {
	t    testing.TB
	root string
}

func newHost(t testing.TB, config string) host {
	t.Helper()
	h := host{t, testhost.SocketDir(t)}
	h.write(persisted.ConfigFile, config)
	return h
}

func (h host) path(name string) string { return filepath.Join(h.root, name) }

func (h host) write(name, content string) {
	h.t.Helper()
	testhost.Put(h.t, h.root, name, content)
}

// open returns the part that decides on the host, without the agent around it.
func (h host) open() *bundles.Store {
	h.t.Helper()
	c, err := readConfiguration(h.root)
	if err != nil {
		h.t.Fatal(err)
	}
	k, err := bundles.Open(h.t.Context(), h.root, c.Config, quiet())
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

func (h host) remove(name string) {
	h.t.Helper()
	if err := os.RemoveAll(h.path(name)); err != nil {
		h.t.Fatal(err)
	}
}

// quiet returns a log that discards its output.
func quiet() logging.Logger {
	log := logging.New()
	log.SetOutput(io.Discard)
	return log
}

// A running is an agent that runs in this process.
type running struct {
	*agent
	t      testing.TB
	log    *logBuffer
	reload chan struct{}
	client *http.Client
	ended  chan error
	cancel context.CancelFunc
}

// start runs an agent until the test ends or stop is called.
func (h host) start() *running {
	h.t.Helper()
	log := &logBuffer{}
	logger := logging.New()
	logger.SetOutput(log)
	logger.SetLevel(logging.Info)
	ctx, cancel := context.WithCancel(context.Background())
	a, err := newAgent(ctx, h.root, logger)
	if err != nil {
		cancel()
		h.t.Fatal(err)
	}
	r := &running{agent: a, t: h.t, log: log, reload: make(chan struct{}), ended: make(chan error, 1), cancel: cancel}
	r.client = socketClient(a.socketPath())
	go func() {
		err := a.run(ctx, r.reload)
		a.stop()
		r.ended <- err
	}()
	h.t.Cleanup(func() {
		r.stop()
		if h.t.Failed() {
			h.t.Logf("the agent's log:\n%s", log)
		}
	})
	h.eventually("the agent answers", func() error {
		_, _, err := r.get("/health")
		return err
	})
	return r
}

// socketClient asks whoever listens on a Unix socket.
func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

func (r *running) stop() {
	r.cancel()
	select {
	case err := <-r.ended:
		r.ended <- nil
		if err != nil {
			r.t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		r.t.Fatal("the agent does not stop")
	}
}

func (r *running) get(path string) (int, string, error) {
	response, err := r.client.Get("http://agent" + path)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

func (r *running) post(path, body string) (int, string, error) {
	response, err := r.client.Post("http://agent"+path, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// decide asks about a domain of the name.
func (r *running) decide(name string) (answer, error) {
	status, body, err := r.post(decisionPath, question(name))
	if err != nil {
		return answer{}, err
	}
	if status != http.StatusOK {
		return answer{}, fmt.Errorf("%d: %s", status, body)
	}
	var a answer
	return a, json.Unmarshal([]byte(body), &a)
}

// decides checks what is decided about a domain of the name, as "OUTCOME: the messages".
func (r *running) decides(name, want string) error {
	a, err := r.decide(name)
	if err != nil {
		return err
	}
	parts := []string{a.Result.Outcome}
	for _, reason := range a.Result.Reasons {
		parts = append(parts, reason.Message)
	}
	if got := strings.Join(parts, ": "); got != want {
		return fmt.Errorf("decided %q, not %q", got, want)
	}
	return nil
}

func question(name string) string {
	return fmt.Sprintf(`{"input": {"version": 1, "operation": "stop", "time": "2026-11-22T12:00:00Z",
		"host": {"name": "kvm-07", "domains": []}, "caller": {"uid": -1, "user": "", "pid": 0},
		"domain": {"name": %q, "uuid": "16e14a01-2b11-40de-a128-75e3f4a5fe12", "id": 7, "type": "kvm", "title": "", "description": "",
			"memory_bytes": 1073741824, "vcpus": 1, "arch": "x86_64", "machine": "q35", "state": "running", "reason": "booted", "job": "",
			"disks": [], "interfaces": [], "hostdevs": [], "listed": [], "metadata": [], "metadata_error": ""},
		"xml": {"name": "domain", "namespace": "", "attributes": {}, "text": "", "children": []}}}`, name)
}

// eventually waits for what must happen. A busy machine may need long: the agent looks less often
// at a host if a look takes long.
func (h host) eventually(what string, f func() error) {
	h.t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	h.t.Fatalf("%s: %v", what, err)
}

// A logBuffer is a log that is written while it is read.
type logBuffer struct{ testhost.Buffer }

func (b *logBuffer) has(text string) error {
	if !strings.Contains(b.String(), text) {
		return fmt.Errorf("the log does not say %q", text)
	}
	return nil
}

// saying is a bundle of a rule that vetoes every stop with the revision, and of a test of it.
func saying(revision string) map[string]string {
	return map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["stopguard/rules"]}`, revision),
		"fleet.rego": fmt.Sprintf(`package stopguard.rules.fleet

veto contains %q if input.operation == "stop"
`, revision),
		"fleet_test.rego": fmt.Sprintf(`package stopguard.rules.fleet_test

import data.stopguard.rules.fleet

test_a_stop_is_vetoed if fleet.veto == {%q} with input as {"operation": "stop"}

test_a_pause_is_not if fleet.veto == set() with input as {"operation": "pause"}
`, revision),
	}
}

// A bundleServer serves one bundle with an ETag, and can be stopped and started at the same
// address.
type bundleServer struct {
	t       testing.TB
	mu      sync.Mutex
	content []byte
	server  *httptest.Server
	address string
	kept    *os.File // keeps the address for up
	full    int      // answers with a bundle
}

func serveBundle(t testing.TB, files map[string]string) *bundleServer {
	s := &bundleServer{t: t}
	s.set(testhost.Bundle(t, files))
	s.up()
	t.Cleanup(func() { s.down(); _ = s.kept.Close() })
	return s
}

func (s *bundleServer) set(content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content = content
}

func (s *bundleServer) up() {
	s.t.Helper()
	address := s.address
	if address == "" {
		address = "127.0.0.1:0"
	}
	if s.kept != nil {
		_ = s.kept.Close()
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s}}
	s.server.Start()
	s.address = l.Addr().String()
}

// down refuses connections. Otherwise another test could be given the address.
func (s *bundleServer) down() {
	s.server.CloseClientConnections()
	s.server.Close()
	if s.kept != nil {
		_ = s.kept.Close()
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.kept = os.NewFile(uintptr(socket), s.address)
	address := &unix.SockaddrInet4{Port: int(netip.MustParseAddrPort(s.address).Port()), Addr: [4]byte{127, 0, 0, 1}}
	// A process that another test is just starting has the listener until it is executed.
	host{t: s.t}.eventually("the address is free", func() error { return unix.Bind(socket, address) })
}

func (s *bundleServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	content := s.content
	s.mu.Unlock()
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.mu.Lock()
	s.full++
	s.mu.Unlock()
	_, _ = w.Write(content)
}

// config asks the server for the bundle fleet, quickly.
func (s *bundleServer) config(more string) string {
	return fmt.Sprintf(`
services:
  plane:
    url: http://%s
bundles:
  fleet:
    service: plane
    resource: fleet.tar.gz
    polling: {min_delay_seconds: 1, max_delay_seconds: 1}
%s`, s.address, more)
}
