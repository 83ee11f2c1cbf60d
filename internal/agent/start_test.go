package agent

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The plugins of OPA wait without end for what was never started, so an agent that cannot start
// must not stop them.
func TestAnAgentThatCannotStartSaysWhyAndEnds(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const decisionLogs = "services: {plane: {url: 'http://127.0.0.1:1'}}\ndecision_logs: {service: plane}\nstatus: {service: plane}\n"
	for _, tt := range []struct {
		why, section string
		prepare      func(h host)
		says         string
	}{
		{"the port is in use", "address: '" + taken.Addr().String() + "', certificate: ROOT/agent.crt, key: ROOT/agent.key, client_ca: ROOT/ca.pem", nil, "address already in use; choose another address"},
		{"there is no token", "address: '127.0.0.1:0', certificate: ROOT/agent.crt, key: ROOT/agent.key, token_file: /etc/stopguard/absent", nil, "stopguard.listen.token_file: "},
		{"there is no certificate", "address: '127.0.0.1:0', certificate: ROOT/absent, key: ROOT/agent.key, client_ca: ROOT/ca.pem", nil, "certificate and key: "},
		{"there is no authority", "address: '127.0.0.1:0', certificate: ROOT/agent.crt, key: ROOT/agent.key, client_ca: ROOT/absent", nil, "client_ca: "},
		{"another agent answers", "", func(h host) { h.start() }, "another agent answers at "},
		{"the socket's folder is a file", "", func(h host) {
			if err := os.MkdirAll(h.path("run"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(h.path("run/stopguard"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "create the socket's folder"},
		{"a plugin does not take its configuration", "", func(h host) {
			h.write("/etc/stopguard/agent.yaml", decisionLogs+"bundles: {fleet: {service: absent, resource: x}}\n")
		}, "correct the configuration"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, decisionLogs)
			h.certificates()
			if tt.section != "" {
				h.write("/etc/stopguard/agent.yaml", decisionLogs+"stopguard: {listen: {"+strings.ReplaceAll(tt.section, "ROOT", h.root)+"}}\n")
			}
			if tt.prepare != nil {
				tt.prepare(h)
			}
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "AGENT_TEST_RUN=1", "STOPGUARD_ROOT="+h.root)
			var log bytes.Buffer
			cmd.Stdout, cmd.Stderr = &log, &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-ended:
			case <-time.After(time.Minute):
				_ = cmd.Process.Kill()
				<-ended
				t.Fatalf("it hangs\n%s", log.String())
			}
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(log.String(), "stopguard-agent: ") || !strings.Contains(log.String(), tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, log.String())
			}
			if left, err := filepath.Glob(h.path("run/stopguard/agent.sock")); tt.prepare == nil && (err != nil || len(left) > 0) {
				t.Errorf("it left %v (%v)", left, err)
			}
		})
	}
}

// A plugin that does not stop is left behind.
func TestAnAgentStopsThoughItsCollectorHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newHost(t, fmt.Sprintf("services: {plane: {url: 'http://%s'}}\ndecision_logs: {service: plane}\nstatus: {service: plane}\n", l.Addr()))
	a := h.start()
	if err := a.decides("web-01", "allow"); err != nil {
		t.Fatal(err)
	}
	a.stop()
}
