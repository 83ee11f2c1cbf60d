package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/quote"
	"github.com/stopguard/stopguard/policy/ticket"
)

// seeTickets returns the events about new tickets.
func (w *watcher) seeTickets(now *state, at time.Time) ([]Event, error) {
	tickets, reports := ticket.Store{Root: w.root}.List(at)
	var events []Event
	var ids []string
	for _, t := range tickets {
		ids = append(ids, t.ID)
		if slices.Contains(now.Tickets, t.ID) || t.State != ticket.Open && len(t.Claims) == 0 {
			continue
		}
		events = append(events, grantedEvent(t.Ticket))
	}
	if len(tickets) == 0 && len(reports) > 0 { // the folder cannot be read
		return nil, reports[0]
	}
	now.Tickets = ids
	return events, nil
}

func grantedEvent(t ticket.Ticket) Event {
	e := Event{
		What: TicketGranted, Time: t.Granted, Ticket: t.ID, Name: t.Name, UUID: t.Domain, Operations: []string{t.Operation},
		Until: t.NotAfter, Person: t.Requester, Reason: t.Reason,
	}
	verb := "granted"
	if t.Approval != nil {
		for _, a := range t.Approval.Approvers {
			e.Approvers = append(e.Approvers, a.User)
		}
		if t.Approval.BreakGlass {
			e.What, verb = BreakGlass, "granted without the approvals that it needs"
		}
	}
	e.Text = TicketText(e, verb)
	return e
}

// TicketText returns the text of an event about a ticket. verb is a participle, such as "approved".
func TicketText(e Event, verb string) string {
	of := e.Name
	if of == "" {
		of = e.UUID
	}
	return fmt.Sprintf("a ticket to %s %s was %s by %s: %s", strings.Join(e.Operations, ", "), quote.Text(of), verb, quote.Text(e.Person), quote.Text(e.Reason))
}
