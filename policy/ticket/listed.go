package ticket

import (
	"cmp"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/policy"
)

// Serving returns the listed ticket that [Store.Take] would return now, and reports whether there
// is one. It does not take the ticket, and another incarnation may be faster.
func (s Store) Serving(list []Listed, in policy.Incarnation, name, operation string) (Listed, bool) {
	in = normalized(in)
	serving := slices.DeleteFunc(slices.Clone(list), func(l Listed) bool {
		return !l.serves(in, name, operation) || s.Approved(l.Ticket, s.Required) != nil
	})
	slices.SortFunc(serving, func(a, b Listed) int { return compare(a.Ticket, b.Ticket) })
	if i := slices.IndexFunc(serving, func(l Listed) bool { return l.isHeldBy(in) }); i >= 0 {
		return serving[i], true
	}
	if len(serving) == 0 {
		return Listed{}, false
	}
	return serving[0], true
}

// serves reports whether the ticket would permit the operation on this incarnation of the named
// domain, if it has the required approvals. It must be open, or held by the incarnation. A ticket
// that permits nothing any more has another State.
func (l Listed) serves(in policy.Incarnation, name, operation string) bool {
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

func (l Listed) isHeldBy(in policy.Incarnation) bool {
	return in.PID != 0 && slices.ContainsFunc(l.Claims, func(c Claim) bool { return c.Incarnation == in })
}

// compare orders tickets as Take prefers them.
func compare(a, b Ticket) int {
	if a.HostWide() != b.HostWide() {
		if b.HostWide() {
			return -1
		}
		return 1
	}
	return cmp.Or(a.NotAfter.Compare(b.NotAfter), strings.Compare(a.ID, b.ID))
}
