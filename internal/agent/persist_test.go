package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// TestMain lets a test run this binary as the agent itself, so that it can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("AGENT_TEST_RUN") != "" {
		os.Exit(Main([]string{"stopguard-agent"}))
	}
	if os.Getenv("AGENT_TEST_GUEST") != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	if socket := os.Getenv("AGENT_TEST_ASK"); socket != "" {
		ask(socket)
		return
	}
	os.Exit(testhost.RunWaiting(m))
}

// deadConfig names a server that is not there.
func deadConfig(t testing.TB) string {
	s := serveBundle(t, saying("none"))
	config := s.config("")
	s.down()
	return config
}

func TestAnAgentStartsWithoutItsServer(t *testing.T) {
	h := newHost(t, deadConfig(t))
	h.write("/etc/libvirt/protected-domains", "web-01\n")
	began := time.Now()
	a := h.start()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := a.log.has("there is no bundle yet"); err != nil {
		t.Error(err)
	}
	status, body, err := a.get("/health")
	if err != nil || status != http.StatusOK || !strings.Contains(body, noBundle) {
		t.Errorf("health: %d %s %v", status, body, err)
	}
	if status, body, err = a.get("/health?bundles"); err != nil || status != http.StatusInternalServerError || !strings.Contains(body, "bundle fleet is not active") {
		t.Errorf("health?bundles: %d %s %v", status, body, err)
	}
	if _, body, err = a.get("/metrics"); err != nil || !strings.Contains(body, "stopguard_bundles 0") || !strings.Contains(body, "stopguard_ready 1") {
		t.Errorf("metrics: %v", err)
	}
	if c, err := hostpolicy.Load(h.root); err != nil || len(c.Sites) != 0 {
		t.Errorf("the full hook: %d sites, %v", len(c.Sites), err)
	}
}

func TestTheLastGoodBundleDecidesAfterAStartWithoutTheServer(t *testing.T) {
	t.Parallel()
	server := serveBundle(t, saying("r1"))
	h := newHost(t, server.config(""))
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	a.stop()
	server.down()

	a = h.start()
	if err := a.decides("web-01", "veto: r1"); err != nil {
		t.Error(err)
	}
	if status, body, err := a.get("/health?bundles"); err != nil || status != http.StatusOK {
		t.Errorf("health?bundles: %d %s %v", status, body, err)
	}
	config, err := hostpolicy.Load(h.root)
	if err != nil || len(config.Sites) != 1 || config.Sites[0].Revision != "r1" {
		t.Errorf("the full hook: %+v, %v", config.Sites, err)
	}

	server.set(testhost.Bundle(t, saying("r2")))
	server.up()
	h.eventually("the server is asked again", func() error { return a.decides("web-01", "veto: r2") })
}

func TestADamagedStateRefusesUntilTheBundleIsThereAgain(t *testing.T) {
	t.Parallel()
	const folder = "/var/lib/stopguard/agent/"
	archive := func(h host) string {
		files, err := filepath.Glob(h.path(folder + "bundles/*.tar.gz"))
		if err != nil || len(files) != 1 {
			h.t.Fatal(files, err)
		}
		return files[0]
	}
	for name, harm := range map[string]func(h host){
		"the archive is torn":    func(h host) { h.cut(archive(h)) },
		"the archive is altered": func(h host) { h.flip(archive(h)) },
		"the archive is gone":    func(h host) { os.Remove(archive(h)) },
		"the state is torn":      func(h host) { h.cut(h.path(folder + "state.json")) },
		"the state is gone":      func(h host) { h.remove(folder + "state.json") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serveBundle(t, saying("r1"))
			h := newHost(t, server.config(""))
			a := h.start()
			h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
			a.stop()
			server.down()
			harm(h)

			a = h.start()
			status, body, err := a.post(decisionPath, question("web-01"))
			if err != nil || status != http.StatusInternalServerError || !strings.Contains(body, "evaluation_error") || !strings.Contains(body, "; ") {
				t.Errorf("a decision by less than there was: %d %s %v", status, body, err)
			}
			if status, body, err := a.get("/health"); err != nil || status != http.StatusInternalServerError {
				t.Errorf("health: %d %s %v", status, body, err)
			}
			if _, err := hostpolicy.Load(h.root); err == nil {
				t.Error("the full hook decides by less than there was")
			}
			server.up()
			h.eventually("it is downloaded again", func() error { return a.decides("web-01", "veto: r1") })
			if c, err := hostpolicy.Load(h.root); err != nil || len(c.Sites) != 1 {
				t.Errorf("the full hook: %d sites, %v", len(c.Sites), err)
			}
		})
	}
}

func (h host) cut(path string) {
	h.t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h host) flip(path string) {
	h.t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		content[len(content)/2] ^= 1
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// An agent that is killed at any moment, here while bundles come in one after the other, leaves a
// state that the full hook and the next agent can decide by, and never an older one than it had
// decided by.
func TestAnAgentMayBeKilledAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	const kills = 12
	server := serveBundle(t, saying("r0"))
	h := newHost(t, server.config(""))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	revision, last := 0, 0
	for kill := range kills {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), "AGENT_TEST_RUN=1", "STOPGUARD_ROOT="+h.root)
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		client := h.client()
		h.eventually("the agent answers", func() error { return h.decided(client, &last) })
		end := time.Now().Add(time.Duration(1000+kill*37) * time.Millisecond)
		for time.Now().Before(end) {
			revision++
			server.set(testhost.Bundle(t, saying(fmt.Sprintf("r%d", revision))))
			time.Sleep(5 * time.Millisecond)
			if err := h.decided(client, &last); err != nil {
				t.Fatalf("%v\n%s", err, log.String())
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		config, err := hostpolicy.Load(h.root)
		if err != nil || len(config.Sites) != 1 {
			t.Fatalf("kill %d: the full hook: %d sites, %v\n%s", kill, len(config.Sites), err, log.String())
		}
		var persisted int
		if _, err := fmt.Sscanf(config.Sites[0].Revision, "r%d", &persisted); err != nil || persisted < last {
			t.Fatalf("kill %d: persisted is %s, and r%d had decided (%v)", kill, config.Sites[0].Revision, last, err)
		}
	}
	if last < kills/2 {
		t.Errorf("only %d bundles were decided by, which proves nothing", last)
	}
}

func (h host) client() *running {
	a := &agent{root: h.root, config: configuration{settings: settings{Socket: defaultSocket}}}
	return &running{agent: a, t: h.t, client: socketClient(a.socketPath())}
}

// decided asks, and notes the revision that decided, which never gets older.
func (h host) decided(r *running, last *int) error {
	a, err := r.decide("web-01")
	if err != nil {
		return err
	}
	var revision int
	if len(a.Result.Reasons) != 1 {
		content, _ := json.Marshal(a)
		return fmt.Errorf("no bundle decided: %s", content)
	}
	if _, err := fmt.Sscanf(a.Result.Reasons[0].Message, "r%d", &revision); err != nil {
		return err
	}
	if revision < *last {
		return fmt.Errorf("r%d decides after r%d had", revision, *last)
	}
	*last = revision
	return nil
}

func TestAHostsOwnFilesAreHeededAtOnce(t *testing.T) {
	t.Parallel()
	server := serveBundle(t, saying("r1"))
	h := newHost(t, server.config(""))
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	h.write("/etc/stopguard/policy/own.rego", "package stopguard.rules.own\n\nveto contains \"own\" if input.operation == \"stop\"\n")
	h.eventually("the host's rule decides too", func() error { return a.decides("web-01", "veto: r1: own") })
	h.write("/etc/stopguard/policy/own.rego", "package stopguard.rules.own\n\nvetos contains \"own\" if true\n")
	h.eventually("a broken rule refuses, as in the full hook", func() error {
		status, body, err := a.post(decisionPath, question("web-01"))
		if err == nil && (status != http.StatusInternalServerError || !strings.Contains(body, "protects nothing")) {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
	if _, err := a.bundles.Engine(t.Context()); err == nil {
		t.Error("a hook's question is decided by a broken rule")
	}
	h.remove("/etc/stopguard/policy/own.rego")
	if _, err := a.bundles.Engine(t.Context()); err != nil {
		t.Errorf("a hook's question waits for the next look at the files: %v", err)
	}
}
