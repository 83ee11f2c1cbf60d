//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// toolProgram is the operator's tool, as .ci/e2e built it.
const toolProgram = "STOPGUARD_E2E_TOOL"

// Every command of docs/control-plane.md is run, in its order, with the paths and the name of the
// server replaced. systemd's part, which starts nginx and the agent, is the test's.
func TestTheGuideToAControlPlaneWorks(t *testing.T) {
	page, err := os.ReadFile("../../../docs/control-plane.md")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "stopguard: {}\n")
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	here := strings.NewReplacer(
		"/etc/nginx", filepath.Join(temp, "nginx"), "/srv/policies", filepath.Join(temp, "srv"), "/etc/stopguard", filepath.Join(h.root, "etc/stopguard"),
		"DNS:policies.example.com", "IP:127.0.0.1", "policies.example.com", "127.0.0.1", "8443", port,
		"min_delay_seconds: 15, max_delay_seconds: 30", "min_delay_seconds: 1, max_delay_seconds: 1")
	for _, dir := range []string{"nginx", "bin"} {
		if err := os.Mkdir(filepath.Join(temp, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(os.Getenv(toolProgram), filepath.Join(temp, "bin/stopguard")); err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```(sh|nginx)[^\n]*\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	shell := func(script string) {
		t.Helper()
		cmd := exec.Command("bash", "-euc", script)
		cmd.Dir = temp
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(temp, "bin")+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	commands := 0
	var server *process
	for _, block := range blocks {
		kind, text := block[1], here.Replace(block[2])
		if kind == "nginx" {
			content := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr info; user root; worker_processes 1; events {}\nhttp { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n%[2]s}\n", temp, text)
			if err := os.WriteFile(filepath.Join(temp, "nginx.conf"), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var own []string // what systemctl would start is started here
		for line := range strings.Lines(text) {
			switch strings.TrimSpace(line) {
			case "systemctl reload nginx":
				server = run(t, nil, "/usr/sbin/nginx", "-c", filepath.Join(temp, "nginx.conf"), "-e", "stderr")
			case "systemctl enable --now stopguard-agent":
			default:
				own = append(own, line)
				commands++
			}
		}
		shell(strings.Join(own, ""))
	}
	if commands < 15 || server == nil {
		t.Fatalf("the page has %d lines of commands", commands)
	}
	h.start()
	eventually(t, "the bundle is active", func() error {
		r, err := h.client.Get("http://agent/health?bundles")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			err = fmt.Errorf("the agent's health is %s", r.Status)
		}
		return err
	})

	// The next version is published, and then one that another key has signed.
	shell(here.Replace(`sed -i '1s/^/# the next version\n/' my-policy/policy/critical.rego
stopguard policy build my-policy -o fleet.tar.gz --revision next --sign signing.pem
cp fleet.tar.gz /srv/policies/fleet.tar.gz.new && mv /srv/policies/fleet.tar.gz.new /srv/policies/fleet.tar.gz`))
	revision := func(want string) func() error {
		return func() error {
			metrics, err := h.get("/metrics")
			if err == nil && !strings.Contains(metrics, want) {
				err = fmt.Errorf("the metrics lack %s", want)
			}
			return err
		}
	}
	eventually(t, "the next version is active", revision(`stopguard_bundle_info{bundle="fleet",revision="next"} 1`))
	shell(here.Replace(`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.pem
stopguard policy build my-policy -o /srv/policies/fleet.tar.gz.new --revision forged --sign other.pem && mv /srv/policies/fleet.tar.gz.new /srv/policies/fleet.tar.gz`))
	eventually(t, "a bundle of another key is refused", revision(`stopguard_bundle_activations_total{bundle="fleet",result="failure"}`))
	if err := revision(`stopguard_bundle_info{bundle="fleet",revision="next"} 1`)(); err != nil {
		t.Error(err)
	}
}
