//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/policy/record"
)

// autodestroyMetrics is where the gate of this script keeps its metrics.
const autodestroyMetrics = "/run/gate.prom"

func (h *host) autodestroyed() {
	h.prepare("")
	h.StartGate("-metrics", autodestroyMetrics)
	h.StartDaemon()
	h.DirectOK("define", h.Write(free))

	start := rpcCase{program: call.Remote, procedure: domainCreate, args: func(g e2ehost.Guest) args { return about(g).u(autodestroy) }}
	r := h.connect(gateSocket).open()
	if answer, _ := r.call(start, free); answer != "ok" {
		h.Fatalf("%s", answer)
	}
	h.Ask(free)
	h.Doing = "a rule protects it, after its start"
	h.File(ruleFile, strings.ReplaceAll(rule, "protected-", free.Name), 0o644)
	h.Until("the gate sees that it is protected", func() bool {
		content, _ := os.ReadFile(autodestroyMetrics)
		return strings.Contains(string(content), `stopguard_gate_autodestroy{domain="`+free.Name+`",protected="true",uuid="`+free.UUID+`"} 1`)
	})
	h.note("a stop of it is refused", h.Virsh("destroy", free.Name))
	h.Doing = "the client goes"
	if err := r.conn.Close(); err != nil {
		h.Fatalf("%v", err)
	}
	h.Until("libvirtd has ended it", func() bool { return strings.HasPrefix(h.State(free), "shut off") })
	h.Until("the gate has recorded it", func() bool {
		content, _ := os.ReadFile(record.File)
		return strings.Contains(string(content), `"outcome":"escape"`)
	})
	log, err := os.ReadFile(e2ehost.GateLog)
	if err != nil {
		h.Fatalf("%v", err)
	}
	records, err := os.ReadFile(record.File)
	if err != nil {
		h.Fatalf("%v", err)
	}
	h.note("log", e2ehost.Answer{Stdout: string(log)})
	h.note("records", e2ehost.Answer{Stdout: string(records)})
}

func TestAGuestThatIsProtectedAfterItsStartWithAutodestroyIsSeenAndLost(t *testing.T) {
	said := map[string]e2ehost.Answer{}
	for _, s := range on(t, "autodestroy") {
		said[s.Name] = s.Through
	}
	if got := said["a stop of it is refused"]; got.Exit != 1 || !strings.Contains(got.Stderr, veto(free.Name)) {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"a protected domain ends when its client's connection closes", "a protected domain is ended by libvirtd"} {
		if !strings.Contains(said["log"].Stdout, want) {
			t.Errorf("the log has no %q:\n%s", want, said["log"].Stdout)
		}
	}
	escapes := 0
	for line := range strings.Lines(said["records"].Stdout) {
		if strings.Contains(line, `"outcome":"escape"`) {
			escapes++
			for _, want := range []string{free.UUID, `"message":"it is protected"`, "it was started with autodestroy and protected later", `"user":"root"`} {
				if !strings.Contains(line, want) {
					t.Errorf("the record has no %s: %s", want, line)
				}
			}
		}
	}
	if escapes != 1 {
		t.Errorf("%d escapes are recorded", escapes)
	}
}
