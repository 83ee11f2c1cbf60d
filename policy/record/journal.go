package record

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"
)

// sendToJournal sends the event without its input to the systemd journal, if there is one.
func sendToJournal(e Event) error {
	if !journal.Enabled() {
		return nil
	}
	priority := journal.PriInfo
	switch e.Result.Outcome {
	case Veto:
		priority = journal.PriNotice
	case Fault, Escape:
		priority = journal.PriWarning
	}
	err := journal.Send(e.text(), priority, map[string]string{
		"SYSLOG_IDENTIFIER":     "stopguard",
		"STOPGUARD_DECISION_ID": e.DecisionID,
		"STOPGUARD_OUTCOME":     e.Result.Outcome,
		"STOPGUARD_DOMAIN":      e.Result.Domain.Name,
		"STOPGUARD_UUID":        e.Result.Domain.UUID,
	})
	if err != nil {
		return fmt.Errorf("record: journal: %w; the decision stands", err)
	}
	return nil
}

// text returns the event for people, on one line.
func (e Event) text() string {
	parts := []string{e.Result.Outcome, e.Result.Domain.String()}
	if r := e.Result.Request; r != nil {
		parts = append(parts, r.String())
	}
	for _, r := range e.Result.Reasons {
		parts = append(parts, fmt.Sprintf("%s (rule %s)", r.Message, r.Rule))
	}
	for _, r := range e.Result.Monitored {
		parts = append(parts, fmt.Sprintf("%s (rule %s, monitored)", r.Message, r.Rule))
	}
	if t := e.Result.Ticket; t != nil {
		parts = append(parts, fmt.Sprintf("ticket %s of %s: %s", t.ID, t.Requester, t.Reason))
	}
	if e.Result.Detail != "" {
		parts = append(parts, e.Result.Detail)
	}
	return strings.Map(printable, strings.Join(parts, ": "))
}

// printable replaces an unprintable character. Otherwise a guest's owner could add lines to the
// journal, or make journalctl show a blob.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}
