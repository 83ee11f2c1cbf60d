//go:build e2e

// Package e2e tests the gate with the real libvirtd, QEMU and polkitd of the machine: see .ci/e2e.
// Clients are virsh and Python's libvirt, as they are installed.
//
// Each test asks for a host; see package e2ehost. There libvirtd listens where only root can reach
// it, and the gate where clients look for libvirtd.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/unit"
)

const (
	gateVariable = "STOPGUARD_E2E_GATE" // the built cmd/stopguard-gate

	upstreamDir = unit.UpstreamFolder
	gateLog     = "/run/gate.log"
	ruleFile    = "/etc/stopguard/policy/site.rego"
)

var (
	daemon     = e2ehost.Layout.Daemon
	gateSocket = e2ehost.Layout.Public
	pastSocket = e2ehost.Layout.Upstream
	direct     = "qemu:///system?socket=" + pastSocket
)

// The rule is against everything that may be done to a domain of such a name.
const rule = `package stopguard.rules.site

veto contains "it is protected" if startswith(input.domain.name, "protected-")
`

// veto returns virsh's output for a stop that the rule refuses.
func veto(name string) string {
	return "error: stopguard: veto: " + name + ": it is protected (rule site)"
}

// A step is the observation of one action.
type step struct {
	Name            string
	Through, Direct e2ehost.Answer // with the gate, and without
	State           string
	Memory          string
	Records         []string // the new lines of the record, one for each decision
	Snapshots       []string // their names
	Saved           bool     // the guest's memory is stored while it is off
}

var scripts = map[string]func(*host){
	"virsh":       (*host).virshCalls,
	"clients":     (*host).clients,
	"users":       (*host).users,
	"migration":   (*host).migration,
	"shutdown":    (*host).shutdown,
	"drain":       (*host).drain,
	"deletes":     (*host).deletes,
	"managers":    (*host).managers,
	"week":        (*host).firstWeek,
	"pipeline":    (*host).pipeline,
	"off":         (*host).off,
	"attacks":     (*host).attacks,
	"stalled":     (*host).stall,
	"sasl":        (*host).sasl,
	"drivers":     (*host).drivers,
	"linux":       (*host).linux,
	"snapshots":   (*host).snapshots,
	"asleep":      (*host).nodeSuspend,
	"rpc":         (*host).rpc,
	"restart":     (*host).restart,
	"workers":     (*host).workers,
	"reload":      (*host).reload,
	"open":        (*host).open,
	"proxied":     (*host).proxied,
	"autodestroy": (*host).autodestroyed,
	"descriptors": (*host).descriptors,
}

type host struct {
	*e2ehost.Host
	gate *exec.Cmd
	seen []step
	read int // how much of the records a step has already
}

func TestMain(m *testing.M) {
	e2ehost.Main(m, func(script string) {
		h := &host{Host: &e2ehost.Host{}}
		scripts[script](h)
		if script != "open" {
			h.noNameElsewhere()
		}
		h.Report(h.seen)
	})
}

func on(t *testing.T, script string) []step {
	t.Helper()
	e2ehost.Need(t, gateVariable)
	var seen []step
	e2ehost.On(t, script, &seen)
	return seen
}

// begin starts the daemons of a host, with the gate before libvirtd.
func (h *host) begin() {
	h.prepare("")
	h.startGate()
	h.StartDaemon()
}

// prepare starts the services that libvirtd needs.
func (h *host) prepare(config string) {
	h.Config = fmt.Sprintf("unix_sock_dir = %q\n%s", upstreamDir, config)
	h.Prepare()
	h.File(ruleFile, rule, 0o644)
	for dir, mode := range map[string]os.FileMode{upstreamDir: 0o700, "/run/libvirt": 0o755, "/run/lock": 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			h.Fatalf("%v", err)
		}
	}
}

func (h *host) startGate(args ...string) {
	log, err := os.OpenFile(gateLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer log.Close()
	h.gate = exec.Command(os.Getenv(gateVariable), append([]string{"-listen", gateSocket, "-listen-ro", gateSocket + "-ro",
		"-upstream", pastSocket, "-upstream-ro", pastSocket + "-ro"}, args...)...)
	h.gate.Stdout, h.gate.Stderr = log, log
	h.gate.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.gate.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	h.Until("the gate listens", func() bool {
		info, err := os.Stat(gateSocket + "-ro") // the second
		return err == nil && info.Mode().Type() == os.ModeSocket
	})
}

func (h *host) endGate() {
	h.Signal(h.gate.Process.Pid, syscall.SIGTERM)
	if err := h.gate.Wait(); err != nil {
		h.Fatalf("the gate ends with %v\n%s", err, e2ehost.LastLines(gateLog, 3000))
	}
}

// onDirect runs virsh past the gate.
func (h *host) onDirect(args ...string) e2ehost.Answer {
	return h.Command("", h.Environment(), "virsh", append([]string{"-c", direct}, args...)...)
}

func (h *host) directOK(args ...string) {
	if got := h.onDirect(args...); got.Exit != 0 {
		h.Fatalf("virsh %q: %+v", args, got)
	}
}

// guest defines and starts a guest.
func (h *host) guest(g e2ehost.Guest) {
	h.directOK("define", h.Write(g))
	h.directOK("start", g.Name)
	h.Ask(g)
}

// memory returns the byte that a guest remembers; "" if it does not run.
func (h *host) memory(g e2ehost.Guest) string {
	if !strings.HasPrefix(h.State(g), "running") {
		return ""
	}
	return h.Ask(g)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
