//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// An nginx serves a folder, with ETags.
type nginx struct {
	*process
	t       *testing.T
	folder  string
	access  string
	address string
}

func newNginx(t *testing.T) *nginx {
	n := &nginx{t: t, folder: t.TempDir(), address: freeAddress(t)}
	if err := os.Chmod(n.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	n.start()
	return n
}

func (n *nginx) start() {
	n.t.Helper()
	config := filepath.Join(n.t.TempDir(), "nginx.conf")
	temp := n.t.TempDir()
	content := fmt.Sprintf(`daemon off;
pid %[1]s/pid;
error_log stderr info;
user root;
worker_processes 1;
events {}
http {
  access_log %[1]s/access.log;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen %[2]s; root %[3]s; }
}
`, temp, n.address, n.folder)
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
	n.process = run(n.t, nil, "/usr/sbin/nginx", "-c", config, "-e", "stderr")
	n.access = filepath.Join(temp, "access.log")
}

// put replaces the served bundle by a rename, as a deployment should.
func (n *nginx) put(content []byte) {
	n.t.Helper()
	temp := filepath.Join(n.folder, "new")
	err := os.WriteFile(temp, content, 0o644)
	if err == nil {
		err = os.Rename(temp, filepath.Join(n.folder, "fleet.tar.gz"))
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *nginx) config(more string) string {
	return fmt.Sprintf(`
services: {plane: {url: 'http://%s'}}
bundles: {fleet: {service: plane, resource: fleet.tar.gz, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}}
%s`, n.address, more)
}

func TestNginxServesBundlesAndSaysWhenTheyAreUnchanged(t *testing.T) {
	n := newNginx(t)
	n.put(bundle(t, "r1"))
	h := newHost(t, n.config(""))
	h.start()
	eventually(t, "the bundle decides", func() error { return h.decides("veto: r1") })
	eventually(t, "nginx says that it is unchanged", func() error {
		content, err := os.ReadFile(n.access)
		if err == nil && !strings.Contains(string(content), " 304 ") {
			err = fmt.Errorf("nginx logged %s", content)
		}
		return err
	})
	n.put(bundle(t, "r2"))
	eventually(t, "the next one decides", func() error { return h.decides("veto: r2") })
}

// The server and the agent are killed and started again while clients send requests. An answer
// comes from one bundle, never from an older one than the answer before. While only the server is
// gone, every client gets an answer.
func TestKilledAndStartedAgainUnderLoad(t *testing.T) {
	n := newNginx(t)
	n.put(bundle(t, "r1"))
	h := newHost(t, n.config(""))
	h.start()
	eventually(t, "the bundle decides", func() error { return h.decides("veto: r1") })

	var agentGone atomic.Bool
	var answers atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			last := 0
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				wasGone := agentGone.Load()
				got, err := h.decide()
				if err != nil {
					if !wasGone && !agentGone.Load() {
						t.Errorf("a decision was lost: %v", err)
					}
					continue
				}
				var revision int
				if _, err := fmt.Sscanf(got, "veto: r%d", &revision); err != nil || revision < last {
					t.Errorf("%q was decided after r%d", got, last)
				}
				last = max(last, revision)
				answers.Add(1)
			}
		})
	}
	for round := 2; round <= 4; round++ {
		n.kill()
		time.Sleep(1500 * time.Millisecond) // a poll that fails
		agentGone.Store(true)
		h.agent.kill()
		h.start()
		agentGone.Store(false)
		if err := h.decides(fmt.Sprintf("veto: r%d", round-1)); err != nil {
			t.Errorf("started without the server: %v", err)
		}
		n.put(bundle(t, fmt.Sprintf("r%d", round)))
		n.start()
		eventually(t, "the server is back", func() error { return h.decides(fmt.Sprintf("veto: r%d", round)) })
	}
	close(stop)
	all.Wait()
	t.Logf("%d answers", answers.Load())
}
