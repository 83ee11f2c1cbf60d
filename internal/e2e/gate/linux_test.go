//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// Guests with an operating system that reacts to requests, and with an agent.
var (
	guardedLinux = e2ehost.Guest{Name: "protected-03", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c13", Linux: true}
	freeLinux    = e2ehost.Guest{Name: "web-03", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a60", Linux: true}
	controlLinux = e2ehost.Guest{Name: "web-04", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a61", Linux: true} // past the gate
)

const asleep = "pmsuspended"

// A linuxCase is one command, as a virshCase. The unprotected guest keeps its memory afterwards,
// unless it booted.
type linuxCase struct {
	virshCase
	restarts bool // the unprotected guest has booted once more afterwards
	frozen   bool // its file systems are frozen
}

// A command that ends a guest through its agent may end the agent before its answer. libvirtd then
// reports success at some times and an error at others.
var linuxCases = []linuxCase{
	// Stop.
	{virshCase: virshCase{name: "SHUTDOWN", args: "shutdown DOM", after: ended, racy: true}},
	{virshCase: virshCase{name: "SHUTDOWN_FLAGS, the button", args: "shutdown DOM --mode acpi", after: ended}},
	{virshCase: virshCase{name: "SHUTDOWN_FLAGS, the agent", args: "shutdown DOM --mode agent", after: ended, racy: true}},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-shutdown", args: `qemu-agent-command DOM {"execute":"guest-shutdown"}`, after: ended, racy: true}},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-exec", args: `qemu-agent-command DOM {"execute":"guest-exec","arguments":{"path":"/bin/poweroff","arg":["-f"]}}`, after: ended, racy: true}},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-file-open", args: `qemu-agent-command DOM {"execute":"guest-file-open","arguments":{"path":"/run/x","mode":"w"}}`}},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-set-user-password", args: `qemu-agent-command DOM {"execute":"guest-set-user-password","arguments":{"username":"root","password":"eHl6","crypted":false}}`}},
	{virshCase: virshCase{name: "SET_USER_PASSWORD", args: "set-user-password DOM root xyz"}},

	// The kernel's system request, o; QEMU makes the same of two keys.
	{virshCase: virshCase{name: "SEND_KEY, sysrq-o", args: "send-key DOM KEY_LEFTALT KEY_SYSRQ KEY_O", after: ended}},
	{virshCase: virshCase{name: "SEND_KEY, print-o", args: "send-key DOM --codeset qnum 56 183 24", after: ended}},

	// Reset.
	{virshCase: virshCase{name: "REBOOT, the agent", args: "reboot DOM --mode agent", racy: true}, restarts: true},
	{virshCase: virshCase{name: "REBOOT, the button", args: "reboot DOM --mode acpi"}, restarts: true},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-shutdown to reboot", args: `qemu-agent-command DOM {"execute":"guest-shutdown","arguments":{"mode":"reboot"}}`, racy: true}, restarts: true},
	{virshCase: virshCase{name: "SEND_KEY", args: "send-key DOM KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE"}, restarts: true},

	// Pause.
	{virshCase: virshCase{name: "PM_SUSPEND_FOR_DURATION", args: "dompmsuspend DOM mem", after: asleep, racy: true}},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-suspend-ram", args: `qemu-agent-command DOM {"execute":"guest-suspend-ram"}`, after: asleep, racy: true}},
	{virshCase: virshCase{name: "FSFREEZE", args: "domfsfreeze DOM"}, frozen: true},
	{virshCase: virshCase{name: "AGENT_COMMAND, guest-fsfreeze-freeze", args: `qemu-agent-command DOM {"execute":"guest-fsfreeze-freeze"}`}, frozen: true},

	// Pass.
	{virshCase: virshCase{name: "AGENT_COMMAND that only asks", args: `qemu-agent-command DOM {"execute":"guest-get-users"}`, passes: true}},
	{virshCase: virshCase{name: "FSTHAW", args: "domfsthaw DOM", passes: true}},
}

func (h *host) linux() {
	h.begin()
	all := []e2ehost.Guest{guardedLinux, freeLinux, controlLinux}
	for _, g := range all {
		h.Doing = g.Name + " is started"
		h.DirectOK("define", h.Write(g))
		h.DirectOK("start", g.Name)
	}
	for _, g := range all {
		h.Remind(g)
		h.AwaitAgent(g)
	}
	for _, g := range all {
		h.keep(g)
		h.AwaitAgent(g)
	}
	for _, c := range linuxCases {
		h.Doing = c.name
		for _, g := range all {
			h.Remind(g)
		}
		s := step{Name: c.name, Through: h.Virsh(c.on(guardedLinux.Name)...)}
		s.State, s.Memory = h.State(guardedLinux)+h.fileSystems(guardedLinux), h.memory(guardedLinux)
		h.seen = append(h.seen, s)
		if !c.passes && !strings.Contains(s.Through.Stderr, veto(guardedLinux.Name)) {
			h.renew(guardedLinux) // so that the other cases start from a running guest
		}

		s = step{Name: c.name}
		both(func() { s.Through = h.Virsh(c.on(freeLinux.Name)...) }, func() { s.Direct = h.OnDirect(c.on(controlLinux.Name)...) })
		if c.restarts {
			h.renew(controlLinux) // its state does not matter here, and booting two guests takes long
			h.Within(4*e2ehost.Patience, func() bool { return h.Ask(freeLinux) == e2ehost.Fresh })
		}
		// The call may be answered before the guest is asleep or off.
		reached := h.Within(e2ehost.Patience, func() bool {
			return c.reached(h.State(freeLinux)) && c.reached(h.State(controlLinux))
		})
		if s.State = h.State(freeLinux); !reached {
			s.State = "in vain: " + s.State
		}
		if c.frozen {
			s.State += h.fileSystems(freeLinux)
		}
		both(func() { h.wake(freeLinux) }, func() { h.wake(controlLinux) })
		s.Memory = h.Ask(freeLinux)
		h.seen = append(h.seen, s)
	}
}

// fileSystems returns the agent's information about its file systems.
func (h *host) fileSystems(g e2ehost.Guest) string {
	got := h.OnDirect("qemu-agent-command", g.Name, `{"execute":"guest-fsfreeze-status"}`)
	return ", " + strings.Trim(strings.TrimSpace(got.Stdout), `{}`)
}

// memoryFile returns the path of a file with a guest's memory.
func memoryFile(g e2ehost.Guest) string { return "/run/" + g.Name + ".kept" }

// keep keeps a guest as it is now, for that it need not boot each time.
func (h *host) keep(g e2ehost.Guest) {
	h.DirectOK("save", g.Name, memoryFile(g))
	h.DirectOK("restore", memoryFile(g))
}

// renew restores a guest to its saved state.
func (h *host) renew(g e2ehost.Guest) {
	_ = h.OnDirect("destroy", g.Name) // it may be off
	h.DirectOK("restore", memoryFile(g))
}

// wake makes a guest run again.
func (h *host) wake(g e2ehost.Guest) {
	h.Until(g.Name+" is not about to end", func() bool { return !strings.HasPrefix(h.State(g), "in shutdown") })
	switch state := h.State(g); {
	case strings.HasPrefix(state, asleep):
		h.DirectOK("dompmwakeup", g.Name)
	case strings.HasPrefix(state, off):
		h.renew(g)
	}
	h.AwaitAgent(g)
	h.DirectOK("domfsthaw", g.Name)
}

func TestAnOperatingSystemAndItsAgentAreToldNothingThatIsVetoed(t *testing.T) {
	e2ehost.NeedLinux(t)
	seen := on(t, "linux")
	if len(seen) != 2*len(linuxCases) {
		t.Fatalf("%d steps, want %d", len(seen), 2*len(linuxCases))
	}
	for i, c := range linuxCases {
		onProtected, onFree := seen[2*i], seen[2*i+1]
		t.Run(c.name, func(t *testing.T) {
			c.check(t, guardedLinux, onProtected.Through)
			if want := `running (restored), "return":"thawed"`; onProtected.State != want || onProtected.Memory != e2ehost.Kept {
				t.Errorf("the protected guest is %s, its memory %s", onProtected.State, onProtected.Memory)
			}
			memory := e2ehost.Kept
			if c.restarts {
				memory = e2ehost.Fresh
			}
			if !c.reached(onFree.State) || onFree.Memory != memory {
				t.Errorf("the other guest is %s, its memory %s; want %q, %s", onFree.State, onFree.Memory, c.after, memory)
			}
			if c.frozen && !strings.HasSuffix(onFree.State, `"return":"frozen"`) {
				t.Errorf("the other guest is %s, want it to be frozen", onFree.State)
			}
			c.same(t, onFree, freeLinux, controlLinux)
		})
	}
}
