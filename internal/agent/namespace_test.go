package agent

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// In another PID namespace every guest's process is missing. The agent says so instead of being
// believed.
func TestAnAgentInAnotherPIDNamespaceSaysSo(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why     string
		command []string
		wrong   bool
	}{
		{"the host's", []string{self}, false},
		{"another", []string{"unshare", "-p", "-f", "--kill-child", "--mount-proc", self}, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			if tt.wrong && exec.Command("unshare", "-p", "-f", "--mount-proc", "true").Run() != nil {
				t.Skip("only root makes a PID namespace")
			}
			h := newHost(t, "{}")
			h.write("/run/libvirtd.pid", fmt.Sprint(os.Getpid()))
			f, err := os.OpenFile(h.path("/run/libvirtd.pid"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Len: 1}); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(tt.command[0], tt.command[1:]...)
			cmd.Env = append(os.Environ(), "AGENT_TEST_RUN=1", "STOPGUARD_ROOT="+h.root)
			var log bytes.Buffer
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			a := &running{t: t, client: socketClient(filepath.Join(h.root, defaultSocket))}
			want := http.StatusOK
			if tt.wrong {
				want = http.StatusInternalServerError
			}
			h.eventually("health says so", func() error {
				status, body, err := a.get("/health")
				if err == nil && (status != want || strings.Contains(body, daemonElsewhere) != tt.wrong) {
					err = fmt.Errorf("%d %s", status, body)
				}
				return err
			})
			gauge := map[bool]string{false: "stopguard_daemon_elsewhere 0\n", true: "stopguard_daemon_elsewhere 1\n"}[tt.wrong]
			if _, metrics, err := a.get("/metrics"); err != nil || !strings.Contains(metrics, gauge) {
				t.Errorf("the metrics do not say %q (%v)", gauge, err)
			}
		})
	}
}
