// Package recorded puts what a policy decided into the form of a record. Package record has none of it, so that a program
// that only records links no policy.
package recorded

import (
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// Decision notes in an event what was decided.
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

// Reasons gives the reasons in a list that is empty rather than nil, for nil would be null in JSON.
func Reasons(list []policy.Reason) []record.Reason {
	all := make([]record.Reason, 0, len(list))
	for _, r := range list {
		all = append(all, record.Reason(r))
	}
	return all
}
