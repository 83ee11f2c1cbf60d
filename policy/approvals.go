package policy

import "time"

// Approvals are the approvals by other people that a site requires for tickets, from
// data.site.tickets. See package policy/ticket.
type Approvals struct {
	Approvers  int           // the number of people who have to approve, without the requester
	Who        []string      // the people who may request and approve: "user:NAME", "group:NAME"
	Within     time.Duration // the time from the request to the last approval
	BreakGlass bool          // whether one person may grant a ticket without approvals

	applies func(name, uuid, operation string) bool
}

// Approvals returns the approvals that the site requires for tickets; nil if it requires none.
func (e *Engine) Approvals() *Approvals {
	t := e.settings.Tickets
	if t == nil {
		return nil
	}
	return &Approvals{Approvers: t.Approvers, Who: t.Who, Within: t.Within, BreakGlass: t.BreakGlass, applies: t.Applies}
}

// For returns a if a ticket for the operation on the domain needs the approvals, and nil if it does
// not. a may be nil.
func (a *Approvals) For(name, uuid, operation string) *Approvals {
	if a == nil || !a.applies(name, uuid, operation) {
		return nil
	}
	return a
}
