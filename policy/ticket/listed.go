package ticket

import "github.com/stopguard/stopguard/policy"

// WouldServe reports whether the ticket would let the operation be done on this incarnation of the
// named domain: whether it is open, or held by the incarnation. It does not take the ticket, and
// another incarnation may be faster. A ticket that permits nothing any more has another State.
// Whether it has the approvals that it needs, [Store.Approved] says.
func (l Listed) WouldServe(in policy.Incarnation, name, operation string) bool {
	in = known(in)
	if !l.fits(in.UUID, name, operation) {
		return false
	}
	for _, c := range l.Claims {
		if in.PID != 0 && c.Incarnation == in {
			return c.Used.IsZero() && (l.State == Open || l.State == Taken)
		}
	}
	return l.State == Open
}
