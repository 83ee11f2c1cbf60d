package stopguard

import (
	"fmt"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/lazyregexp"
	"github.com/stopguard/stopguard/policy"
)

var plainName = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// doubt returns the end of a veto's message for a domain that may be dead: the evidence, and the
// command that lifts the veto. It returns "" if nothing speaks against a living guest.
func doubt(p hookproto.Process, domain *domainxml.Domain) string {
	if p.Doubt == "" {
		return ""
	}
	name := domain.Name
	if !plainName().MatchString(name) {
		name = domain.UUID
	}
	return fmt.Sprintf("; %s; if it may go, stopguard ticket grant %s --reason TEXT", p.Doubt, name)
}

// unreadRule is the name in a reason about a domain whose XML is too large to be judged.
const unreadRule = "domain_xml"

// vetoUnread returns a veto for a domain of which only the head was parsed. Otherwise its owner
// could hide from a rule whatever stands behind the metadata. It is not a fault, so that a ticket
// lifts it.
func vetoUnread(d policy.Decision, domain *domainxml.Domain) policy.Decision {
	if !domain.IsHead() || d.Outcome != policy.Allow || d.Unenforced != "" {
		return d
	}
	d.Outcome = policy.Veto
	d.Reasons = []policy.Reason{{Rule: unreadRule, Message: "its XML is too large to be read, so that the rules cannot judge it; make its metadata smaller"}}
	return d
}
