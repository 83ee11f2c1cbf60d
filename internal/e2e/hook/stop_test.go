//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
)

const stopsScript = "stops"

var (
	listed   = guest{Name: "listed-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c11"}
	ordinary = guest{Name: "web-01", UUID: "3c9e4d35-0b0b-4d05-8e0e-2f4d0f3b7a55"}
	panicky  = guest{Name: "pg-replica-01", UUID: "9a8f1f0e-7f0b-4a6e-9d6b-7b5a3f1d2c44", Metadata: marked.Metadata, OnCrash: "preserve"}
)

// A stopCase is a domain in a state in which a libvirt with the stop operation could call its hook.
type stopCase struct {
	name, why string
	guest     guest
	arrange   func(h *host, g guest)
	restore   func(h *host, g guest)
	as        string // another name to call the hook with

	want    expected
	life    string // hookproto's result
	seen    string // its evidence; PID stands for the process ID
	monitor string // the monitor in the status file; ID stands for the domain's ID
	otherID string // the result if the XML had an ID that no domain has, and there were no status file
}

const (
	alive      = "process PID is alive"
	monitorAt  = "/var/lib/libvirt/qemu/domain-ID-"
	monitorEnd = "/monitor.sock"
)

// Each case starts from the state that the previous one left: only the restore of a case undoes its
// action.
var stopCases = []stopCase{
	{
		name: "a live domain that carries a mark", guest: marked,
		want: veto, life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a live domain that is listed", guest: listed,
		want: expected{exit: 1, line: "stopguard: veto: listed-01: listed in /etc/libvirt/protected-domains as listed-*; take it off the list to stop it (rule protected_list)\n"},
		life: "alive", seen: alive, monitor: monitorAt + "listed-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a live domain that nothing protects", guest: ordinary,
		want: letGo, life: "alive", seen: alive, monitor: monitorAt + "web-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a live domain under the name of another", guest: marked, as: ordinary.Name,
		want: expected{exit: 2, begin: "stopguard: fault: web-01: the hook was called for this domain with the XML of another", ends: "; to switch the guard off: chmod -x " + hookFile + "\n"},
		life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a domain that is suspended", guest: marked,
		arrange: func(h *host, g guest) { h.VirshOK("suspend", g.Name) },
		restore: func(h *host, g guest) { h.VirshOK("resume", g.Name) },
		want:    expected{exit: 1, begin: strings.TrimSuffix(markVeto, " (rule protection_mark)"), ends: " (rule protection_mark)\n"},
		life:    "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a domain without its status file", why: "the monitor's socket is found by the id", guest: marked,
		arrange: func(h *host, g guest) { h.Rename(statusFile(g), "/run/status") },
		restore: func(h *host, g guest) { h.Rename("/run/status", statusFile(g)) },
		want:    veto, life: "alive", seen: alive, otherID: "gone",
	},
	{
		name: "a domain whose QEMU is frozen", guest: marked,
		arrange: func(h *host, g guest) { h.Freeze(h.QEMU(g)) },
		want:    veto, life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a domain whose QEMU is frozen, after the daemon's restart", why: "its monitor is connected to, but QEMU has not accepted it", guest: marked,
		arrange: func(h *host, g guest) {
			h.EndDaemon(syscall.SIGTERM)
			h.StartDaemon()
			h.Until("the daemon connects to the monitor", func() bool { return h.identify(g).Liveness == hookproto.Alive })
		},
		restore: func(h *host, g guest) {
			h.Thaw(h.QEMU(g))
			h.Until("the daemon answers", func() bool { return h.State(g) == "running (unpaused)" })
		},
		want: veto, life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a domain whose daemon is down", why: "QEMU still listens on its monitor", guest: marked,
		arrange: func(h *host, _ guest) { h.EndDaemon(syscall.SIGTERM) },
		want:    veto, life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "alive",
	},
	{
		name: "a domain whose daemon has just been restarted", guest: marked,
		arrange: func(h *host, _ guest) { h.StartDaemon() },
		want:    veto, life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a domain that is off while its QEMU lingers", why: "a veto would keep it in shutdown for ever", guest: marked,
		arrange: powerOffAndLinger,
		restore: func(h *host, g guest) { h.Thaw(h.QEMU(g)); h.awaitOff(g, "shutdown") },
		want:    letGo, life: "gone", seen: "the guest is shut off (state shutdown)", monitor: monitorAt + "pg-primary-01" + monitorEnd,
	},
	{
		name: "a domain that has powered itself off", guest: marked,
		want: letGo, life: "gone", seen: "there is no pid file",
	},
	{
		name: "a domain whose QEMU was killed, and the daemon has not cleaned up", guest: marked,
		arrange: func(h *host, g guest) { h.startGuest(g); killUnseen(h, g) },
		restore: func(h *host, g guest) { h.Thaw(h.PID(daemonPID)); h.awaitOff(g, "crashed") },
		want:    letGo, life: "gone", seen: "process PID is gone",
	},
	{
		name: "a domain whose QEMU was killed", guest: marked,
		want: letGo, life: "gone", seen: "there is no pid file",
	},
	{
		name: "a domain that was started again", why: "being dead is of one incarnation", guest: marked,
		arrange: func(h *host, g guest) { h.startGuest(g) },
		want:    veto, life: "alive", seen: alive, monitor: monitorAt + "pg-primary-01" + monitorEnd, otherID: "gone",
	},
	{
		name: "a domain that was destroyed", guest: marked,
		arrange: func(h *host, g guest) { h.VirshOK("destroy", g.Name) },
		want:    letGo, life: "gone", seen: "there is no pid file",
	},
	{
		name: "a domain that has panicked and is preserved", why: "only a destroy ends it", guest: panicky,
		arrange: func(h *host, g guest) {
			h.Tell(g, 'c')
			h.Until("the guest has panicked", func() bool { return h.State(g) == "crashed (panicked)" })
		},
		want: letGo, life: "gone", seen: "the guest has panicked (state crashed)", monitor: monitorAt + "pg-replica-01" + monitorEnd,
	},
}

func statusFile(g guest) string { return "/run/libvirt/qemu/" + g.Name + ".xml" }

// powerOffAndLinger holds a short moment: libvirt knows that the guest is off, and QEMU has not
// ended yet. The daemon is frozen until QEMU has reported it, and QEMU is frozen from then on.
func powerOffAndLinger(h *host, g guest) {
	daemon, qemu := h.PID(daemonPID), h.QEMU(g)
	h.Freeze(daemon)
	h.Tell(g, 'o')
	h.Until("libvirt knows that the guest is off", func() bool {
		h.Freeze(qemu)
		h.Thaw(daemon)
		if h.Within(patience/40, func() bool { return strings.Contains(h.Read(statusFile(g)), "<domstatus state='shutdown'") }) {
			return true
		}
		h.Freeze(daemon) // QEMU has not reported anything yet
		h.Thaw(qemu)
		return false
	})
}

func (h *host) startGuest(g guest) {
	h.VirshOK("start", g.Name)
	h.Ask(g)
	live[g.Name] = h.LiveXML(g)
}

// live is the XML of each guest at its last start: libvirt passes it to its hook even if the guest
// is dead.
var live = map[string]string{}

func (h *host) awaitOff(g guest, reason string) {
	want := "shut off (" + reason + ")"
	h.Until(g.Name+" is "+want, func() bool { return h.State(g) == want })
}

func (h *host) domain(g guest) *domainxml.Domain {
	domain, err := domainxml.Parse([]byte(live[g.Name]))
	if err != nil {
		h.Fatalf("the XML of %s: %v", g.Name, err)
	}
	return domain
}

func (h *host) identify(g guest) hookproto.Process {
	domain, state := h.domain(g), hookproto.Host{}
	return state.Identify(state.Process(g.Name), domain.UUID, domain.ID)
}

func (h *host) stops() {
	h.install()
	h.StartDaemon()
	for _, g := range []guest{marked, listed, ordinary, panicky} {
		h.Doing = g.Name + " is started"
		h.VirshOK("define", h.Write(g))
		h.startGuest(g)
	}
	const noID = 1 << 20 // no domain has it
	for _, c := range stopCases {
		h.nextStep(c.name)
		if c.arrange != nil {
			c.arrange(h, c.guest)
		}
		name := c.guest.Name
		if c.as != "" {
			name = c.as
		}
		o := observation{Step: c.name, Answer: h.stop(name, live[c.guest.Name])}
		process, domain := h.identify(c.guest), h.domain(c.guest)
		number := func(s, word string, n int) string { return strings.ReplaceAll(s, fmt.Sprint(n), word) }
		o.Life, o.Seen = process.Liveness.String(), number(process.Evidence, "PID", process.PID)
		o.Monitor = strings.Replace(process.Status.Monitor, fmt.Sprintf("domain-%d-", domain.ID), "domain-ID-", 1)
		if process.Liveness == hookproto.Alive {
			process.Status = hookproto.Status{}
			o.OtherID = hookproto.Host{}.Identify(process, domain.UUID, noID).Liveness.String()
		}
		h.seen = append(h.seen, o)
		if c.restore != nil {
			c.restore(h, c.guest)
		}
	}
}

func TestAStopIsAskedAbout(t *testing.T) {
	t.Parallel()
	got := onHost(t, stopsScript)
	if len(got) != len(stopCases) {
		t.Fatalf("%d cases, want %d", len(got), len(stopCases))
	}
	for i, c := range stopCases {
		t.Run(c.name, func(t *testing.T) {
			if c.why != "" {
				t.Logf("because %s", c.why)
			}
			c.want.check(t, got[i].Answer)
			for _, is := range []struct{ what, want, got string }{
				{"life", c.life, got[i].Life},
				{"what it rests on", c.seen, got[i].Seen},
				{"the monitor's path", c.monitor, got[i].Monitor},
				{"life by an id that no domain has", c.otherID, got[i].OtherID},
			} {
				if is.got != is.want {
					t.Errorf("%s: %q, want %q", is.what, is.got, is.want)
				}
			}
		})
	}
}
