package stopguard_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/ticket"
)

type ownersText struct {
	why, text, metadata string
	isAllowed           bool // without a ticket
}

// ownersTexts returns the worst that a guest's owner can have libvirt hand to a hook: 4 MiB a call,
// each quotation mark written as six bytes, for title and description; metadata, with an element a
// call. It is a function because the texts take 300 MB, which no other test should wait for.
func ownersTexts() []ownersText {
	quotes := strings.Repeat("&quot;", 4_000_000)
	return []ownersText{
		{"quotation marks", quotes, "", true},
		{"encoding/xml takes a second for it", "\r" + quotes, "", false},
		{"carriage returns all along", strings.Repeat("\r&quot;", 3_500_000), "", false},
		{"no UTF-8 at the end", quotes + "\xff", "", false},
		{"a control character that libvirt lets pass", quotes + "\x1b", "", true},
		{"many elements", "x", strings.Repeat("<a/>\n    ", 3_500_000), false},
		{"more than is read", "x", strings.Repeat(" ", hookproto.MaxXML), false},
	}
}

// shortOwnersTexts returns a sixteenth of some of them, for a run that is to be short.
func shortOwnersTexts() []ownersText {
	quotes := strings.Repeat("&quot;", 250_000)
	return []ownersText{
		{"quotation marks", quotes, "", true},
		{"no UTF-8 at the end", quotes + "\xff", "", false},
		{"a control character that libvirt lets pass", quotes + "\x1b", "", true},
		{"many elements", "x", strings.Repeat("<a/>\n    ", 220_000), false},
		{"more than is read", "x", strings.Repeat(" ", hookproto.MaxXML), false},
	}
}

func ownersXML(text, metadata string) string {
	return "<domain type='kvm' id='7'><name>heavy</name><uuid>" + pgUUID + "</uuid><title>" + text + "</title><description>" + text +
		"</description><metadata>" + metadata + "</metadata></domain>"
}

// What an owner writes ends in a decision, and a ticket lifts a veto of it.
func TestAnOwnersTextIsNeverAFault(t *testing.T) {
	texts := ownersTexts
	if testing.Short() {
		texts = shortOwnersTexts
	}
	for _, tt := range texts() {
		t.Run(tt.why, func(t *testing.T) {
			root := testhost.Root(t)
			xml := ownersXML(tt.text, tt.metadata)
			stop := func() error {
				event := &hookproto.Event{Domain: "heavy", Op: hookproto.OpStop, SubOp: "begin", Extra: "-", Stdin: strings.NewReader(xml)}
				return stopguard.Handler(stopguard.Config{Root: root})(t.Context(), event)
			}
			err := stop()
			if veto := (*hookproto.Veto)(nil); (err == nil) != tt.isAllowed || err != nil && !errors.As(err, &veto) {
				t.Fatalf("%.300v", err)
			}
			now := time.Now()
			if _, err := (ticket.Store{Root: root}).Grant(ticket.Ticket{Domain: pgUUID, Operation: "stop", Reason: "r", Requester: "t", NotAfter: now.Add(time.Hour)}, now); err != nil {
				t.Fatal(err)
			}
			if err := stop(); err != nil {
				t.Errorf("with a ticket: %.300v", err)
			}
		})
	}
}

// A hook reports a fault if it uses 640 MiB of memory. The test does not fail because a loaded
// machine takes longer than 2 s.
func TestAnOwnersTextStaysWithinTheBoundsOfAHook(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hooks with megabytes of XML")
	}
	for _, tt := range ownersTexts() {
		t.Run(tt.why, func(t *testing.T) {
			got := hook(t, testhost.Root(t), strings.NewReader(ownersXML(tt.text, tt.metadata)), stopArgs("heavy")...)
			if got.Exit != hookproto.ExitVeto && !isLate(got.Line) && (got.Exit != hookproto.ExitAllow || !tt.isAllowed) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// virsh domrename takes such names. libvirt drops some of their characters from the XML, and writes
// others that XML does not allow.
func TestANameOfControlCharactersIsDecided(t *testing.T) {
	for _, tt := range []struct{ why, name, inXML string }{
		{"dropped", "we\x01b", "web"},
		{"written as it is, though XML does not allow it", "we\x1bb", "we\x1bb"},
		{"read as a line feed", "we\rb", "we\rb"},
		{"all at once", "\x02w\x1e\r\n\x19e\x1fb\r", "w\x1e\r\ne\x1fb\r"},
	} {
		root := testhost.Root(t, listPath, pgUUID+"\n")
		xml := "<domain type='kvm' id='7'><name>" + tt.inXML + "</name><uuid>" + pgUUID + "</uuid></domain>"
		got := ask(t, root, strings.NewReader(xml), stopArgs(tt.name)...)
		if got.Exit != hookproto.ExitVeto || !strings.Contains(got.Line, "(rule protected_list)") {
			t.Errorf("%s: %+v", tt.why, got)
		}
		now := time.Now()
		if _, err := (ticket.Store{Root: root}).Grant(ticket.Ticket{Domain: pgUUID, Operation: "stop", Reason: "r", Requester: "t", NotAfter: now.Add(time.Hour)}, now); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, root, strings.NewReader(xml), stopArgs(tt.name)...); got.Exit != hookproto.ExitAllow {
			t.Errorf("%s, with a ticket: %+v", tt.why, got)
		}
	}
}
