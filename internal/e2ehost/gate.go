//go:build e2e

package e2ehost

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/policy/record"
)

// GateVariable is the variable with the path of the built cmd/stopguard-gate.
const GateVariable = "STOPGUARD_E2E_GATE"

// GateLog is the path of the gate's log.
const GateLog = "/run/gate.log"

// A Gated is a host on which the gate stands in the daemon's place. The daemon listens at a socket
// that only root can reach.
type Gated struct {
	Host
	Gate *exec.Cmd

	read int // bytes of the record that Records has returned
}

// PrepareGated prepares the host for a daemon behind the gate, and adds settings to the daemon's
// configuration.
func (h *Gated) PrepareGated(settings string) {
	h.Config = fmt.Sprintf("unix_sock_dir = %q\n%s", unit.UpstreamFolder, settings)
	h.Prepare()
	for dir, mode := range map[string]os.FileMode{unit.UpstreamFolder: 0o700, "/run/libvirt": 0o755, "/run/lock": 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			h.Fatalf("%v", err)
		}
	}
}

// StartGate starts the gate on both sockets of the daemon.
func (h *Gated) StartGate(args ...string) {
	log, err := os.OpenFile(GateLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer log.Close()
	h.Gate = exec.Command(os.Getenv(GateVariable), append([]string{"-listen", Layout.Public, "-listen-ro", Layout.Public + "-ro",
		"-upstream", Layout.Upstream, "-upstream-ro", Layout.Upstream + "-ro"}, args...)...)
	h.Gate.Stdout, h.Gate.Stderr = log, log
	h.Gate.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.Gate.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	h.Until("the gate listens", func() bool {
		info, err := os.Stat(Layout.Public + "-ro") // the second
		return err == nil && info.Mode().Type() == os.ModeSocket
	})
}

// EndGate ends the gate by SIGTERM, as its unit does.
func (h *Gated) EndGate() {
	h.Signal(h.Gate.Process.Pid, syscall.SIGTERM)
	if err := h.Gate.Wait(); err != nil {
		h.Fatalf("the gate ends with %v\n%s", err, LastLines(GateLog, 3000))
	}
}

// Direct is the URI of the daemon behind the gate.
var Direct = "qemu:///system?socket=" + Layout.Upstream

// OnDirect runs virsh past the gate.
func (h *Gated) OnDirect(args ...string) Answer {
	return h.Command("", h.Environment(), "virsh", append([]string{"-c", Direct}, args...)...)
}

// DirectOK runs virsh past the gate. It must succeed.
func (h *Gated) DirectOK(args ...string) {
	if got := h.OnDirect(args...); got.Exit != 0 {
		h.Fatalf("virsh %q: %+v", args, got)
	}
}

// StartGuest defines and starts a guest, past the gate, and waits until it has booted.
func (h *Gated) StartGuest(g Guest) {
	h.DirectOK("define", h.Write(g))
	h.DirectOK("start", g.Name)
	h.Ask(g)
}

// Records returns the new lines of the record since its last call: domain, operation, outcome, and
// further fields.
func (h *Gated) Records() []string {
	content, err := os.ReadFile("/" + record.File)
	if err != nil && !os.IsNotExist(err) {
		h.Fatalf("%v", err)
	}
	fresh := content[h.read:]
	h.read = len(content)
	lines := []string{}
	for line := range strings.Lines(string(fresh)) {
		var e record.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.Fatalf("%v: %s", err, line)
		}
		r := e.Result
		words := []string{r.Domain.Name, "", r.Outcome, r.Unenforced}
		if r.Request != nil {
			words[1] = r.Request.Operation
		}
		for _, reason := range r.Reasons {
			words = append(words, reason.Rule)
		}
		for _, reason := range r.Monitored {
			words = append(words, "monitored:"+reason.Rule)
		}
		if r.Ticket != nil {
			words = append(words, "ticket:"+r.Ticket.Reason)
		}
		lines = append(lines, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	return lines
}
