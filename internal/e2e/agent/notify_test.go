//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// A webhook is a server that takes events, or refuses them for a while.
type webhook struct {
	mu     sync.Mutex
	status int
	bodies []string
}

func (w *webhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.WriteHeader(w.status)
	if w.status == http.StatusOK {
		w.bodies = append(w.bodies, r.Method+" "+r.Header.Get("Content-Type")+" "+string(body))
	} else {
		w.bodies = append(w.bodies, "refused")
	}
}

func (w *webhook) set(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *webhook) got() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.bodies)
}

// The example posts each event with curl, and none is lost while the webhook refuses it, or when
// the agent is killed.
func TestTheExampleTellsAWebhook(t *testing.T) {
	hook := &webhook{status: http.StatusServiceUnavailable}
	server := httptest.NewServer(hook)
	defer server.Close()
	example, err := os.ReadFile("../../../examples/notify/webhook")
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://hooks.example.com/stopguard"
	if !strings.Contains(string(example), "\nurl="+url+"\n") {
		t.Fatal("the example has another url")
	}
	h := newHost(t, "{}")
	testhost.OpenToAll(t, h.root) // for the program's user
	h.write("/usr/local/lib/webhook", strings.Replace(string(example), url, server.URL, 1))
	if err := os.Chmod(filepath.Join(h.root, "/usr/local/lib/webhook"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("/etc/stopguard/policy/data.yaml", "site: {notify: {program: /usr/local/lib/webhook, user: nobody}}\n")
	h.write("/etc/libvirt/protected-domains", "web-01\nweb-02\nweb-03\n")
	state := filepath.Join(h.root, "var/lib/stopguard/notify/state")
	h.start()
	eventually(t, "the agent has looked", func() error { _, err := os.Stat(state); return err })
	h.write("/etc/libvirt/protected-domains", "web-02\nweb-03\n")
	eventually(t, "the webhook refuses it", func() error {
		if len(hook.got()) < 2 {
			return errors.New("it is not told")
		}
		return nil
	})
	metrics, err := h.get("/metrics")
	if err != nil || !strings.Contains(metrics, "\nstopguard_notify_waiting 1\n") || strings.Contains(metrics, `stopguard_notify_runs_total{result="failure"} 0`) {
		t.Errorf("the metrics do not count it: %v", err)
	}
	h.agent.kill()
	h.write("/etc/libvirt/protected-domains", "web-03\n") // while no agent runs
	hook.set(http.StatusOK)
	h.start()
	var entries []string
	eventually(t, "both are told", func() error {
		entries = nil
		for _, body := range hook.got() {
			if body == "refused" {
				continue
			}
			line, ok := strings.CutPrefix(body, "POST application/json ")
			var e struct {
				What    string
				Entries []string
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || !ok || e.What != "list_removed" {
				return fmt.Errorf("%q: %v", body, err)
			}
			entries = append(entries, e.Entries...)
		}
		if len(entries) < 2 {
			return fmt.Errorf("only %v", entries)
		}
		return nil
	})
	slices.Sort(entries)
	if got := slices.Compact(entries); !slices.Equal(got, []string{"web-01", "web-02"}) {
		t.Errorf("told of %v", got)
	}
}
