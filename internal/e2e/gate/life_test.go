//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// These guests are protected as most are: by the list and by a mark, with default settings.
const (
	toolVariable = "STOPGUARD_E2E_TOOL" // the built cmd/stopguard

	listFile     = "/etc/libvirt/protected-domains"
	dataFile     = "/etc/stopguard/policy/data.yaml"
	shuttingDown = "/run/stopguard/shutting-down" // what stopguard-shutdown.service makes
)

var (
	listed = e2ehost.Guest{Name: "pg-primary-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c21"}
	marked = e2ehost.Guest{Name: "billing-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c22",
		Metadata: `<protection xmlns="urn:stopguard:protection:1" reason="billing" until="2099-06-30" operations="move modify"/>`}
	third = e2ehost.Guest{Name: "pg-standby-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c23"}
)

const (
	byList = "stopguard: veto: pg-primary-01: listed in /etc/libvirt/protected-domains; take it off the list to stop it (rule protected_list)"
	byMark = "stopguard: veto: billing-01: protected until 2099-06-30: billing (rule protection_mark)"
)

// beginDefault starts the daemons of a host with the list and no rule of the site's.
func (h *host) beginDefault(guests ...e2ehost.Guest) {
	h.prepare("")
	if err := os.Remove(ruleFile); err != nil {
		h.Fatalf("%v", err)
	}
	h.File(listFile, listed.Name+"\n"+third.Name+"\n", 0o644)
	h.StartGate()
	h.StartDaemon()
	for _, g := range guests {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
		h.Remind(g)
	}
	h.Records()
}

// record appends the observation of an action on a guest.
func (h *host) record(name string, got e2ehost.Answer, g e2ehost.Guest) {
	h.seen = append(h.seen, step{Name: name, Through: got, State: h.State(g), Records: h.Records()})
}

func (h *host) tool(args ...string) e2ehost.Answer {
	return h.Command("", h.Environment(), os.Getenv(toolVariable), args...)
}

// libvirtGuests runs the script of libvirt's that a host's shutdown and boot run.
func (h *host) libvirtGuests(action string) e2ehost.Answer {
	got := h.CommandWithin(3*e2ehost.Patience, "", append(h.Environment(), "SYSTEMCTL_SKIP_REDIRECT=1"), "/usr/lib/libvirt/libvirt-guests.sh", action)
	got.Stderr += got.Stdout
	return got
}

// shutdown runs the parts of a host's shutdown and boot that concern libvirt-guests and the gate.
// The order of the units is tested with systemd.
func (h *host) shutdown() {
	h.beginDefault(listed, marked, free)
	all := []e2ehost.Guest{listed, marked, free}
	note := func(name string, got e2ehost.Answer) {
		s := step{Name: name, Through: got, Records: h.Records()}
		for _, g := range all {
			s.State += h.State(g) + "; "
			if strings.HasPrefix(h.State(g), "running") {
				s.Memory += h.Ask(g) + " "
			}
		}
		h.seen = append(h.seen, s)
	}
	for _, mode := range []string{"suspend", "shutdown"} {
		h.Doing = mode
		h.File("/etc/default/libvirt-guests", "ON_SHUTDOWN="+mode+"\nON_BOOT=start\nPARALLEL_SHUTDOWN=2\nSHUTDOWN_TIMEOUT=5\n", 0o644)
		note(mode+": libvirt-guests is restarted by somebody", h.libvirtGuests("stop"))
		note(mode+": and started again", h.libvirtGuests("start"))
		h.File("/etc/default/libvirt-guests", "ON_SHUTDOWN="+mode+"\nON_BOOT=start\nPARALLEL_SHUTDOWN=2\nSHUTDOWN_TIMEOUT=100\n", 0o644)
		h.File(shuttingDown, "", 0o600)
		note(mode+": the host is switched off", h.libvirtGuests("stop"))
		if err := os.Remove(shuttingDown); err != nil {
			h.Fatalf("%v", err)
		}
		note(mode+": the host is switched on", h.libvirtGuests("start"))
		for _, g := range all {
			h.Ask(g)
			h.Remind(g)
		}
	}
}

// drain empties a host with tickets for all of it.
func (h *host) drain() {
	h.beginDefault(listed, marked, third)
	h.startOther(destination)
	grant := func(reason string, args ...string) {
		h.note(reason, h.tool(append([]string{"ticket", "grant", "--all", "--requester", "alice", "--reason", reason}, args...)...))
	}
	move := []string{"migrate", "--live", "--unsafe", marked.Name, toGate, "tcp://127.0.0.1"}

	h.Doing = "nothing is granted"
	h.record("managedsave, before", h.Virsh("managedsave", listed.Name), listed)
	h.record("migrate, before", h.Virsh(move...), marked)
	h.Doing = "a ticket that does not last"
	grant("brief", "--for", "1s")
	h.Until("it is over", func() bool {
		var tickets []struct{ State string }
		if err := json.Unmarshal([]byte(h.tool("ticket", "list", "-o", "json").Stdout), &tickets); err != nil {
			h.Fatalf("%v", err)
		}
		return len(tickets) == 1 && tickets[0].State == "expired"
	})
	h.record("destroy, too late", h.Virsh("destroy", third.Name), third)

	h.Doing = "tickets for draining"
	grant("draining")
	grant("draining, moving", "--operation", "move")
	h.record("managedsave", h.Virsh("managedsave", listed.Name), listed)
	unmarked := marked
	unmarked.Metadata = ""
	h.record("migrate, without the mark", h.Virsh(append(slices.Clone(move), "--xml", h.Write(unmarked))...), marked)
	h.record("migrate, by another name", h.Virsh(append(slices.Clone(move), "--dname", "web-02")...), marked)
	h.record("migrate", h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), "virsh", move...), marked)
	h.record("shutdown", h.Virsh("shutdown", third.Name), third)
	h.Until("the guest is off", func() bool { return strings.HasPrefix(h.State(third), "shut off") })
	h.record("start", h.Virsh("start", third.Name), third)
	h.Ask(third)
	h.record("destroy, of another run", h.Virsh("destroy", third.Name), third)
	h.note("the tickets", h.tool("ticket", "list"))
}

// firstWeek watches without refusing.
func (h *host) firstWeek() {
	h.beginDefault(listed, marked)
	h.File(dataFile, "site:\n  monitor: [\"*\"]\n", 0o644)
	for _, c := range []struct {
		args string
		g    e2ehost.Guest
	}{
		{"managedsave pg-primary-01", listed},
		{"start pg-primary-01", listed},
		{"destroy pg-primary-01", listed},
		{"metadata billing-01 --uri urn:stopguard:protection:1 --remove --live", marked},
		{"managedsave billing-01", marked},
	} {
		h.Doing = c.args
		h.record(c.args, h.Virsh(strings.Fields(c.args)...), c.g)
	}
	h.note("log", h.tool("log"))
}

// restart stops a protected guest again and again while libvirtd is restarted.
func (h *host) restart() {
	h.beginDefault(listed)
	const clients = 3
	stop, ended := make(chan struct{}), make(chan string)
	for range clients {
		go func() {
			let := ""
			for {
				select {
				case <-stop:
					ended <- let
					return
				default:
				}
				if got := h.Virsh("destroy", listed.Name); got.Exit == 0 {
					let += fmt.Sprintf("it was let go: %+v\n", got)
				}
			}
		}()
	}
	for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		h.Doing = fmt.Sprintf("libvirtd is restarted, number %d", i+1)
		h.restartDaemon(signal)
	}
	close(stop)
	var s step
	s.Name = "clients that go on and on"
	for range clients {
		s.Through.Stdout += <-ended
	}
	s.State, s.Memory = h.State(listed), h.Ask(listed)
	h.seen = append(h.seen, s)
	h.Records()
	h.record("afterwards", h.Virsh("destroy", listed.Name), listed)

	h.Doing = "libvirtd is restarted while the guest hangs"
	qemu := h.QEMU(listed)
	h.Freeze(qemu)
	h.restartDaemon(syscall.SIGKILL)
	got := h.Virsh("destroy", listed.Name)
	h.Thaw(qemu)
	h.Until("the guest is libvirtd's again", func() bool { return strings.HasPrefix(h.State(listed), "running") })
	h.seen = append(h.seen, step{Name: "a guest that hangs", Through: e2ehost.Answer{Exit: got.Exit}, State: h.State(listed), Memory: h.Ask(listed)})
}

func (h *host) restartDaemon(signal syscall.Signal) {
	h.EndDaemon(signal)
	h.Run("rm", "-f", e2ehost.DaemonPID)
	h.StartDaemon()
}

// An expected is the wanted result of a step. Empty fields are not compared.
type expected struct {
	exit    int
	says    string // a part of the output
	state   string // how it begins
	memory  string
	records []string
}

func compare(t *testing.T, seen []step, want map[string]expected) {
	t.Helper()
	missing := len(want)
	for _, s := range seen {
		t.Run(s.Name, func(t *testing.T) {
			slices.Sort(s.Records)
			w, ok := want[s.Name]
			if !ok {
				t.Fatalf("nothing is expected of it: %+v", s)
			}
			missing--
			if s.Through.Exit != w.exit || !strings.Contains(s.Through.Stderr+s.Through.Stdout, w.says) || strings.Contains(s.Through.Stdout, "it was let go") {
				t.Errorf("%+v; want %d, %q", s.Through, w.exit, w.says)
			}
			if !strings.HasPrefix(s.State, w.state) || w.memory != "" && s.Memory != w.memory {
				t.Errorf("it is %q, its memory %q; want %q, %q", s.State, s.Memory, w.state, w.memory)
			}
			if diff := cmp.Diff(w.records, s.Records); diff != "" && (len(w.records) > 0 || len(s.Records) > 0) {
				t.Errorf("records: %s", diff)
			}
			t.Logf("%+v", s)
		})
	}
	if missing != 0 {
		t.Errorf("%d steps were not done", missing)
	}
}

func TestAShutdownOfTheHostIsNotHeldUp(t *testing.T) {
	const (
		allRun = "running (booted); running (booted); running (booted); "
		kept   = e2ehost.Kept + " " + e2ehost.Kept + " " + e2ehost.Kept + " "
		fresh  = e2ehost.Fresh + " " + e2ehost.Fresh + " " + e2ehost.Fresh + " "
	)
	restored := strings.ReplaceAll(allRun, "booted", "restored")
	vetoed := []string{"billing-01 stop veto protection_mark", "pg-primary-01 stop veto protected_list"}
	let := []string{"billing-01 stop allow shutting_down monitored:protection_mark",
		"pg-primary-01 stop allow shutting_down monitored:protected_list", "web-01 stop allow shutting_down"}
	compare(t, on(t, "shutdown"), map[string]expected{
		"suspend: libvirt-guests is restarted by somebody": {1, byList, "running (booted); running (booted); shut off (saved); ", "kept kept ",
			append(slices.Clone(vetoed), "web-01 stop allow")},
		"suspend: and started again":        {0, "Resuming guest web-01: done", "running (booted); running (booted); running (restored); ", kept, nil},
		"suspend: the host is switched off": {0, "", "shut off (saved); shut off (saved); shut off (saved); ", "", let},
		"suspend: the host is switched on":  {0, "", restored, kept, nil},
		// The guest that is not protected waits for its turn behind the two others, and the
		// script's time is over.
		"shutdown: libvirt-guests is restarted by somebody": {1, byMark, restored, kept, vetoed},
		"shutdown: and started again":                       {0, "", restored, kept, nil},
		"shutdown: the host is switched off":                {0, "", "shut off (shutdown); shut off (shutdown); shut off (shutdown); ", "", let},
		"shutdown: the host is switched on":                 {0, "", allRun, fresh, nil},
	})
}

func TestAHostIsDrainedWithTicketsForAllOfIt(t *testing.T) {
	took := func(what string) []string { return []string{what + " allow protected_list ticket:draining"} }
	e2ehost.Need(t, toolVariable)
	compare(t, on(t, "drain"), map[string]expected{
		"managedsave, before": {1, byList, "running", "", []string{"pg-primary-01 stop veto protected_list"}},
		"migrate, before":     {1, byMark, "running", "", []string{"billing-01 move veto protection_mark"}},
		"brief":               {0, "every domain may be stopped", "", "", nil},
		"destroy, too late":   {1, "stopguard: veto: pg-standby-01: ", "running", "", []string{"pg-standby-01 stop veto protected_list"}},
		"draining":            {0, "every domain may be stopped", "", "", nil},
		"draining, moving":    {0, "every domain may be moved", "", "", nil},
		"managedsave":         {0, "", "shut off (saved)", "", took("pg-primary-01 stop")},
		// A guest that may move must not lose its protection on the way.
		"migrate, without the mark": {1, byMark, "running", "", []string{
			"billing-01 modify veto protection_mark", "billing-01 move allow protection_mark ticket:draining, moving"}},
		"migrate, by another name": {1, byMark, "running", "", []string{
			"billing-01 modify veto protection_mark", "billing-01 move allow protection_mark ticket:draining, moving"}},
		// A migration has two decisions, which use one ticket.
		"migrate": {0, "", "shut off (migrated)", "", []string{
			"billing-01 move allow protection_mark ticket:draining, moving", "billing-01 move allow protection_mark ticket:draining, moving"}},
		"shutdown":                {0, "", "", "", took("pg-standby-01 stop")},
		"start":                   {0, "", "running", "", nil},
		"destroy, of another run": {0, "", "shut off (destroyed)", "", took("pg-standby-01 stop")},
		"the tickets":             {0, "expired", "", "", nil},
	})
}

func TestInTheFirstWeekNothingIsRefusedAndAllIsRecorded(t *testing.T) {
	e2ehost.Need(t, toolVariable)
	compare(t, on(t, "week"), map[string]expected{
		"managedsave pg-primary-01": {0, "", "shut off (saved)", "", []string{"pg-primary-01 stop allow monitored:protected_list"}},
		"start pg-primary-01":       {0, "", "running (restored)", "", nil},
		"destroy pg-primary-01":     {0, "", "shut off (destroyed)", "", []string{"pg-primary-01 stop allow monitored:protected_list"}},
		"metadata billing-01 --uri urn:stopguard:protection:1 --remove --live": {0, "", "running", "", []string{"billing-01 modify allow monitored:protection_mark"}},
		"managedsave billing-01": {0, "", "shut off (saved)", "", []string{"billing-01 stop allow"}}, // its mark has gone
		"log":                    {0, "allow   pg-primary-01: stop by root (DOMAIN_DESTROY): listed in /etc/libvirt/protected-domains; take it off the list to stop it (rule protected_list, monitored)", "", "", nil},
	})
}

func TestAProtectedGuestOutlivesRestartsOfLibvirtd(t *testing.T) {
	compare(t, on(t, "restart"), map[string]expected{
		"clients that go on and on": {0, "", "running", e2ehost.Kept, nil},
		"afterwards":                {1, byList, "running", "", []string{"pg-primary-01 stop veto protected_list"}},
		"a guest that hangs":        {1, "", "running", e2ehost.Kept, nil},
	})
}
