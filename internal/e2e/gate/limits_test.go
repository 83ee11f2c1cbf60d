//go:build e2e

package e2e

import (
	"os"
	"os/user"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/policy/record"
)

// newcomer has a name that the rule protects, and is not there yet.
var newcomer = e2ehost.Guest{Name: "protected-new", UUID: "3a6f1c9e-5b0d-4f5e-8a43-2f1f6d1c7b90"}

// emulator is a program of the client's own, which notes as whom it runs.
const emulator = `#!/bin/sh
id -un >>/run/ran
exec /usr/bin/qemu-system-x86_64 "$@"
`

// programs creates domains whose emulator is a program of the client's.
func (h *host) programs() {
	h.begin()
	h.File("/usr/local/bin/own-emulator", emulator, 0o755)
	file := h.Write(newcomer)
	plain := strings.Replace(h.Read(file), "<devices>", "<devices><emulator>/usr/local/bin/own-emulator</emulator>", 1)
	asRoot := strings.Replace(plain, "</devices>", "</devices><seclabel type='static' model='dac' relabel='yes'><label>+0:+0</label></seclabel>", 1)
	for name, xml := range map[string]string{"as QEMU's user": plain, "as root": asRoot} {
		h.Doing = name
		h.File("/run/ran", "", 0o666)
		h.File(file, xml, 0o644)
		s := step{Name: name, Through: h.Virsh("create", file), State: h.State(newcomer), Records: h.Records()}
		s.Memory = h.Read("/run/ran")
		h.seen = append(h.seen, s)
		h.DirectOK("destroy", newcomer.UUID)
	}
}

// It is not access control: the gate asks about no definition or creation of a new domain, and
// whoever may do that runs programs.
func TestWhoMayCreateDomainsRunsProgramsAsQEMUsUserAndAsRoot(t *testing.T) {
	seen := on(t, "programs")
	if len(seen) != 2 {
		t.Fatalf("%d steps", len(seen))
	}
	for _, s := range seen {
		if s.Through.Exit != 0 || !strings.HasPrefix(s.State, "running") || len(s.Records) > 0 {
			t.Errorf("%s: %+v, %s, on record %q", s.Name, s.Through, s.State, s.Records)
		}
		users := strings.Fields(s.Memory)
		last := ""
		if len(users) > 0 {
			last = users[len(users)-1] // the first ones are probes of its features
		}
		account, err := user.Lookup(last)
		if err != nil || (account.Uid == "0") != (s.Name == "as root") {
			t.Errorf("%s: it ran as %q (%v)", s.Name, users, err)
		}
	}
}

// rooted does what root can do past the guard.
func (h *host) rooted() {
	h.begin()
	h.StartGuest(guarded)
	h.note("a stop is refused", h.Virsh("destroy", guarded.Name))

	h.Doing = "root kills QEMU"
	h.Signal(h.QEMU(guarded), syscall.SIGKILL)
	h.Until("libvirtd has seen it", func() bool { return strings.HasPrefix(h.State(guarded), "shut off") })
	h.seen = append(h.seen, step{Name: "QEMU is killed", State: h.State(guarded)})

	h.Doing = "root edits the record"
	file := "/" + strings.TrimPrefix(record.File, "/")
	lines := slices.Collect(strings.Lines(h.Read(file)))
	kept := slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, `"outcome":"veto"`) })
	h.File(file, strings.Join(kept, ""), 0o600)
	h.DirectOK("start", guarded.Name)
	h.note("another stop is refused", h.Virsh("destroy", guarded.Name))
	h.note("the record", e2ehost.Answer{Exit: strings.Count(h.Read(file), `"outcome":"veto"`)})

	h.Doing = "root switches the guard off"
	h.File("/etc/stopguard/gate-off", "", 0o644)
	h.note("off", h.Virsh("destroy", guarded.Name))
	h.seen[len(h.seen)-1].State = h.State(guarded)
	_ = os.Remove("/etc/stopguard/gate-off")
}

func TestRootKillsAGuestEditsTheRecordAndSwitchesTheGuardOff(t *testing.T) {
	seen := map[string]step{}
	for _, s := range on(t, "rooted") {
		seen[s.Name] = s
	}
	for _, name := range []string{"a stop is refused", "another stop is refused"} {
		if got := seen[name].Through; got.Exit != 1 || !strings.Contains(got.Stderr, veto(guarded.Name)) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := seen["QEMU is killed"].State; got != "shut off (crashed)" {
		t.Errorf("after the kill the guest is %q", got)
	}
	if got := seen["the record"].Through.Exit; got != 1 {
		t.Errorf("the edited record has %d vetoes; the one before the edit was taken out", got)
	}
	if got := seen["off"]; got.Through.Exit != 0 || got.State != "shut off (destroyed)" {
		t.Errorf("with the guard off: %+v", got)
	}
}
