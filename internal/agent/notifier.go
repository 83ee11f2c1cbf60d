package agent

import (
	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/policy"
)

// startNotifier starts telling the site's program when protection goes, by what decides now.
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

// ticketEvents are the kinds of events about requests. A ticket that is granted is seen by the
// notifier.
var ticketEvents = map[string]string{
	"requested": notify.TicketRequested, "approved": notify.TicketApproved, "rejected": notify.TicketRejected,
}

// tellTicket tells what happened to the request of a ticket.
func (a *agent) tellTicket(e approval.Event) {
	what, ok := ticketEvents[e.What]
	if !ok {
		return
	}
	told := notify.Event{
		What: what, Ticket: e.ID, Name: e.Name, UUID: e.Domain, Operations: []string{e.Operation}, Person: e.Person.User, Reason: e.Reason,
	}
	for _, approver := range e.Approvers {
		told.Approvers = append(told.Approvers, approver.User)
	}
	told.Text = notify.TicketText(told, e.What)
	a.notifier.Load().Tell(told, e.ID, e.Person.User)
}

// notifyStats returns the numbers of the notifier; none before the agent runs.
func (a *agent) notifyStats() notify.Stats {
	if n := a.notifier.Load(); n != nil {
		return n.Stats()
	}
	return notify.Stats{}
}
