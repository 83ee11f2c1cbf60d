// Package recorded converts a policy's decision to a record. It is not part of package record, so
// that a program that only records does not link the policy.
package recorded

import (
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// Decision sets an event's fields from a decision.
func Decision(e *record.Event, d policy.Decision) {
	r := &e.Result
	r.Outcome = d.Outcome.String()
	r.Reasons, r.Monitored, r.Unenforced = Reasons(d.Reasons), Reasons(d.Monitored), d.Unenforced
	r.GoRules = d.GoRules
	if len(d.Notes) > 0 {
		r.Notes = Reasons(d.Notes)
	}
	if d.Revision != "" {
		e.Bundles = map[string]record.Bundle{"site": {Revision: d.Revision}}
	}
}

// Reasons returns the reasons as a list that is never nil. Otherwise JSON would have null.
func Reasons(list []policy.Reason) []record.Reason {
	all := make([]record.Reason, 0, len(list))
	for _, r := range list {
		all = append(all, record.Reason(r))
	}
	return all
}
