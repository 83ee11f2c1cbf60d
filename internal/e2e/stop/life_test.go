//go:build e2e

package stop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

const mark = `<p:protection xmlns:p="urn:stopguard:protection:1" reason="billing primary" until="2099-06-30"/>`

var (
	marked      = e2ehost.Guest{Name: "pg-primary-01", UUID: "d19e7151-4c02-4aa7-a443-59213be70aba", Metadata: mark}
	ordinary    = e2ehost.Guest{Name: "web-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"}
	unstartable = e2ehost.Guest{Name: "web-02", UUID: "0f6f7b1c-33ab-4a52-9a60-95b1f1f7c0de", Metadata: mark, Kernel: e2ehost.GuestDir + "/no-kernel"}
)

const (
	markVeto  = "stopguard: veto: pg-primary-01: protected until 2099-06-30: billing primary (rule protection_mark)"
	isRunning = "running (booted)"
)

// A lifeCase is an event in a domain's life, and its wanted result.
type lifeCase struct {
	name, why string
	guest     e2ehost.Guest
	do        func(*host, e2ehost.Guest) e2ehost.Answer
	after     func(*host, e2ehost.Guest) // brings the domain back for the next case

	fails    string // virsh's stderr; "" if it succeeds
	state    string
	outcomes string
}

func destroy(h *host, g e2ehost.Guest) e2ehost.Answer { return h.Virsh("destroy", g.UUID) }

// kill ends the guest's QEMU, and waits until libvirt has noticed.
func kill(h *host, g e2ehost.Guest) e2ehost.Answer {
	h.Signal(h.QEMU(g), syscall.SIGKILL)
	h.awaitState(g, "shut off (crashed)")
	return e2ehost.Answer{}
}

func restartDaemon(signal syscall.Signal) func(*host, e2ehost.Guest) e2ehost.Answer {
	return func(h *host, g e2ehost.Guest) e2ehost.Answer {
		h.EndDaemon(signal)
		h.StartDaemon()
		h.awaitState(g, isRunning)
		return destroy(h, g)
	}
}

// brokenly does something while the site's policy is broken.
func brokenly(do func(*host, e2ehost.Guest) e2ehost.Answer) func(*host, e2ehost.Guest) e2ehost.Answer {
	return func(h *host, g e2ehost.Guest) e2ehost.Answer {
		h.File(ruleFile, "package stopguard.rules.site\n\nveto contains", 0o644)
		defer os.Remove(ruleFile)
		return do(h, g)
	}
}

// The cases go on from each other.
var lifeCases = []lifeCase{
	{
		name: "a marked guest is destroyed", why: "the veto aborts the stop, and its reason is what virsh prints last",
		guest: marked, do: destroy, fails: markVeto, state: isRunning, outcomes: "veto",
	},
	{
		name: "an unprotected guest is destroyed", guest: ordinary, do: destroy, state: "shut off (destroyed)", outcomes: "allow",
	},
	{
		name: "the daemon is restarted", why: "a guest that the hook refuses to stop must outlive it", guest: marked, do: restartDaemon(syscall.SIGTERM),
		fails: markVeto, state: isRunning, outcomes: "veto",
	},
	{
		name: "the daemon is killed and started again", guest: marked, do: restartDaemon(syscall.SIGKILL),
		fails: markVeto, state: isRunning, outcomes: "veto",
	},
	{
		name: "a stop under a broken policy", guest: marked, do: brokenly(destroy),
		fails: "stopguard: fault: pg-primary-01: ", state: isRunning, outcomes: "fault",
	},
	{
		name: "the daemon is restarted under a broken policy", why: "a hook that fails on reconnect kills the guest", guest: marked,
		do: brokenly(restartDaemon(syscall.SIGTERM)), fails: "stopguard: fault: pg-primary-01: ", state: isRunning, outcomes: "fault",
	},
	{
		name: "a QEMU is killed under a broken policy", why: "a fault for a dead guest would wedge the domain", guest: marked,
		do: brokenly(kill), after: (*host).start, state: "shut off (crashed)", outcomes: "moot fault",
	},
	{
		name: "a QEMU is killed", why: "a veto for a dead guest would wedge the domain", guest: marked,
		do: kill, after: (*host).start, state: "shut off (crashed)", outcomes: "moot escape",
	},
	{
		name: "a guest powers itself off", why: "likewise", guest: marked,
		do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			h.Tell(g, 'o')
			h.awaitState(g, "shut off (shutdown)")
			return e2ehost.Answer{}
		},
		after: (*host).start, state: "shut off (shutdown)", outcomes: "moot escape",
	},
	{
		name: "a guest is asked to power itself off", why: "libvirt asks the hook when QEMU has ended", guest: marked,
		do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			got := h.Virsh("shutdown", g.UUID)
			h.awaitState(g, "shut off (shutdown)")
			return got
		},
		after: (*host).start, state: "shut off (shutdown)", outcomes: "moot escape",
	},
	{
		name: "a protected domain fails to start", why: "nothing is left of it, and libvirt before 10.5 does not say why it ended", guest: unstartable,
		do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			h.VirshOK("define", h.Write(g))
			return h.Virsh("start", g.UUID)
		},
		fails: "Failed to start domain", state: "shut off (failed)", outcomes: "escape",
	},
	{
		name: "the connection that started a guest with autodestroy is closed", guest: marked,
		do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			h.Run("stopguard", "ticket", "grant", g.Name, "--reason", "to start it anew")
			h.VirshOK("destroy", g.UUID)
			h.records(g)
			got := h.Virsh("start", "--autodestroy", g.UUID) // virsh closes the connection when it ends
			h.Remind(g)
			return got
		},
		state: isRunning, outcomes: "veto",
	},
	{
		name: "a ticket", why: "it lifts the veto for one incarnation", guest: marked,
		do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			h.Run("stopguard", "ticket", "grant", g.Name, "--reason", "kernel update")
			return destroy(h, g)
		},
		after: (*host).start, state: "shut off (destroyed)", outcomes: "allow",
	},
	{
		name: "a second stop after a ticket was used", guest: marked, do: destroy, fails: markVeto, state: isRunning, outcomes: "veto",
	},
	{
		name: "a guest whose name libvirt writes differently into the path of its pid file", why: "the pid file of this one is web.pid",
		guest: control, do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			plain := g
			plain.Name = "plain"
			h.VirshOK("define", h.Write(plain))
			h.VirshOK("domrename", plain.UUID, g.Name)
			h.VirshOK("start", g.UUID)
			h.Remind(plain)
			return destroy(h, g)
		},
		fails: "protected until 2099-06-30: billing primary (rule protection_mark)", state: isRunning, outcomes: "veto",
	},
	{
		name: "its QEMU is killed", why: "it must not be wedged either", guest: control,
		do: func(h *host, g e2ehost.Guest) e2ehost.Answer {
			if strings.HasPrefix(h.State(g), "running") {
				h.Signal(h.PID("/run/libvirt/qemu/web.pid"), syscall.SIGKILL)
			}
			h.awaitState(g, "shut off (crashed)")
			return e2ehost.Answer{}
		},
		state: "shut off (crashed)", outcomes: "moot escape",
	},
}

// control has a name with a control character, which virsh domrename takes and XML cannot hold.
var control = e2ehost.Guest{Name: "we\x01b", UUID: "b2c4ad1b-7f2e-4c8e-9d3c-0c6a2b8f5e10", Metadata: mark}

func (h *host) stops() {
	h.StartDaemon()
	h.guest(marked)
	h.guest(ordinary)
	for _, c := range lifeCases {
		h.Doing = c.name
		h.records(c.guest)
		got := c.do(h, c.guest)
		h.Within(e2ehost.Patience/8, func() bool { return h.State(c.guest) == c.state })
		h.observe(c.name, c.guest, got)
		if c.after != nil {
			c.after(h, c.guest)
		}
	}
}

func TestAStopIsRefusedOrLetGo(t *testing.T) {
	t.Parallel()
	seen := on(t, "stops")
	if len(seen) != len(lifeCases) {
		t.Fatalf("%d steps, want %d", len(seen), len(lifeCases))
	}
	for i, c := range lifeCases {
		t.Run(c.name, func(t *testing.T) { c.check(t, seen[i]) })
	}
}

func (c lifeCase) check(t *testing.T, s step) {
	t.Helper()
	if c.why != "" {
		t.Logf("because %s", c.why)
	}
	if c.fails == "" && s.Answer.Exit != 0 || c.fails != "" && (s.Answer.Exit == 0 || !strings.Contains(s.Answer.Stderr, c.fails)) {
		t.Errorf("virsh: %+v, want %q", s.Answer, c.fails)
	}
	if s.State != c.state {
		t.Errorf("the domain is %q, want %q", s.State, c.state)
	}
	if strings.HasPrefix(c.state, "running") && s.Memory != e2ehost.Kept {
		t.Errorf("the guest is not the same: its memory is %q", s.Memory)
	}
	if s.Outcomes != c.outcomes {
		t.Errorf("recorded: %q, want %q: %q", s.Outcomes, c.outcomes, s.Details)
	}
}

const members = 6

func member(i int) e2ehost.Guest {
	return e2ehost.Guest{Name: fmt.Sprintf("dns-%d", i), UUID: fmt.Sprintf("7d0d2a3e-5b7c-4b8e-8e49-0000000000%02d", i)}
}

// groups destroys all members of a group at once, of which two must run on.
func (h *host) groups() {
	h.File(dataFile, "site:\n  min_running:\n    groups:\n      - {name: dns, min: 2, members: [\"dns-*\"]}\n", 0o644)
	h.StartDaemon()
	for i := range members {
		h.guest(member(i))
	}
	h.Doing = "all members are destroyed at once"
	answers := make([]e2ehost.Answer, members)
	var all sync.WaitGroup
	for i := range members {
		all.Go(func() { answers[i] = destroy(h, member(i)) })
	}
	all.Wait()
	for i := range members {
		h.observe(member(i).Name, member(i), answers[i])
	}
}

func TestSixStopsAtOnceLeaveTwoRunning(t *testing.T) {
	t.Parallel()
	seen := on(t, "groups")
	var states []string
	for _, s := range seen {
		states = append(states, s.State)
		vetoed := strings.Contains(s.Answer.Stderr, "(rule min_running)")
		if isUp := strings.HasPrefix(s.State, "running"); isUp != vetoed || isUp == (s.Answer.Exit == 0) {
			t.Errorf("%s is %s, and virsh says %+v", s.Name, s.State, s.Answer)
		}
	}
	slices.Sort(states)
	if got := strings.Join(states, ", "); got != strings.Repeat(isRunning+", ", 2)+strings.Repeat("shut off (destroyed), ", 3)+"shut off (destroyed)" {
		t.Errorf("the members are %s, want two running", got)
	}
}
