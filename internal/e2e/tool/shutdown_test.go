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
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/policy/record"
)

// These guests shut down on request. Two of them are protected as most are.
var (
	listed = e2ehost.Guest{Name: "pg-primary-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0e01"}
	marked = e2ehost.Guest{Name: "billing-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0e02",
		Metadata: `<protection xmlns="urn:stopguard:protection:1" reason="billing" until="2099-06-30"/>`}
	free   = e2ehost.Guest{Name: "web-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0e03"}
	guests = []e2ehost.Guest{listed, marked, free}
)

const (
	guestsSettings = "ON_SHUTDOWN=shutdown\nON_BOOT=ignore\nPARALLEL_SHUTDOWN=3\nSHUTDOWN_TIMEOUT=%d\n"
	orderFile      = shared + "/order" // whose units have ended, one after the other
)

// evening uses a host whose guests are to shut down with it, and switches it off.
func evening(h *host) {
	inside := &e2ehost.Host{}
	h.file("/etc/default/libvirt-guests", fmt.Sprintf(guestsSettings, 5))
	h.file("/etc/libvirt/protected-domains", listed.Name+"\n")
	for _, g := range guests {
		h.do("define "+g.Name, "virsh", "define", inside.Write(g))
		h.do("start "+g.Name, "virsh", "start", g.Name)
	}
	for _, g := range []e2ehost.Guest{listed, marked} {
		h.do("autostart "+g.Name, "virsh", "autostart", g.Name)
	}
	_ = os.Mkdir("/run/stopguard", 0o700) // as a hook makes it that was there first
	h.tool("install", "install", "--hook", shared+"/stopguard-hook", "--gate", shared+"/stopguard-gate", "--restart")
	h.do("the shutdown's flag", "systemctl", "enable", "--now", "stopguard-shutdown.service")
	// A collector of metrics, which is not root, reads them through a link of its own.
	exit, out := h.commandAs(&syscall.Credential{Uid: 65534, Gid: 65534}, "cat", "/run/stopguard/gate.prom")
	h.see("metrics", exit, "%v", strings.Contains(out, "\nstopguard_gate_clients "))
	for _, g := range guests {
		inside.Remind(g)
	}
	for _, unit := range []string{"stopguard-shutdown", "libvirt-guests", "stopguard-gate", "libvirtd"} {
		h.file("/etc/systemd/system/"+unit+".service.d/order.conf", "[Service]\nExecStopPost=+/bin/sh -c 'echo "+unit+" >>"+orderFile+"'\n")
	}
	h.do("drop-ins", "systemctl", "daemon-reload")

	// The host stays up.
	h.do("stop of libvirt-guests", "systemctl", "stop", "libvirt-guests.service")
	_, log := h.command("journalctl", "--no-pager", "-o", "cat", "-u", "libvirt-guests.service")
	h.see("what it was told", 0, "%s", log)
	h.see("records of the stop", 0, "%s", h.records())
	h.see("guests after the stop", 0, "%s", h.states())
	for _, g := range []e2ehost.Guest{listed, marked} {
		h.see("memory of "+g.Name, 0, "%s", inside.Ask(g))
	}
	h.do("start of libvirt-guests", "systemctl", "start", "libvirt-guests.service")
	h.do("start "+free.Name+" again", "virsh", "start", free.Name)
	inside.Ask(free) // it looks at its power button only when it has booted

	h.file("/etc/default/libvirt-guests", fmt.Sprintf(guestsSettings, 100))
	_ = os.Remove(records)
	_ = os.Remove(orderFile)
}

// nextDay looks at the host that was switched off and on.
func nextDay(h *host) {
	order, _ := os.ReadFile(orderFile)
	h.see("what ended", 0, "%s", strings.Join(strings.Fields(string(order)), " "))
	h.see("records of the shutdown", 0, "%s", h.records())
	for _, g := range guests {
		log := h.read("/var/log/libvirt/qemu/" + g.Name + ".log")
		h.see("end of "+g.Name, 0, "%v", strings.Contains(log, "shutting down, reason=shutdown") && !strings.Contains(log, "reason=destroyed"))
	}
	h.see("units", 0, "%s; %s", h.show("stopguard-gate.service", "ActiveState"), h.show("libvirtd.socket", "Listen"))
	for end := time.Now().Add(e2ehost.Patience); !strings.HasPrefix(h.states(), "running running") && time.Now().Before(end); {
		time.Sleep(e2ehost.Tick)
	}
	h.see("guests after the boot", 0, "%s", h.states())
	h.see("memory of "+listed.Name, 0, "%s", (&e2ehost.Host{}).Ask(listed))
	h.do("destroy "+listed.Name, "virsh", "destroy", listed.Name)
	_ = os.Remove(orderFile)
}

// states returns the states of the guests.
func (h *host) states() string {
	var states []string
	for _, g := range guests {
		_, out := h.command("virsh", "domstate", g.Name)
		states = append(states, strings.TrimSpace(out))
	}
	return strings.Join(states, " ")
}

// records returns the lines of the record: domain, operation, outcome, and why nothing was
// enforced.
func (h *host) records() string {
	var lines []string
	for line := range strings.Lines(h.read(records)) {
		var e record.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return err.Error()
		}
		asked := ""
		if e.Result.Request != nil {
			asked = e.Result.Request.Procedure
		}
		lines = append(lines, strings.TrimSpace(e.Result.Domain.Name+" "+asked+" "+e.Result.Outcome+" "+e.Result.Unenforced))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestGuestsShutDownWithTheHostAndNotWithout(t *testing.T) {
	const ok, asked = "true", " DOMAIN_SHUTDOWN "
	m := newMachine(t)
	m.compare(m.run("evening"), map[string]expected{
		"define pg-primary-01":    {0, "defined"},
		"define billing-01":       {0, "defined"},
		"define web-01":           {0, "defined"},
		"start pg-primary-01":     {0, "started"},
		"start billing-01":        {0, "started"},
		"start web-01":            {0, "started"},
		"autostart pg-primary-01": {0, "autostarted"},
		"autostart billing-01":    {0, "autostarted"},
		"install":                 {0, "through the gate"},
		"the shutdown's flag":     {0, ""},
		"metrics":                 {0, ok},
		"drop-ins":                {0, ""},
		"stop of libvirt-guests":  {0, ""},
		"what it was told":        {0, "stopguard: veto: billing-01: protected until 2099-06-30: billing (rule protection_mark)"},
		"records of the stop":     {0, "^billing-01" + asked + "veto\npg-primary-01" + asked + "veto\nweb-01" + asked + "allow$"},
		"guests after the stop":   {0, "^running running shut off$"},
		"memory of pg-primary-01": {0, e2ehost.Kept},
		"memory of billing-01":    {0, e2ehost.Kept},
		"start of libvirt-guests": {0, ""},
		"start web-01 again":      {0, "started"},
	})
	m.compare(m.run("next day"), map[string]expected{
		"what ended": {0, "^stopguard-shutdown libvirt-guests stopguard-gate libvirtd$"},
		"records of the shutdown": {0, "^billing-01" + asked + "allow shutting_down\npg-primary-01" + asked + "allow shutting_down\n" +
			"web-01" + asked + "allow shutting_down$"},
		"end of pg-primary-01":    {0, ok},
		"end of billing-01":       {0, ok},
		"end of web-01":           {0, ok},
		"units":                   {0, "^active; /run/stopguard-up/libvirt-sock (Stream)$"},
		"guests after the boot":   {0, "^running running shut off$"},
		"memory of pg-primary-01": {0, e2ehost.Fresh},
		"destroy pg-primary-01":   {1, "stopguard: veto: pg-primary-01: listed"},
	})
}
