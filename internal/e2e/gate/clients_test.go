//go:build e2e

package e2e

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

//go:embed clients.py
var clientsProgram string

// python is Debian's own Python, which has libvirt's module even if another Python is installed.
const python = "/usr/bin/python3"

func (h *host) clients() {
	h.begin()
	for _, g := range []e2ehost.Guest{guarded, free} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
	}
	h.DirectOK("define", h.Write(resting))
	h.python("qemu:///system")

	h.Doing = "the read-only socket"
	h.note("the read-only socket is for looking", h.Virsh("--readonly", "dominfo", guarded.Name))
	h.note("the read-only socket is for no more", h.Virsh("--readonly", "destroy", free.Name))
	h.Doing = "a disk is copied"
	h.note("a disk is copied", h.Virsh("blockcopy", free.Name, "hda", "--dest", "/run/copy.img", "--format", "raw", "--wait", "--pivot", "--transient-job"))
	h.Doing = "libvirtd is restarted"
	h.EndDaemon(syscall.SIGTERM)
	h.note("libvirtd is down", h.Virsh("list"))
	h.StartDaemon()
	h.note("libvirtd is up again", h.Virsh("destroy", guarded.Name))
	h.Doing = "the gate is off"
	h.File("/etc/stopguard/gate-off", "", 0o644)
	h.note("the gate is off", h.Virsh("suspend", guarded.Name))
	h.Run("rm", "/etc/stopguard/gate-off")
	h.File(ruleFile, "package stopguard.rules.site\n\nveto contains", 0o644)
	h.note("the policy is broken", h.Virsh("reset", guarded.Name))
	h.note("the policy is broken, and nothing is to be decided", h.Virsh("resume", guarded.Name))
	h.Doing = "the gate ends"
	h.EndGate()
	h.note("the gate is gone", h.Virsh("list"))
}

// python has Python's clients of a URI make checks; all of them if none is named.
func (h *host) python(uri string, checks ...string) {
	h.Doing = "Python's clients of " + uri
	h.File("/run/clients.py", clientsProgram, 0o600)
	args := append([]string{"/run/clients.py", fmt.Sprint(h.Gate.Process.Pid), gateSocket, uri}, checks...)
	got := h.CommandWithin(4*e2ehost.Patience, "", h.Environment(), python, args...)
	var results []struct {
		Name, Result string
		Seconds      float64
	}
	if err := json.Unmarshal([]byte(got.Stdout), &results); err != nil {
		h.Fatalf("%v: %+v", err, got)
	}
	for _, r := range results {
		h.seen = append(h.seen, step{Name: r.Name, State: r.Result, Memory: fmt.Sprint(r.Seconds, " s")})
	}
}

func (h *host) note(name string, got e2ehost.Answer) {
	h.seen = append(h.seen, step{Name: name, Through: got})
}

func TestClientsOfEveryKindWorkThroughTheGate(t *testing.T) {
	const off = "; to switch the guard off: touch /etc/stopguard/gate-off"
	answers := map[string]struct {
		exit        int
		begin, ends string // of stderr
	}{
		"the read-only socket is for looking":                {},
		"the read-only socket is for no more":                {1, "error: Failed to destroy domain 'web-01'\nerror: operation forbidden: read only access prevents virDomainDestroy\n", "\n"},
		"a disk is copied":                                   {},
		"libvirtd is down":                                   {1, "error: failed to connect to the hypervisor\nerror: " + daemon + " is not reachable: ", "look at systemctl status " + daemon + "\n"},
		"libvirtd is up again":                               {1, "error: Failed to destroy domain 'protected-01'\n" + veto("protected-01"), "\n"},
		"the gate is off":                                    {},
		"the policy is broken":                               {1, "error: Failed to reset domain 'protected-01'\nerror: stopguard: fault: protected-01: ", off + "\n"},
		"the policy is broken, and nothing is to be decided": {},
		"the gate is gone":                                   {1, "error: failed to connect to the hypervisor\n", "\n"},
	}
	noted := 0
	for _, s := range on(t, "clients") {
		t.Run(s.Name, func(t *testing.T) {
			want, ok := answers[s.Name]
			if !ok {
				if s.State != "ok" {
					t.Error(s.State)
				}
				t.Log(s.Memory)
				return
			}
			noted++
			got := s.Through
			if got.Exit != want.exit || !strings.HasPrefix(got.Stderr, want.begin) || !strings.HasSuffix(got.Stderr, want.ends) {
				t.Errorf("%+v", got)
			}
		})
	}
	if noted != len(answers) {
		t.Errorf("%d of %d steps", noted, len(answers))
	}
}
