package policy

import "time"

// Approvals is what a site asks of tickets, as data.site.tickets says: that other people approve
// them. See package policy/ticket.
type Approvals struct {
	Approvers  int           // how many people have to approve, the requester not among them
	Who        []string      // who may request and approve: "user:NAME", "group:NAME"
	Within     time.Duration // from the request to the last approval
	BreakGlass bool          // whether one person may do without

	applies func(name, uuid, operation string) bool
}

// Approvals returns what the site asks of tickets; nil if it asks nothing.
func (e *Engine) Approvals() *Approvals {
	t := e.settings.Tickets
	if t == nil {
		return nil
	}
	return &Approvals{Approvers: t.Approvers, Who: t.Who, Within: t.Within, BreakGlass: t.BreakGlass, applies: t.Applies}
}

// For returns a if a ticket needs it for the operation on the domain, and else nil. a may be nil.
func (a *Approvals) For(name, uuid, operation string) *Approvals {
	if a == nil || !a.applies(name, uuid, operation) {
		return nil
	}
	return a
}
