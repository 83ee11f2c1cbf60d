//go:build e2e

package fleet

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The hook's programs, as .ci/fleet built them: the thin one looks for the full one beside it.
const (
	hookProgram = "STOPGUARD_E2E_PROGRAM"
	thinProgram = "STOPGUARD_E2E_THIN"
)

// thinHook runs the thin hook as libvirt does for a stop, and returns its exit code and line.
func thinHook(t *testing.T, h *host, g *guest) (int, string, time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Getenv(thinProgram), g.name, "stop", "begin", "-")
	cmd.Env = append(os.Environ(), "STOPGUARD_ROOT="+h.root)
	cmd.Stdin = strings.NewReader(g.xml)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stderr.String(), time.Since(began)
}

// A node that hangs holds a request for as long as the agent waits for it. The thin hook does not
// wait for the agent as long as a decision may take; the full hook then decides.
func TestAThinHookDecidesWhileANodeHangs(t *testing.T) {
	if filepath.Dir(os.Getenv(thinProgram)) != filepath.Dir(os.Getenv(hookProgram)) {
		t.Fatalf("%s and %s are not in one folder; run .ci/fleet", thinProgram, hookProgram)
	}
	c := newCluster(t, "kvm-1", "kvm-2")
	one, two := c.newHost("kvm-1", pgData), c.newHost("kvm-2", pgData)
	pg1, pg2 := newGuest("pg-1", uuidOf(1)), newGuest("pg-2", uuidOf(2))
	for _, err := range []error{pg1.start(one), pg2.start(two)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer pg1.end(one)
	defer pg2.end(two)
	eventually(t, "the stop is allowed", func() error {
		if code, text, _ := thinHook(t, one, pg1); code != 0 {
			return errors.New(text)
		}
		return nil
	})
	var took []time.Duration
	refused := 0
	for _, n := range c.nodes {
		n.signal(syscall.SIGSTOP)
		for i := 0; i < 8 || refused == len(took); i++ { // a busy machine may take longer to find another leader
			code, text, d := thinHook(t, one, pg1)
			if took = append(took, d); code == 0 {
				continue
			}
			if refused++; !strings.Contains(text, "how many run is not known") && !strings.Contains(text, "stopguard: fault: ") || refused > 100 {
				t.Fatalf("exit %d: %s", code, text)
			}
		}
		n.signal(syscall.SIGCONT)
		eventually(t, "all answer", func() error {
			if code, text, _ := thinHook(t, one, pg1); code != 0 {
				return errors.New(text)
			}
			return nil
		})
	}
	slices.Sort(took)
	t.Logf("%d stops while one etcd hangs: %d refused; %v in the middle, %v at most", len(took), refused, took[len(took)/2], took[len(took)-1])
	if s, err := one.status(); err != nil || len(s.Groups) != 1 || len(s.Groups[0].Reservations) != 1 {
		t.Errorf("nothing was reserved: %+v %v", s, err)
	}
}
