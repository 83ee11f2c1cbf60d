//go:build e2e

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTheUnitIsOneThatSystemdTakes(t *testing.T) {
	content, err := os.ReadFile("../../../packaging/stopguard-agent/stopguard-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "stopguard-agent.service")
	here := strings.ReplaceAll(string(content), "/usr/sbin/stopguard-agent", os.Getenv(agentProgram))
	if err := os.WriteFile(unit, []byte(here), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), "stopguard-agent") {
		t.Errorf("%v\n%s", err, out)
	}
	// 2.6, of which 0.2 are that it may become another user; 10 is a service that may do everything.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=27", unit).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// systemd hears that the agent is ready, that it lives, and that it stops.
func TestSystemdIsToldWhatTheAgentDoes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "1000000")
	h := newHost(t, "{}")
	h.start()
	seen := map[string]int{}
	buf := make([]byte, 4096)
	for seen["READY=1"] == 0 || seen["WATCHDOG=1"] < 3 {
		if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(buf)
		if err != nil {
			t.Fatalf("%v after %v", err, seen)
		}
		seen[string(buf[:n])]++
	}
	read := func(want string) {
		t.Helper()
		for seen[want] == 0 {
			if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("%v after %v", err, seen)
			}
			seen[string(buf[:n])]++
		}
	}
	clear(seen)
	if err := h.agent.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	read("RELOADING=1")
	read("READY=1")
	if err := h.agent.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	read("STOPPING=1")
}
