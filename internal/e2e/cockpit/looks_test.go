//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A stand-in for the tool prints JSON of hosts that a test cannot start: with 200 domains, or with
// names as long as they may be.
const standIn = `#!/bin/sh
case $1 in
check) cat /run/look/check ;;
status) cat /run/look/status ;;
ticket) cat /run/look/tickets ;;
log) cat /run/look/log ;;
doctor) cat /run/look/doctor ;;
esac
`

type looks struct {
	Rows     map[string]int
	Overflow map[string]int // pixels that a window must be scrolled sideways
	Found    string
	Longest  string    // text of a cell
	Piled    string    // marks on a letter
	Colours  [2]string // of the page's background, light and dark
}

type object = map[string]any

func lookDomain(i int, name string) object {
	d := object{"name": name, "uuid": fmt.Sprintf("5b4d5b3c-6f53-4b8a-8a5e-%012d", i), "state": "running", "outcome": "allow", "reasons": []any{}, "monitored": []any{}}
	switch i % 5 {
	case 0, 1:
		d["outcome"], d["until"] = "veto", "2099-06-30T00:00:00Z"
		d["reasons"] = []any{object{"rule": "protection_mark", "message": "protected until 2099-06-30: billing primary", "until": "2099-06-30T00:00:00Z"}}
		d["marks"] = []any{object{"reason": "billing primary", "owner": "anna", "until": "2099-06-30", "operations": []any{}}}
	case 2:
		d["outcome"] = "veto"
		d["reasons"] = []any{object{"rule": "hold", "message": "held by backup (pid 4711) since 2026-11-28T02:00:00Z: nightly backup"}, object{"rule": "protected_list", "message": "is in /etc/libvirt/protected-domains"}}
	}
	if i%7 == 6 {
		d["state"], d["operation"] = "off", "delete"
	}
	return d
}

func (h *host) look(domains []object) {
	events := strings.Builder{}
	now := time.Now().UTC()
	for i := range 60 {
		result := object{"outcome": []string{"veto", "veto", "veto", "escape", "fault"}[i%5], "domain": object{"name": fmt.Sprintf("pg-%02d", i%7)}, "reasons": []any{object{"rule": "protection_mark", "message": "protected until 2099-06-30: billing primary"}}, "monitored": []any{}}
		line, _ := json.Marshal(object{"decision_id": fmt.Sprint(i), "timestamp": now.Add(-time.Duration(i*i) * 20 * time.Second), "result": result, "labels": object{}, "path": "x"})
		events.Write(append(line, '\n'))
	}
	status := object{"enforced": true, "enforced_by": []string{"gate"}, "switched_off": []any{}, "hook": object{"installed": true, "calls_stop": "no"}, "gate": object{"installed": true, "in_front": true}, "agent": object{"running": false},
		"libvirt": object{"version": "9.0.0", "daemons": []any{}}, "policy": object{"rules": []string{"hold"}, "sources": []any{}, "monitor": []any{}}, "holds": 0}
	for name, content := range map[string]any{
		"check":   object{"time": now, "domains": domains, "marks_gone": []any{}, "enforced": true, "enforced_by": []string{"gate"}},
		"status":  status,
		"tickets": []any{},
		"doctor":  object{"findings": []any{object{"id": "gate", "severity": "failure", "what": strings.Repeat("the gate is not there ", 9), "cure": "stopguard install --gate /usr/sbin/stopguard-gate --restart"}, object{"id": "hook", "severity": "ok", "what": "it is there"}}},
	} {
		text, err := json.Marshal(content)
		if err != nil {
			h.Fatalf("%v", err)
		}
		h.File("/run/look/"+name, string(text), 0o644)
	}
	h.File("/run/look/log", events.String(), 0o644)
}

func (h *host) looks() any {
	s := looks{Rows: map[string]int{}, Overflow: map[string]int{}}
	h.begin()
	h.File(tool, standIn, 0o755)
	none := []object{}
	var many, long []object
	for i := range 200 {
		many = append(many, lookDomain(i, fmt.Sprintf("web-%03d", i)))
	}
	for i := range 5 {
		d := lookDomain(i, strings.Repeat("a-name-without-an-end", 10)+strings.Repeat("W", 40))
		if i == 1 {
			d["marks"] = []any{object{"reason": "Z" + strings.Repeat("\u0301", 100), "owner": strings.Repeat("anna ", 1000), "until": strings.Repeat("9", 1<<20), "operations": []any{}}}
		}
		long = append(long, d)
	}
	h.look(none)
	b := h.enter("ben", false, 1360, 900)
	for _, look := range []struct {
		name          string
		domains       []object
		dark          bool
		view          string
		width, height int
	}{
		{"none", none, false, "domains", 1360, 900},
		{"many", many, false, "domains", 1360, 900},
		{"many-dark", many, true, "domains", 1360, 900},
		{"many-narrow", many, false, "domains", 480, 900},
		{"long", long, false, "domains", 1360, 900},
		{"long-narrow", long, true, "domains", 480, 900},
		{"history-dark", many, true, "history", 1360, 900},
		{"history-narrow", many, false, "history", 480, 900},
		{"health-narrow", many, true, "health", 480, 900},
		{"health", many, false, "health", 1360, 900},
	} {
		h.Doing = "the page looks " + look.name
		h.look(look.domains)
		b.resize(look.width, look.height)
		b.must("/frame", object{"id": nil}, nil)
		b.eval(nil, "localStorage.setItem('shell:style', arguments[0])", map[bool]string{false: "light", true: "dark"}[look.dark])
		b.open(cockpitURL + "/stopguard#/" + look.view)
		b.reload()
		b.until("the view is drawn", "document.querySelector('#view').innerText && !/(Examining the host|Reading the (record|host))…/.test(document.querySelector('#view').innerText)")
		var rows, overflow int
		b.eval(&rows, "return document.querySelectorAll('tbody tr').length")
		b.eval(&overflow, "return document.documentElement.scrollWidth - document.documentElement.clientWidth")
		s.Rows[look.name], s.Overflow[look.name] = rows, overflow
		b.shot("look-" + look.name)
		if look.name == "long" {
			b.eval(&s.Longest, "return [...document.querySelectorAll('td')].sort((a, b) => b.innerText.length - a.innerText.length)[0].innerText")
			b.eval(&s.Piled, "return [...document.querySelectorAll('td')].map(e => e.innerText).find(t => t.startsWith('Z')) || ''")
		}
		if look.name == "many" {
			b.write("input[type=search]", "web-19")
			b.shows("[data-found]", "of 200")
			s.Found = b.text("[data-found]")
			b.eval(&s.Colours[0], "return getComputedStyle(document.body).backgroundColor")
		}
		if look.name == "many-dark" {
			b.eval(&s.Colours[1], "return getComputedStyle(document.body).backgroundColor")
		}
	}
	h.Doing = "another page of Cockpit's is shown"
	b.must("/frame", object{"id": nil}, nil)
	b.click("a[href='/system']")
	frame := b.element("iframe[name='cockpit1:localhost/stopguard']")
	b.must("/frame", object{"id": object{elementKey: filepath.Base(frame)}}, nil)
	b.until("the page knows that nobody sees it", "cockpit.hidden")
	return s
}

func TestThePageFitsTheWindowWhateverTheHostHas(t *testing.T) {
	var s looks
	on(t, "looks", &s)
	for name, n := range map[string]int{"none": 0, "many": 200, "long-narrow": 5, "history-dark": 60} {
		if s.Rows[name] != n {
			t.Errorf("%s: %d rows, want %d", name, s.Rows[name], n)
		}
	}
	for name, n := range s.Overflow {
		if n > 0 {
			t.Errorf("%s: %d pixels are beyond the window", name, n)
		}
	}
	if s.Found != "10 of 200" {
		t.Errorf("the filter found %q", s.Found)
	}
	if n := len([]rune(s.Longest)); n > 310 {
		t.Errorf("an owner's text of %d characters is shown: %.60q", n, s.Longest)
	}
	if want := "Z" + strings.Repeat("\u0301", 4) + "\ufffd"; !strings.HasPrefix(s.Piled, want) || strings.Count(s.Piled, "\u0301") != 4 {
		t.Errorf("marks on a letter: %q", s.Piled)
	}
	if s.Colours[0] == s.Colours[1] {
		t.Errorf("dark is as light: %q", s.Colours)
	}
}
