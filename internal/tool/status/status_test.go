package status

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/tool/killswitch"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

// newStage returns a host on which all is well, with a protected and a free domain.
func newStage(t *testing.T) (*tooltest.Stage, *hosttest.Fixture) {
	t.Helper()
	p := hosttest.Healthy(t)
	t.Setenv("STOPGUARD_ROOT", p.Root)
	s := &tooltest.Stage{T: t, Root: p.Root, Commands: []func() *cobra.Command{Command, killswitch.Off, killswitch.On}}
	s.Run("pg-primary-01", tooltest.UUID1, tooltest.FarMark)
	s.Run("web-01", tooltest.UUID2, "")
	return s, p
}

// settled replaces what differs from run to run.
func settled(root, text string) string {
	text = strings.ReplaceAll(text, root, "ROOT")
	text = regexp.MustCompile(`"time": "[^"]*"`).ReplaceAllString(text, `"time": "TIME"`)
	return regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(text, "REVISION")
}

func TestStatus(t *testing.T) {
	s, p := newStage(t)
	p.Settings(`{"site": {"monitor": ["protection_mark"]}}`)
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var lines string
	for i, outcome := range []string{record.Veto, record.Escape, record.Veto, record.Allow} {
		lines += tooltest.LineOf(t, tooltest.Event("pg-primary-01", tooltest.UUID1, outcome, at.Add(time.Duration(i)*time.Hour)))
	}
	s.Put(record.File, lines+"torn")
	if _, err := (ticket.Store{Root: s.Root}).Grant(ticket.Ticket{Domain: tooltest.UUID1, Operation: policy.OperationStop, Reason: "x", Requester: "ann", NotAfter: time.Now().Add(time.Hour)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	got := s.Tool("status").Is(t, 0)
	tooltest.Golden(t, "status", "text", regexp.MustCompile(`revision [0-9a-f]{16}`).ReplaceAllString(settled(s.Root, got.Stdout), "revision REVISION"))
	got = s.Tool("status", "-o", "json").Is(t, 0)
	tooltest.Golden(t, "status", "json", settled(s.Root, got.Stdout))
	tooltest.Decode[status](t, got.Stdout)
	if _, err := os.Stat(filepath.Join(s.Root, protection.MarksFile)); err == nil {
		t.Error("status remembers marks, and the next check would not report one that goes")
	}
	s.Tool("status", "-o", "xml").Is(t, 2)
}

func TestStatusOfABrokenPolicy(t *testing.T) {
	s, p := newStage(t)
	p.Put("/etc/stopguard/policy/half.rego", "package", 0o644)
	got := s.Tool("status").Is(t, 0)
	tooltest.Holds(t, "status", got.Stdout, "policy           BROKEN, every stop is refused: ", "domains          unknown: ")
}

// Off and on are the switches that doctor and the gate know.
func TestOffAndOn(t *testing.T) {
	s, p := newStage(t)
	p.Put(host.GateManifest, "{}", 0o600)
	tooltest.Want(t, s.Tool("off"), 0, "the hook is off\nthe gate is off\nNothing is refused until: stopguard on\n", "")
	if info, err := os.Stat(p.Path(host.HookFile)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the hook file: %v, %v", info, err)
	}
	if !p.Exists(host.GateOff) {
		t.Error("the gate's file is not there")
	}
	tooltest.Holds(t, "status", s.Tool("status").Stdout, "switched off     hook, gate; on again: stopguard on")
	tooltest.Holds(t, "off again", s.Tool("off").Is(t, 0).Stdout, "the hook is off already\n")
	tooltest.Want(t, s.Tool("on"), 0, "the hook is on\nthe gate is on\n", "")
	if info, err := os.Stat(p.Path(host.HookFile)); err != nil || info.Mode().Perm() != 0o755 || p.Exists(host.GateOff) {
		t.Errorf("the hook file: %v, %v; the gate's file: %v", info, err, p.Exists(host.GateOff))
	}
	// A hook that libvirt cannot start would refuse everything.
	s.Tool("off").Is(t, 0)
	p.SELinux("virtd_t", "etc_t")
	tooltest.Holds(t, "on with SELinux", s.Tool("on").Is(t, 1).Stderr, "the hook is not switched on: ")
	if info, err := os.Stat(p.Path(host.HookFile)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the hook file: %v, %v", info, err)
	}
	p.Remove(host.HookFile)
	p.Remove(host.GateManifest)
	tooltest.Holds(t, "nothing installed", s.Tool("off").Is(t, 1).Stderr, "neither hook nor gate is installed on this host; run stopguard install")
}
