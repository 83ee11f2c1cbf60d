//go:build e2e

package e2e

import (
	"strings"
	"sync"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// The mark is another domain's, so that it does not veto by itself; it must not be taken away all
// the same.
const mark = `<protection xmlns="urn:stopguard:protection:1" reason="billing" domain="11111111-2222-4333-8444-555555555555"/>`

var (
	guarded = e2ehost.Guest{Name: "protected-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11", Metadata: mark}
	resting = e2ehost.Guest{Name: "protected-02", UUID: "9a8f1f0e-7f0b-4a6e-9d6b-7b5a3f1d2c44"} // it is off
	free    = e2ehost.Guest{Name: "web-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"}
	control = e2ehost.Guest{Name: "web-02", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a56"} // as free, past the gate
)

// A virshCase is one command. DOM stands for the domain. On the protected guest the command is
// vetoed, and the guest does not change. On another guest the command does the same as without the
// gate.
type virshCase struct {
	name    string
	args    string // split at blanks; + stands for a blank
	passes  bool   // on the protected guest too
	resting bool   // it is the guest that is off
	after   string // how the state of the unprotected guest begins afterwards; "" if it runs on
	racy    bool   // virsh's output varies: QEMU may end before it has answered
}

const (
	saved     = "shut off (saved)"
	destroyed = "shut off (destroyed)"
	ended     = "shut off (shutdown)"
	off       = "shut off"
	paused    = "paused"
)

var virshCases = []virshCase{
	// Stop.
	{name: "DESTROY", args: "destroy DOM", after: destroyed},
	{name: "DESTROY_FLAGS", args: "destroy DOM --graceful", after: destroyed},
	{name: "SHUTDOWN", args: "shutdown DOM", after: ended},
	{name: "SHUTDOWN_FLAGS", args: "shutdown DOM --mode acpi", after: ended},
	{name: "SAVE", args: "save DOM /run/DOM.save", after: saved},
	{name: "SAVE_FLAGS", args: "save DOM /run/DOM.save --running", after: saved},
	{name: "MANAGED_SAVE", args: "managedsave DOM", after: saved},
	{name: "CORE_DUMP, crash", args: "dump DOM /run/DOM.core --crash", after: "shut off (crashed)"},
	{name: "CORE_DUMP_WITH_FORMAT, crash", args: "dump DOM /run/DOM.core --crash --memory-only", after: "shut off (crashed)"},
	{name: "SNAPSHOT_CREATE_XML, halt", args: "snapshot-create-as DOM s --halt"},
	{name: "REVERT_TO_SNAPSHOT", args: "snapshot-revert DOM before", after: "shut off (from snapshot)"},
	{name: "MONITOR_COMMAND, for people", args: "qemu-monitor-command DOM --hmp quit", after: off, racy: true},
	{name: "MONITOR_COMMAND", args: `qemu-monitor-command DOM {"execute":"quit"}`, after: off, racy: true},
	{name: "MONITOR_COMMAND, people's in JSON", args: `qemu-monitor-command DOM {"execute":"human-monitor-command","arguments":{"command-line":"quit"}}`, after: off, racy: true},
	{name: "MONITOR_COMMAND, what makes a reset a stop", args: `qemu-monitor-command DOM {"execute":"set-action","arguments":{"reboot":"shutdown"}}`},
	{name: "MONITOR_COMMAND, what makes an object of any type", args: `qemu-monitor-command DOM {"execute":"device-list-properties","arguments":{"typename":"pvpanic"}}`},
	{name: "AGENT_COMMAND", args: `qemu-agent-command DOM {"execute":"guest-shutdown"}`},
	{name: "CREATE_WITH_FLAGS, autodestroy", args: "start DOM --autodestroy", resting: true, after: destroyed},

	// Reset.
	{name: "RESET", args: "reset DOM"},
	{name: "REBOOT", args: "reboot DOM --mode acpi"},
	{name: "CORE_DUMP, reset", args: "dump DOM /run/DOM.core --reset"},
	{name: "CORE_DUMP_WITH_FORMAT, reset", args: "dump DOM /run/DOM.core --reset --memory-only"},
	{name: "INJECT_NMI", args: "inject-nmi DOM"},
	{name: "SEND_KEY", args: "send-key DOM KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE"},
	{name: "SEND_PROCESS_SIGNAL", args: "send-process-signal DOM 1 KILL"},
	{name: "MONITOR_COMMAND, reset", args: "qemu-monitor-command DOM --hmp system_reset"},

	// Pause.
	{name: "SUSPEND", args: "suspend DOM", after: paused},
	{name: "PM_SUSPEND_FOR_DURATION", args: "dompmsuspend DOM mem"},
	{name: "FSFREEZE", args: "domfsfreeze DOM"},
	{name: "CORE_DUMP", args: "dump DOM /run/DOM.core"},
	{name: "SNAPSHOT_CREATE_XML", args: "snapshot-create-as DOM s"},
	{name: "MIGRATE_SET_MAX_DOWNTIME", args: "migrate-setmaxdowntime DOM 100000"},
	{name: "MIGRATE_START_POST_COPY", args: "migrate-postcopy DOM"},
	{name: "MONITOR_COMMAND, stop", args: `qemu-monitor-command DOM {"execute":"stop"}`, after: paused},

	// Move. A migration that succeeds has a host of its own.
	{name: "MIGRATE_PERFORM3_PARAMS", args: "migrate --live --p2p DOM qemu+tcp://127.0.0.1/system"},
	{name: "MONITOR_COMMAND, migrate", args: "qemu-monitor-command DOM --hmp migrate+-d+tcp:127.0.0.1:1"},

	// Modify.
	{name: "SET_METADATA, set", args: `metadata DOM --uri urn:stopguard:protection:1 --key p --set <protection+until="2001-01-01"/> --live --config`},
	{name: "SET_METADATA, remove", args: "metadata DOM --uri urn:stopguard:protection:1 --remove --live --config"},
	{name: "SET_LIFECYCLE_ACTION", args: "set-lifecycle-action DOM reboot destroy --config"},
	{name: "SET_AUTOSTART", args: "autostart DOM --disable"},
	{name: "RENAME", args: "domrename DOM other-DOM"},
	{name: "RENAME, of a domain that is off", args: "domrename DOM other-DOM", resting: true},
	{name: "DEFINE_XML, without the mark", args: "define /run/DOM-bare.xml"},
	{name: "DEFINE_XML_FLAGS, without the mark", args: "define /run/DOM-bare.xml --validate"},
	{name: "UNDEFINE", args: "undefine DOM", resting: true},
	{name: "UNDEFINE_FLAGS", args: "undefine DOM --nvram", resting: true},

	// Pass.
	{name: "list", args: "list --all", passes: true},
	{name: "domstate", args: "domstate DOM", passes: true},
	{name: "RESUME", args: "resume DOM", passes: true},
	{name: "SET_METADATA of others", args: "metadata DOM --uri urn:x --key x --set <x/> --live", passes: true},
	{name: "a title", args: "desc DOM --title --live hello", passes: true},
	{name: "DEFINE_XML, with the mark", args: "define /run/DOM-same.xml", passes: true},
	{name: "MONITOR_COMMAND that only asks", args: `qemu-monitor-command DOM {"execute":"query-status"}`, passes: true},
	{name: "people's that only asks", args: "qemu-monitor-command DOM --hmp info+status", passes: true},
	{name: "CORE_DUMP, live", args: "dump DOM /run/DOM.core --live", passes: true},
	{name: "a snapshot of a disk alone", args: "snapshot-create-as DOM s --disk-only --no-metadata --print-xml", passes: true},
	{name: "domblkstat", args: "domblkstat DOM hda", passes: true},
	{name: "what is no XML", args: "define /dev/null", passes: true},
}

func (c virshCase) on(name string) []string {
	args := strings.Fields(strings.ReplaceAll(c.args, "DOM", name))
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "+", " ")
		if strings.Contains(a, "qemu+tcp") {
			args[i] = a
		}
	}
	return args
}

const snapshotXML = `<domainsnapshot><name>before</name><state>shutoff</state><creationTime>1</creationTime><domain type='qemu'/></domainsnapshot>`

func (h *host) virshCalls() {
	h.begin()
	for _, g := range []e2ehost.Guest{guarded, free, control} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
		h.File("/run/"+g.Name+"-same.xml", g.XML(), 0o600)
		h.File("/run/"+g.Name+"-bare.xml", strings.Replace(g.XML(), mark, "", 1), 0o600)
		snapshot := strings.Replace(snapshotXML, "<domain type='qemu'/>", strings.TrimSpace(g.XML()), 1)
		h.File("/run/"+g.Name+"-snapshot.xml", snapshot, 0o600)
		h.DirectOK("snapshot-create", g.Name, "/run/"+g.Name+"-snapshot.xml", "--redefine")
	}
	h.DirectOK("define", h.Write(resting))
	h.Remind(guarded)
	for _, c := range virshCases {
		h.Doing = c.name
		target := guarded
		if c.resting {
			target = resting
		}
		s := step{Name: c.name, Through: h.Virsh(c.on(target.Name)...)}
		s.State = h.State(target)
		s.Memory = h.Ask(guarded)
		h.seen = append(h.seen, s)

		if c.resting {
			both(func() { h.DirectOK("destroy", free.Name) }, func() { h.DirectOK("destroy", control.Name) })
		}
		s = step{Name: c.name}
		both(func() { s.Through = h.Virsh(c.on(free.Name)...) }, func() { s.Direct = h.OnDirect(c.on(control.Name)...) })
		reached := h.Within(e2ehost.Patience/2, func() bool { return c.reached(h.State(free)) })
		if s.State = h.State(free); !reached {
			s.State = "in vain: " + s.State
		}
		h.seen = append(h.seen, s)
		both(func() { h.redefine(free) }, func() { h.redefine(control) })
	}
}

// both does two things at once.
func both(a, b func()) {
	var wait sync.WaitGroup
	wait.Go(a)
	wait.Go(b)
	wait.Wait()
}

// reached reports whether the unprotected guest is in the state that is wanted.
func (c virshCase) reached(state string) bool {
	if c.after != "" {
		return strings.HasPrefix(state, c.after)
	}
	return c.resting || strings.HasPrefix(state, "running")
}

// redefine returns an unprotected guest to its first state: defined and running.
func (h *host) redefine(g e2ehost.Guest) {
	h.Within(e2ehost.Patience/2, func() bool { return !strings.HasPrefix(h.State(g), "in shutdown") })
	switch state := h.State(g); {
	case strings.HasPrefix(state, "running"):
	case strings.HasPrefix(state, "paused"):
		h.DirectOK("resume", g.Name)
	default:
		_ = h.OnDirect("domrename", "other-"+g.Name, g.Name)
		_ = h.OnDirect("managedsave-remove", g.Name)
		h.DirectOK("define", h.Write(g))
		h.DirectOK("start", g.Name)
		h.Ask(g) // a byte that arrives before the guest has booted is lost
	}
}

func TestEveryCommandIsVetoedOrDoesWhatItDoesWithoutTheGate(t *testing.T) {
	seen := on(t, "virsh")
	if len(seen) != 2*len(virshCases) {
		t.Fatalf("%d steps, want %d", len(seen), 2*len(virshCases))
	}
	for i, c := range virshCases {
		onProtected, onFree := seen[2*i], seen[2*i+1]
		t.Run(c.name, func(t *testing.T) {
			target, state := guarded, "running"
			if c.resting {
				target, state = resting, "shut off"
			}
			c.compare(t, onProtected, onFree, target, state)
		})
	}
}

// compare compares the observations of a protected and of an unprotected guest with the case.
func (c virshCase) compare(t *testing.T, onProtected, onFree step, target e2ehost.Guest, state string) {
	t.Helper()
	c.check(t, target, onProtected.Through)
	if !strings.HasPrefix(onProtected.State, state) || onProtected.Memory != e2ehost.Kept {
		t.Errorf("the protected guest is %s, its memory %s", onProtected.State, onProtected.Memory)
	}
	if !c.reached(onFree.State) {
		t.Errorf("the other guest is %s, want %q", onFree.State, c.after)
	}
	c.same(t, onFree, free, control)
}

// check compares virsh's output for the protected guest with the case.
func (c virshCase) check(t *testing.T, g e2ehost.Guest, got e2ehost.Answer) {
	t.Helper()
	if c.passes {
		if strings.Contains(got.Stderr, veto(g.Name)) {
			t.Errorf("it is vetoed: %s", got.Stderr)
		}
	} else if got.Exit != 1 || !strings.Contains(got.Stderr, veto(g.Name)+"\n") {
		t.Errorf("it is not vetoed: %+v", got)
	}
}

// same compares virsh's output for an unprotected guest with that for another one without the gate.
func (c virshCase) same(t *testing.T, s step, g, past e2ehost.Guest) {
	t.Helper()
	alike := func(text string) string { return strings.ReplaceAll(text, past.Name, g.Name) }
	if !c.racy && (s.Through.Exit != s.Direct.Exit || alike(s.Through.Stderr) != alike(s.Direct.Stderr)) {
		t.Errorf("with the gate %d, %q;\nwithout it %d, %q", s.Through.Exit, s.Through.Stderr, s.Direct.Exit, s.Direct.Stderr)
	}
	t.Logf("%d: %s", s.Through.Exit, firstLine(s.Through.Stderr+s.Through.Stdout))
}
