//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/unit"
)

var (
	primary = e2ehost.Guest{Name: "pg-primary-01", UUID: "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c22"}
	web     = e2ehost.Guest{Name: "web-01", UUID: "16e14a01-2b11-40de-a128-75e3f4a5fe12"}
	replica = e2ehost.Guest{
		Name: "pg-replica-01", UUID: "7d2e9c14-3a5b-4c6d-8e7f-9a0b1c2d3e44",
		Metadata: `<protection xmlns="urn:stopguard:protection:1" owner="dba team" until="2099-06-30" reason="feeds the reports"/>`,
	}

	// spare is off, and called like an option.
	spare = e2ehost.Guest{Name: "--all", UUID: "0f0e3a77-5a1d-4f7e-9b55-7d3c2b1a4e55"}

	// hostile's owner has tried what they could to have the page run something, or show it in
	// another order.
	hostile = e2ehost.Guest{
		Name: `<img src=x onerror=alert(1)>`, UUID: "6c1f0a52-8f0b-4a52-9d0e-0c6f5b7a1d33",
		Metadata: `<protection xmlns="urn:stopguard:protection:1" owner="&lt;script>alert(2)&lt;/script>" reason="&lt;img src=x onerror=alert(3)>&#x202e;lla"/>`,
	}
)

// A story is what a person saw at the page, and what happened to the guest.
type story struct {
	Before, Keyboard, Result, Row, Hostile string
	Refused, Stopped                       e2ehost.Answer
	States                                 []string
	Refusal, Note, Self, Request, Approved string
	Used, Unprotected                      string
	Limited, Monitor, Off, Health          string
	Off1, OffProtected, OffUnprotected     string
	Undefines                              []e2ehost.Answer
	OffTicket, OffOperation, TooLate       string
	Overtaken, Kept                        string
	Returned, Unnamed                      []string
	Elements                               int // that text of a domain's owner made
}

func row(uuid string) string { return fmt.Sprintf(`tr:has([data-key="protect:%s"])`, uuid) }
func key(what, of string) string {
	return fmt.Sprintf(`[data-key="%s:%s"]`, what, of)
}

// run defines and starts a guest.
func (h *host) run(g e2ehost.Guest) {
	h.VirshOK("define", h.Write(g))
	h.VirshOK("start", g.UUID)
	h.Ask(g)
}

func (h *host) story() any {
	var s story
	h.begin()
	h.File(settings, approvals, 0o644)
	h.startGuard()
	for _, g := range []e2ehost.Guest{primary, replica, web} {
		h.run(g)
	}

	anna := h.enter("anna", true, 1360, 900)
	anna.element(row(primary.UUID))
	s.Before = anna.text("#notices")
	h.File(unit.Monolithic.Move().Path, unit.Monolithic.Move().Content, 0o644)
	anna.reload()
	anna.until("the gate is in front", "document.querySelector('#notices').innerText === ''")
	anna.shot("1-domains")
	s.Unnamed = anna.unnamed("body")

	h.Doing = "anna protects the guest by the keyboard alone"
	anna.eval(nil, "document.querySelector(arguments[0]).focus()", key("protect", primary.UUID))
	anna.press(enter)
	anna.element("dialog[open]")
	s.Keyboard = anna.focused()
	anna.press(escape)
	anna.until("the dialog is gone", "!document.querySelector('dialog')")
	s.Returned = append(s.Returned, anna.focused())
	anna.press(enter, enter)
	anna.element("dialog[open]")
	anna.press("billing primary", tab, "06302099")
	s.Unnamed = append(s.Unnamed, anna.unnamed("dialog")...)
	anna.shot("2-protect")
	anna.eval(nil, "document.querySelector('dialog button[type=submit]').focus()")
	anna.press(space)
	anna.shows("#result", "is protected until")
	s.Result = anna.text("#result")
	anna.shows(row(primary.UUID), "billing primary")
	s.Row = anna.text(row(primary.UUID))
	s.Returned = append(s.Returned, anna.focused())
	anna.shot("3-protected")

	h.Doing = "a destroy is refused"
	s.Refused = h.Virsh("destroy", primary.Name)
	s.States = append(s.States, h.State(primary))
	anna.click(`nav a[href="#/history"]`)
	anna.shows("tbody", "Refused")
	s.Refusal = anna.text("tbody tr")
	anna.shot("4-refused")

	h.Doing = "anna requests a ticket"
	anna.click(`nav a[href="#/domains"]`)
	anna.click(key("ticket", primary.UUID))
	s.Note = anna.text("dialog p[aria-live]")
	anna.write("dialog input[name=reason]", "disk swap, CHG-1234")
	anna.shot("5-ticket")
	anna.click("dialog button[type=submit]")
	anna.shows("#result", "request ")
	anna.click(`nav a[href="#/tickets"]`)
	anna.click(`[data-key^="approve:"]`)
	anna.click("dialog button[type=submit]")
	anna.shows("dialog [role=alert]", "It failed")
	s.Self = anna.text("dialog [role=alert]")
	anna.press(escape)
	s.Stopped = h.Virsh("destroy", primary.Name)
	s.States = append(s.States, h.State(primary))
	anna.click(`nav a[href="#/history"]`)
	anna.until("what came since is there, too, and nothing twice", "[...document.querySelectorAll('tbody tr')].filter(r => r.innerText.includes('Refused')).length === 2")
	anna.click(`nav a[href="#/tickets"]`)

	ben := h.enter("ben", false, 1360, 900)
	ben.shows("#notices", "Limited access")
	s.Limited = ben.text("#notices")
	ben.click(`nav a[href="#/tickets"]`)
	ben.element(`[data-key^="approve:"]`)
	s.Request = ben.text("tbody tr")
	ben.shot("6-ben")
	h.Doing = "ben approves the ticket"
	ben.click(`[data-key^="approve:"]`)
	ben.click("dialog button[type=submit]")
	ben.shows("#result", "may be stopped until")

	h.Doing = "anna sees the ticket, and the guest is stopped"
	anna.reload()
	anna.shows("tbody", "open")
	s.Approved = anna.text("tbody tr")
	anna.shot("7-approved")
	s.Stopped = h.Virsh("destroy", primary.Name)
	s.States = append(s.States, h.State(primary))
	anna.click(`nav a[href="#/history"]`)
	anna.shows("tbody", "approved by ben")
	s.Used = anna.text("tbody tr")
	anna.shot("8-history")

	h.Doing = "an owner attacks the page"
	h.run(hostile)
	anna.click(`nav a[href="#/domains"]`)
	anna.element(row(hostile.UUID))
	s.Hostile = anna.text(row(hostile.UUID))
	anna.eval(&s.Elements, "return document.querySelectorAll('img, main script').length")
	anna.shot("9-hostile")

	h.Doing = "anna takes the protection away"
	h.VirshOK("start", primary.UUID)
	anna.reload()
	anna.click(key("unprotect", primary.UUID))
	anna.click("dialog button[type=submit]")
	anna.shows(row(primary.UUID), "Not protected")
	s.Unprotected = anna.text("#result")
	s.Returned = append(s.Returned, anna.focused())

	h.Doing = "anna protects a domain that is off"
	h.VirshOK("define", h.Write(spare))
	anna.reload()
	s.Off1 = anna.text(row(spare.UUID))
	anna.click(key("protect", spare.UUID))
	anna.write("dialog input[name=reason]", "-- off; only for now")
	anna.click("dialog button[type=submit]")
	anna.shows(row(spare.UUID), "Protected")
	s.OffProtected = anna.text(row(spare.UUID))
	s.Undefines = append(s.Undefines, h.Virsh("undefine", spare.UUID))
	anna.shot("12-off")
	anna.click(key("ticket", spare.UUID))
	s.OffTicket = anna.text("dialog p[aria-live]")
	anna.eval(&s.OffOperation, "return document.querySelector('dialog select[name=operation]').value")
	anna.press(escape)
	anna.until("the dialog is gone", "!document.querySelector('dialog')")
	anna.click(key("unprotect", spare.UUID))
	anna.click("dialog button[type=submit]")
	anna.shows(row(spare.UUID), "Not protected")
	s.OffUnprotected = anna.text("#result")
	anna.click(key("protect", spare.UUID))
	s.Undefines = append(s.Undefines, h.Virsh("undefine", spare.UUID))
	anna.write("dialog input[name=reason]", "too late")
	anna.click("dialog button[type=submit]")
	anna.shows("dialog [role=alert]", "It failed")
	s.TooLate = anna.text("dialog [role=alert]")
	anna.press(escape)
	anna.reload()
	anna.until("the domain that is no more is not listed", "!document.querySelector('#view').innerText.includes('--all')")

	h.Doing = "another person is faster than anna"
	anna.click(key("unprotect", replica.UUID))
	h.Run(tool, "protect", "--connect=qemu:///system", "--reason=an audit", "--until=2098-01-31", "--", replica.UUID)
	anna.click("dialog button[type=submit]")
	anna.shows("dialog [role=alert]", "It failed")
	s.Overtaken = anna.text("dialog [role=alert]")
	anna.press(escape)
	anna.reload()
	s.Kept = anna.text(row(replica.UUID))

	h.Doing = "anna looks at the host"
	anna.click(`nav a[href="#/health"]`)
	anna.shows("#view", "What is well")
	s.Health = anna.text("#view")
	anna.shot("10-health")
	s.Unnamed = append(s.Unnamed, anna.unnamed("body")...)

	h.Doing = "the guard is switched off, and then monitors only"
	h.File("/etc/stopguard/gate-off", "", 0o644)
	anna.reload()
	anna.shows("#notices", "Switched off")
	s.Off = anna.text("#notices")
	h.Run("rm", "/etc/stopguard/gate-off")
	h.File(settings, approvals+"  monitor: [\"*\"]\n", 0o644)
	anna.reload()
	anna.shows("#notices", "Monitor mode")
	s.Monitor = anna.text("#notices")
	anna.shot("11-monitor")
	return s
}

// By the page alone a guest is protected, and a ticket requested and approved.
func TestAPersonAtThePageProtectsAndAnotherApproves(t *testing.T) {
	var s story
	on(t, "story", &s)
	for _, tt := range []struct {
		what, got string
		want      []string
		why       string
	}{
		{"the notice before the gate is in front", s.Before, []string{"Nothing on this host is known to refuse a stop", "install did not put it in front"}, "nobody may rely on a guard that is not there"},
		{"the focus in a dialog", s.Keyboard, []string{"Why"}, "who cannot point begins to write at once"},
		{"the result", s.Result, []string{"pg-primary-01 is protected until the end of 2099-06-30 in UTC: billing primary"}, "the tool's own words"},
		{"the row", s.Row, []string{"pg-primary-01", "Protected", "billing primary", "Jun 30, 2099", "anna"}, "why, until and by whom"},
		{"the hostile row", s.Hostile, []string{`<img src=x onerror=alert(1)>`, `<img src=x onerror=alert(3)>` + "\ufffdlla", `<script>alert(2)</script>`, "No end"}, "an owner's text is text"},
		{"the refusal", s.Refusal, []string{"Refused", "pg-primary-01", "stop by root", "billing primary (rule protection_mark)"}, "what happened"},
		{"the ticket's note", s.Note, []string{"one other person approves it"}, "the site asks for it"},
		{"an approval of one's own", s.Self, []string{"anna requested it, and does not count"}, "one person is not two"},
		{"what ben may not see", s.Limited, []string{"Limited access"}, "the page has the rights of the login"},
		{"what ben decides about", s.Request, []string{primary.Name, primary.UUID, "disk swap, CHG-1234", "anna", "Nobody yet"}, "whoever approves knows what"},
		{"the ticket", s.Approved, []string{"pg-primary-01", "open", "disk swap, CHG-1234", "ben"}, "who approved it"},
		{"the stop with the ticket", s.Used, []string{"Ticket", "pg-primary-01", "stop by root", "ticket of anna: disk swap, CHG-1234; approved by ben"}, "who let it go"},
		{"the mark's removal", s.Unprotected, []string{"pg-primary-01 is no longer protected by a mark"}, "the tool's own words"},
		{"a domain that is off", s.Off1, []string{"--all", "Off", "Not protected"}, "an operator expects every domain of the host"},
		{"it, protected", s.OffProtected, []string{"--all", "Off", "Protected", "-- off; only for now", "anna"}, "a name or reason is no option"},
		{"the ticket for it", s.OffOperation, []string{"delete"}, "a stop of it is nothing"},
		{"the ticket's note", s.OffTicket, []string{"one other person approves it"}, "the site asks for it about a delete, too"},
		{"it, no longer protected", s.OffUnprotected, []string{"--all is no longer protected by a mark"}, "the tool's own words"},
		{"a domain that was undefined meanwhile", s.TooLate, []string{"nothing was done", "no domain of this name or UUID is on this host"}, "the tool's own words"},
		{"a removal that comes too late", s.Overtaken, []string{"Its protection was changed meanwhile"}, "nobody removes a mark that they have not seen"},
		{"the other person's mark", s.Kept, []string{"Protected", "an audit", "Jan 31, 2098"}, "it is still there"},
		{"the host", s.Health, []string{"Refuses a stop\ngate", "Agent\nruns", "Findings"}, "status and findings"},
		{"the off switch", s.Off, []string{"Switched off: gate", "stopguard on"}, "and how to switch it on again"},
		{"monitor mode", s.Monitor, []string{"Monitor mode: nothing is refused"}, "everything passes"},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.got, want) {
				t.Errorf("%s (%s): %q; want %q", tt.what, tt.why, tt.got, want)
			}
		}
	}
	if s.Elements != 0 {
		t.Errorf("an owner's text made %d elements", s.Elements)
	}
	if s.Refused.Exit != 1 || !strings.Contains(s.Refused.Stderr, "stopguard: veto: pg-primary-01: protected until 2099-06-30: billing primary") {
		t.Errorf("the destroy: %+v", s.Refused)
	}
	if refused, done := s.Undefines[0], s.Undefines[1]; refused.Exit != 1 || !strings.Contains(refused.Stderr, "stopguard: veto: --all: protected until") || done.Exit != 0 {
		t.Errorf("the undefines: %+v", s.Undefines)
	}
	if s.Stopped.Exit != 0 {
		t.Errorf("the destroy with the ticket: %+v", s.Stopped)
	}
	if want := []string{"running (booted)", "running (booted)", "shut off (destroyed)"}; !slices.Equal(s.States, want) {
		t.Errorf("the guest was %q, want %q", s.States, want)
	}
	if want := []string{"Protect pg-primary-01", "Change pg-primary-01", "Protect pg-primary-01"}; !slices.Equal(s.Returned, want) {
		t.Errorf("after a dialog the focus is on %q, want %q", s.Returned, want)
	}
	if len(s.Unnamed) > 0 {
		t.Errorf("a screen reader has no name for %q", s.Unnamed)
	}
}
