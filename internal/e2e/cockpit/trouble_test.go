//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A trouble is what the page shows if the tool, or the connection to the host, fails.
type trouble struct {
	Older, Strange, Other, Null string // the notices, with tools of other versions
	Ungated                     string // the row of a domain that no gate guards, and how many are protected
	Fails, Hangs                string // the view
	Masked, Torn                string // the history
	Recovered                   string
	Late                        string // the result of an action whose dialog was closed
	Killed                      string // the dialog, after the tool was killed
	Covered                     bool   // whether the page is covered after the connection has ended
	Elements                    int    // that markup in the tool's messages made
}

// troubled is the stand-in for the tool with another answer to one command.
func (h *host) troubled(command, answer string) {
	h.File(tool, strings.Replace(standIn, "case $1 in", "case $1 in\n"+command+") "+answer+" ;;", 1), 0o755)
}

func (h *host) trouble() any {
	var s trouble
	h.begin()
	h.File(tool, standIn, 0o755)
	domain := lookDomain(0, "web-000")
	h.look([]object{domain})
	b := h.enter("ben", false, 1360, 900)
	b.shows("tbody", "web-000")
	notices := func(text string) string {
		b.reload()
		b.shows("#notices", text)
		return b.text("#notices")
	}
	const misfit = "do not fit each other"

	h.Doing = "the tool is older, or answers something else"
	h.troubled("check", `printf 'stopguard: unknown flag: --all\nSee stopguard check --help.\n' >&2; exit 2`)
	s.Older = notices(misfit)
	b.shot("trouble-older")
	h.troubled("status", "echo '<img src=x>'")
	s.Strange = notices(misfit)
	h.troubled("check", `echo '{"domains": [{"name": "web-000", "uuid": "x", "state": "off", "reasons": [], "monitored": []}], "marks_gone": [], "enforced_by": []}'`)
	s.Other = notices(misfit)
	h.troubled("ticket", "echo null")
	s.Null = notices(misfit)

	h.Doing = "a host has a hook alone"
	h.troubled("check", `echo '{"domains": [{"name": "web-000", "uuid": "x", "state": "off", "operation": "delete", "outcome": "veto", "reasons": [{"rule": "hold", "message": "held"}], "monitored": []}], "marks_gone": [], "enforced_by": ["hook"]}'`)
	b.reload()
	b.shows("tbody", "web-000")
	s.Ungated = b.text("tbody tr") + b.text("[data-found]")

	h.Doing = "the tool fails"
	h.troubled("check", `printf 'stopguard: \033[1m<img src=x>\342\200\256\n' >&2; exit 1`)
	b.reload()
	b.shows("#view", "cannot be read")
	s.Fails = b.text("#view")
	b.eval(&s.Elements, "return document.querySelectorAll('img').length")

	h.Doing = "records are not whole"
	now := time.Now().UTC().Format(time.RFC3339)
	h.File("/run/look/log", fmt.Sprintf(`{"decision_id": "1", "timestamp": %q, "result": {"outcome": "veto"}}`+"\n{half\nnull\n", now), 0o644)
	h.File(tool, standIn, 0o755)
	b.reload()
	b.click(`nav a[href="#/history"]`)
	b.shows("tbody", "Refused")
	s.Masked, s.Torn = b.text("tbody"), b.text("#view .alert")

	h.Doing = "the tool hangs"
	h.troubled("check", "exec sleep 1000")
	b.must("/refresh", nil, nil)
	b.must("/frame", object{"id": object{elementKey: strings.TrimPrefix(b.element("iframe[name='cockpit1:localhost/stopguard']"), "/element/")}}, nil)
	b.click(`nav a[href="#/domains"]`)
	b.shows("#view", "Reading the host")
	b.shows("#view", "cannot be read")
	s.Hangs = b.text("#view")
	b.shot("trouble-hangs")
	h.File(tool, standIn, 0o755)
	b.shows("tbody", "web-000")
	s.Recovered = b.text("tbody tr")

	h.Doing = "a dialog is closed before its action fails"
	h.troubled("unprotect", `sleep 3; echo 'stopguard: it is refused' >&2; exit 1`)
	b.click(key("unprotect", domain["uuid"].(string)))
	b.click("dialog button[type=submit]")
	b.press(escape)
	b.shows("#result", "It failed")
	s.Late = b.text("#result")

	h.Doing = "the tool is killed"
	h.File("/run/look/begun", "", 0o666)
	h.troubled("unprotect", `echo $$ >>/run/look/begun; exec sleep 1000`)
	b.click(key("unprotect", domain["uuid"].(string)))
	b.click("dialog button[type=submit]")
	h.Until("it is under way", func() bool { return strings.HasSuffix(h.Read("/run/look/begun"), "\n") })
	h.Signal(h.PID("/run/look/begun"), syscall.SIGKILL)
	b.shows("dialog [role=alert]", "It failed")
	s.Killed = b.text("dialog [role=alert]")
	b.press(escape)

	h.Doing = "the connection to the host ends"
	if err := h.cockpit.Process.Kill(); err != nil {
		h.Fatalf("%v", err)
	}
	b.must("/frame", object{"id": nil}, nil)
	b.shows("body", "Disconnected")
	b.eval(&s.Covered, "const r = document.querySelector(arguments[0]).getBoundingClientRect(); const e = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2); return !e || e.tagName !== 'IFRAME'", "iframe[name='cockpit1:localhost/stopguard']")
	b.shot("trouble-disconnected")
	return s
}

func TestThePageSaysWhatItCannotKnow(t *testing.T) {
	var s trouble
	on(t, "trouble", &s)
	for _, tt := range []struct {
		what, got string
		want      []string
		why       string
	}{
		{"an older tool", s.Older, []string{"do not fit each other", "stopguard check does not know what this page asks for: unknown flag: --all", "Upgrade both"}, "what to do"},
		{"no JSON", s.Strange, []string{"stopguard status prints something that is not JSON"}, "what does not fit"},
		{"a field that is missing", s.Other, []string{"the JSON of stopguard check.domains[0].outcome is not as this page reads it"}, "nothing is shown that is half read"},
		{"null", s.Null, []string{"the JSON of stopguard ticket is not as"}, "it is no list"},
		{"a domain that is off, without a gate", s.Ungated, []string{"Off", "Needs a gate", "0 running, 1 off, 0 protected"}, "a hook is not asked about a delete"},
		{"a failure", s.Fails, []string{"The domains cannot be read", "\ufffd[1m<img src=x>\ufffd"}, "the tool's words, as text"},
		{"a record that a mask has emptied", s.Masked, []string{"Refused"}, "the others are shown, too"},
		{"lines that are torn", s.Torn, []string{"2 lines of stopguard log are not as this page reads them"}, "what is missing is said"},
		{"a tool that hangs", s.Hangs, []string{"The domains cannot be read", "has said nothing for 60 seconds, and was ended"}, "nobody looks at old state for good"},
		{"the tool works again", s.Recovered, []string{"web-000", "Protected"}, "the page goes on by itself"},
		{"a failure after the dialog was closed", s.Late, []string{"It failed", "it is refused"}, "nobody takes it for done"},
		{"a tool that is killed", s.Killed, []string{"ended by the signal KILL", "Whether it was done is not known"}, "it may have been"},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.got, want) {
				t.Errorf("%s (%s): %q; want %q", tt.what, tt.why, tt.got, want)
			}
		}
	}
	if !s.Covered {
		t.Error("after the end of a session the page lies open")
	}
	if s.Elements != 0 {
		t.Errorf("the tool's messages made %d elements", s.Elements)
	}
}
