package notify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The kinds of events.
const (
	MarkRemoved     = "mark_removed"     // a mark was removed, or has gone with its domain
	MarkNarrowed    = "mark_narrowed"    // a mark refuses less, or ends sooner
	ListRemoved     = "list_removed"     // entries were taken off the protected list
	TicketRequested = "ticket_requested" // a person has requested a ticket that others have to approve
	TicketApproved  = "ticket_approved"  // an approver has approved a request
	TicketRejected  = "ticket_rejected"  // an approver has rejected a request
	TicketGranted   = "ticket_granted"   // a ticket was granted
	BreakGlass      = "break_glass"      // a ticket was granted by its requester alone
	TicketUsed      = "ticket_used"      // a ticket lifted a veto
	Escape          = "escape"           // a protected domain has ended without permission
	HookOff         = "hook_off"         // the hook was switched off or removed
	GateOff         = "gate_off"         // the gate was switched off, or no longer stands before libvirt's daemon
	GateStopped     = "gate_stopped"     // the gate does not run, and libvirt's clients wait for it
	Lost            = "lost"             // events were dropped before the program took them
)

// An Event is one line of JSON for the site's program. Text of a domain's owner is printable and
// cut to 200 bytes.
type Event struct {
	ID   string    `json:"id"`   // the same if the event is sent again
	Time time.Time `json:"time"` // when it happened or was noticed
	Host string    `json:"host"`
	What string    `json:"what"` // the kind
	Text string    `json:"text"` // the event for people, on one line

	Name        string    `json:"name,omitempty"` // of the domain; of a ticket for several, their pattern
	UUID        string    `json:"uuid,omitempty"` // of the domain
	Operations  []string  `json:"operations,omitempty"`
	Until       time.Time `json:"until,omitzero"`
	RemovedFrom []string  `json:"removed_from,omitempty"` // of a mark: running, definition
	DomainGone  bool      `json:"domain_gone,omitempty"`  // the domain is not on the host any more
	Entries     []string  `json:"entries,omitempty"`      // of the list, the first 100
	Count       int       `json:"count,omitempty"`        // of all entries, or of the events that were lost
	Ticket      string    `json:"ticket,omitempty"`       // the ID of the ticket or of its request
	Person      string    `json:"person,omitempty"`       // the user who requested, approved, rejected or granted
	Approvers   []string  `json:"approvers,omitempty"`
	Reason      string    `json:"reason,omitempty"`      // of the ticket as written, or how the domain ended
	DecisionID  string    `json:"decision_id,omitempty"` // of the record
}

// identify sets the ID, from the kind and the parts, and the time and the host.
func (e *Event) identify(parts ...string) {
	sum := sha256.Sum256([]byte(e.What + "\x00" + strings.Join(parts, "\x00")))
	e.ID = hex.EncodeToString(sum[:8])
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC().Round(0)
	e.Host, _ = os.Hostname()
}

// line returns the event as one line of JSON.
func (e Event) line() ([]byte, error) {
	for _, text := range []*string{&e.Name, &e.UUID, &e.Ticket, &e.Person, &e.Reason, &e.DecisionID} {
		*text = printable(*text, maxText)
	}
	e.Text = printable(e.Text, 3*maxText)
	for _, list := range []*[]string{&e.Entries, &e.Approvers} {
		var all []string
		for _, text := range *list {
			all = append(all, printable(text, maxText))
		}
		*list = all
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(e)
	return line.Bytes(), err
}

// maxText bounds a text of an event, in bytes.
const maxText = 200

// printable returns the beginning of a text, with a replacement for each character that is not
// printable. Otherwise a terminal or a chat could obey it.
func printable(text string, most int) string {
	if len(text) > most {
		for most > 0 && !utf8.RuneStart(text[most]) {
			most--
		}
		text = text[:most]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
