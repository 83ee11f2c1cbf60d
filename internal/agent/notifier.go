package agent

import (
	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/policy"
)

// startNotifier starts the notifier, with the program that the current policy names.
func (a *agent) startNotifier() {
	a.notifier.Store(notify.Start(notify.Config{
		Root: a.root, Log: a.logger.Warn,
		Settings: func() (*policy.Notify, error) {
			g := a.bundles.Current()
			if g.Err != nil {
				return nil, g.Err
			}
			return g.Engine.Notify(), nil
		},
	}))
}

// ticketEvents are the kinds of events about requests. The notifier itself detects a granted
// ticket.
var ticketEvents = map[string]string{
	"requested": notify.TicketRequested, "approved": notify.TicketApproved, "rejected": notify.TicketRejected,
}

// tellTicket queues an event about the request of a ticket.
func (a *agent) tellTicket(e approval.Event) {
	kind, ok := ticketEvents[e.What]
	if !ok {
		return
	}
	event := notify.Event{
		What: kind, Ticket: e.ID, Name: e.Name, UUID: e.Domain, Operations: []string{e.Operation}, Person: e.Person.User, Reason: e.Reason,
	}
	for _, approver := range e.Approvers {
		event.Approvers = append(event.Approvers, approver.User)
	}
	event.Text = notify.TicketText(event, e.What)
	a.notifier.Load().Tell(event, e.ID, e.Person.User)
}

// notifyStats returns the numbers of the notifier; zero values before the agent runs.
func (a *agent) notifyStats() notify.Stats {
	if n := a.notifier.Load(); n != nil {
		return n.Stats()
	}
	return notify.Stats{}
}
