package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/testsigner"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// keysOf returns the section of the configuration with a key.
func keysOf(s testsigner.Signer) string {
	return "keys:\n  fleet:\n    algorithm: ES256\n    key: |\n      " + strings.ReplaceAll(strings.TrimSpace(s.Public), "\n", "\n      ") + "\n"
}

func TestWithKeysNothingUnsignedIsActivated(t *testing.T) {
	t.Parallel()
	right, wrong := testsigner.New(t), testsigner.New(t)
	server := serveBundle(t, right.Sign(t, saying("r1"), "fleet"))
	// The section signing is missing: OPA by itself would accept an unsigned bundle then.
	h := newHost(t, server.config(keysOf(right)))
	a := h.start()
	h.eventually("what is signed decides", func() error { return a.decides("web-01", "veto: r1") })
	for name, content := range map[string][]byte{
		"unsigned":              testhost.Bundle(t, saying("r2")),
		"signed by another key": testhost.Bundle(t, wrong.Sign(t, saying("r2"), "fleet")),
		"a file more than was signed": func() []byte {
			files := right.Sign(t, saying("r2"), "fleet")
			files["more.rego"] = "package stopguard.rules.more\n\nveto contains \"more\" if input.operation == \"stop\"\n"
			return testhost.Bundle(t, files)
		}(),
		"a file changed": func() []byte {
			files := right.Sign(t, saying("r2"), "fleet")
			files["fleet.rego"] = saying("r3")["fleet.rego"]
			return testhost.Bundle(t, files)
		}(),
	} {
		seen := len(a.log.String())
		server.set(content)
		h.eventually("OPA reports what is "+name, func() error {
			if !strings.Contains(a.log.String()[seen:], "level=error") {
				return fmt.Errorf("nothing is reported")
			}
			return nil
		})
		if err := a.decides("web-01", "veto: r1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.set(testhost.Bundle(t, right.Sign(t, saying("r4"), "fleet")))
	h.eventually("what is signed decides", func() error { return a.decides("web-01", "veto: r4") })
	a.stop()
	server.down()
	if c, err := hostpolicy.Load(h.root); err != nil || c.Sites[0].Revision != "r4" {
		t.Errorf("the full hook: %v", err)
	}
	// The key is exchanged: what it signed is not believed any more.
	h.write("/etc/stopguard/agent.yaml", server.config(keysOf(wrong)))
	if _, err := hostpolicy.Load(h.root); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("the full hook believes a key that is gone: %v", err)
	}
	a = h.start()
	if _, err := a.decide("web-01"); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("the agent believes a key that is gone: %v", err)
	}
}

func TestAFolderIsWatched(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	h := newHost(t, "")
	for name, content := range saying("r1") {
		h.write("fleet/"+name, content)
	}
	h.write("/etc/stopguard/agent.yaml", fmt.Sprintf("bundles: {fleet: {resource: 'file://%s'}}", h.path("fleet")))
	a := h.start()
	h.eventually("the folder decides", func() error { return a.decides("web-01", "veto: r1") })
	for name, content := range saying("r2") {
		h.write("fleet/"+name, content)
	}
	h.eventually("its change decides", func() error { return a.decides("web-01", "veto: r2") })
	h.write("fleet/fleet.rego", "package stopguard.rules.fleet\n\nveto contains\n")
	h.eventually("a slip is reported", func() error { return a.log.has("Bundle load failed") })
	if err := a.decides("web-01", "veto: r2"); err != nil {
		t.Error(err)
	}
	if c, err := hostpolicy.Load(h.root); err != nil || len(c.Sites) != 1 || c.Sites[0].Revision != "r2" {
		t.Errorf("the full hook: %+v %v", c.Sites, err)
	}
}

func TestWhatIsDiscoveredIsHeededAndKept(t *testing.T) {
	t.Parallel()
	bundles := serveBundle(t, saying("r1"))
	config := func(more string) []byte {
		return testhost.Bundle(t, map[string]string{"data.json": fmt.Sprintf(`{"discovered": {
			"services": {"plane": {"url": "http://%s"}},
			%s
			"bundles": {"fleet": {"service": "plane", "resource": "fleet.tar.gz", "polling": {"min_delay_seconds": 1, "max_delay_seconds": 1}}}}}`, bundles.address, more)})
	}
	discovery := serveBundle(t, nil)
	discovery.set(config(""))
	h := newHost(t, fmt.Sprintf(`
services: {boss: {url: 'http://%s'}}
discovery: {service: boss, resource: d.tar.gz, decision: discovered, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}
`, discovery.address))
	a := h.start()
	h.eventually("the bundle that was discovered decides", func() error { return a.decides("web-01", "veto: r1") })
	h.eventually("what was discovered is kept", func() error { _, err := a.config.Folder.ReadDiscovered(); return err })

	discovery.set(config(`"keys": {"x": {"key": "y"}},`))
	h.eventually("who sends it does not say who may sign", func() error { return a.log.has("keys may not be discovered") })
	a.stop()
	discovery.down()

	// The server of the configuration is dead, and that of the bundles has a new one.
	bundles.set(testhost.Bundle(t, saying("r2")))
	a = h.start()
	h.eventually("the bundle's server is asked, though nobody says where it is", func() error { return a.decides("web-01", "veto: r2") })
	discovery.set(testhost.Bundle(t, map[string]string{"data.json": fmt.Sprintf(`{"discovered": {
		"services": {"plane": {"url": "http://%s"}}, "bundles": {}}}`, bundles.address)}))
	discovery.up()
	h.eventually("a bundle that is not discovered any more does not decide", func() error { return a.decides("web-01", "allow") })
}

func TestARefusedBundleIsReportedToTheServer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var last string
	server := serveBundle(t, saying("r1"))
	status := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		mu.Lock()
		defer mu.Unlock()
		last = body.String()
	}))
	t.Cleanup(status.Close)
	config := strings.Replace(server.config("status: {service: boss}\n"), "services:", "services:\n  boss: {url: '"+status.URL+"'}", 1)
	h := newHost(t, config)
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	bad := saying("r2")
	bad["fleet_test.rego"] = strings.ReplaceAll(bad["fleet_test.rego"], `"operation": "stop"`, `"operation": "pause"`)
	server.set(testhost.Bundle(t, bad))
	h.eventually("the server hears why", func() error {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(last, "test_a_stop_is_vetoed") || !strings.Contains(last, `"active_revision":"r1"`) {
			return fmt.Errorf("it heard %q", last)
		}
		return nil
	})
}

func TestReloadReadsTheConfigurationAgain(t *testing.T) {
	t.Parallel()
	first, second := serveBundle(t, saying("r1")), serveBundle(t, saying("r2"))
	h := newHost(t, first.config(""))
	a := h.start()
	h.eventually("the first server's decides", func() error { return a.decides("web-01", "veto: r1") })
	h.write("/etc/stopguard/agent.yaml", "bundles: [")
	a.reload <- struct{}{}
	h.eventually("a broken one is refused", func() error { return a.log.has("the configuration is not reloaded, the old one stays") })
	if err := a.decides("web-01", "veto: r1"); err != nil {
		t.Error(err)
	}
	h.write("/etc/stopguard/agent.yaml", second.config(""))
	a.reload <- struct{}{}
	h.eventually("the second server's decides", func() error { return a.decides("web-01", "veto: r2") })
	if _, body, err := a.get("/metrics"); err != nil || !strings.Contains(body, `stopguard_reloads_total{result="failure"} 1`) || !strings.Contains(body, `stopguard_reloads_total{result="success"} 1`) {
		t.Errorf("metrics: %v", err)
	}
}

func TestAReloadThatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	server := serveBundle(t, saying("r1"))
	h := newHost(t, server.config(""))
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	reloads := func(result string, n int) {
		t.Helper()
		a.reload <- struct{}{}
		want := fmt.Sprintf("stopguard_reloads_total{result=%q} %d", result, n)
		h.eventually(want, func() error {
			if _, body, err := a.get("/metrics"); err != nil || !strings.Contains(body, want) {
				return fmt.Errorf("metrics: %v", err)
			}
			return nil
		})
	}
	state := filepath.Join(h.root, "var/lib/stopguard/agent/state.json")
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(state, 0o700); err != nil { // that the bundle is dropped cannot be written down then
		t.Fatal(err)
	}
	h.write("/etc/stopguard/agent.yaml", "labels: {without: bundles}\n")
	reloads("failure", 1)
	reloads("failure", 2)
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	reloads("success", 1)
	if err := a.decides("web-01", "allow"); err != nil {
		t.Error(err)
	}
}

// A hook's question is answered as the full hook answers it, and recorded on the host and in the
// decision log.
func TestTheAgentAnswersAHookAsTheFullHookDoes(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	var mu sync.Mutex
	var events []map[string]any
	collector := collect(t, func(list []map[string]any) {
		got.Add(int64(len(list)))
		mu.Lock()
		defer mu.Unlock()
		events = append(events, list...)
	})
	server := serveBundle(t, saying("r1"))
	config := strings.Replace(server.config("decision_logs: {service: collector, reporting: {min_delay_seconds: 1, max_delay_seconds: 1}}\n"),
		"services:", "services:\n  collector: {url: '"+collector.URL+"'}", 1)
	h := newHost(t, config)
	h.write("/run/libvirt/qemu/other.pid", "1")
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })

	// Another driver's domain, of which no process is looked for.
	xml := []byte(`<domain type="test"><name>web-01</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid><memory>1</memory>
		<description>a secret of its owner</description><os><type>hvm</type></os></domain>`)
	event := func() *hookproto.Event {
		return &hookproto.Event{Domain: "web-01", Op: hookproto.OpStop, SubOp: "begin", Extra: "-", Stdin: bytes.NewReader(xml)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// A record, and the input in it, have a fraction of a second each. A busy machine may need
	// longer, and both are asked again then.
	h.eventually("both decisions are recorded", func() error {
		h.remove("/var/log/stopguard/decisions.jsonl")
		remotely := remote.Agent{Root: h.root}.Ask(ctx, event())
		locally := stopguardHandler(h.root)(ctx, event())
		for _, answer := range []error{remotely, locally} {
			if text := fmt.Sprint(answer); strings.Contains(text, "not recorded: ") && strings.Contains(text, " in time") {
				return answer
			}
		}
		if diff := cmp.Diff(fmt.Sprintf("%T %v", locally, locally), fmt.Sprintf("%T %v", remotely, remotely)); diff != "" {
			t.Fatalf("full hook -, agent +\n%s", diff)
		}
		lines, err := os.ReadFile(h.path("/var/log/stopguard/decisions.jsonl"))
		if n := bytes.Count(lines, []byte("\n")); err != nil || n != 2 || bytes.Count(lines, []byte(`"input":{`)) != 2 {
			return fmt.Errorf("the host's records: %v %s", err, lines)
		}
		return nil
	})
	h.eventually("the collector has the decisions", func() error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			input, ok := e["input"].(map[string]any)
			if !ok {
				continue
			}
			content, _ := json.Marshal(e)
			if strings.Contains(string(content), "a secret of its owner") {
				t.Errorf("what is masked is sent: %s", content)
			}
			if input["domain"].(map[string]any)["name"] == "web-01" && e["result"].(map[string]any)["outcome"] == "veto" {
				return nil
			}
		}
		return fmt.Errorf("there are %d, and not that one", got.Load())
	})
}

// collect is a decision log's collector.
func collect(t testing.TB, take func([]map[string]any)) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var list []map[string]any
		zipped, err := gzip.NewReader(r.Body)
		if err == nil {
			err = json.NewDecoder(zipped).Decode(&list)
		}
		if err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		take(list)
	}))
	t.Cleanup(s.Close)
	return s
}

// A collector that takes connections and says nothing delays no decision, and what does not fit is
// counted.
func TestACollectorThatHangsCostsWhatItMay(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(func() { close(release); hanging.CloseClientConnections(); hanging.Close() })
	const limit = 20_000
	h := newHost(t, fmt.Sprintf("services: {collector: {url: %q, response_header_timeout_seconds: 1}}\n"+
		"decision_logs: {service: collector, reporting: {buffer_size_limit_bytes: %d, upload_size_limit_bytes: 2000, min_delay_seconds: 1, max_delay_seconds: 1}}\n", hanging.URL, limit))
	a := h.start()
	for i := range 3000 {
		if err := a.decides(fmt.Sprintf("web-%d", i), "allow"); err != nil {
			t.Fatal(err)
		}
	}
	h.eventually("what was dropped is counted", func() error {
		_, body, err := a.get("/metrics")
		if err != nil {
			return err
		}
		for _, event := range []string{"decision_logs_dropped_buffer_size_limit_bytes_exceeded", "decision_logs_chunks_upload_failed"} {
			if !strings.Contains(body, fmt.Sprintf("stopguard_opa_events_total{event=%q}", event)) {
				err = fmt.Errorf("%s is not counted", event)
			}
		}
		return err
	})
	if _, size := a.plane.Load().logsPlugin().BufferSize(); size > limit {
		t.Errorf("%d bytes are buffered, and %d may be", size, limit)
	}
}

func stopguardHandler(root string) hookproto.Handler {
	return stopguard.Handler(stopguard.Config{Root: root})
}

// With long polling, a server answers when there is something new, and not before.
func TestALongPollBringsABundleAtOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	content, changed := testhost.Bundle(t, saying("r1")), make(chan struct{})
	revision := 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		tag, c := fmt.Sprintf(`"%d"`, revision), changed
		mu.Unlock()
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		if r.Header.Get("If-None-Match") == tag && strings.Contains(r.Header.Get("Prefer"), "wait=") {
			select {
			case <-c:
			case <-r.Context().Done():
				return
			}
		}
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, revision))
		_, _ = w.Write(content)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	h := newHost(t, fmt.Sprintf("services: {plane: {url: '%s'}}\nbundles: {fleet: {service: plane, resource: b, polling: {min_delay_seconds: 3600, max_delay_seconds: 3600, long_polling_timeout_seconds: 3600}}}\n", server.URL))
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	mu.Lock()
	content, revision = testhost.Bundle(t, saying("r2")), 2
	close(changed)
	changed = make(chan struct{})
	mu.Unlock()
	h.eventually("the next one decides, though it is polled for once an hour", func() error { return a.decides("web-01", "veto: r2") })
}
