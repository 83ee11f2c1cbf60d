package candidate

import (
	"slices"
	"strings"

	"github.com/stopguard/stopguard/policy"
)

// A Verdict is the result of an operation under a policy. If Err is set, it is a fault.
type Verdict struct {
	policy.Decision
	Err error
}

// Word returns the verdict in one word.
func (v Verdict) Word() string {
	if v.Err != nil {
		return policy.Fault.String()
	}
	return v.Outcome.String()
}

// The effects of a candidate on a domain; "" means that it does not have an effect.
const (
	NewlyVetoed  = "newly vetoed"
	NewlyAllowed = "newly allowed"
	NewlyFault   = "newly a fault"
	OtherReason  = "other reason"
)

// Changes are the effects in the order of a report.
var Changes = []string{NewlyVetoed, NewlyAllowed, OtherReason, NewlyFault}

// ChangeOf returns the effect of a candidate with the verdict then on a domain with the verdict
// now.
func ChangeOf(now, then Verdict) string {
	same := func(a, b policy.Reason) bool {
		return a.Rule == b.Rule && a.Message == b.Message && a.Until.Equal(b.Until)
	}
	switch {
	case now.Err != nil && then.Err != nil:
		return ""
	case then.Err != nil:
		return NewlyFault
	case now.Err == nil && now.Outcome == then.Outcome:
		if slices.EqualFunc(now.Reasons, then.Reasons, same) && slices.EqualFunc(now.Monitored, then.Monitored, same) {
			return ""
		}
		return OtherReason
	case then.Outcome == policy.Veto:
		return NewlyVetoed
	}
	return NewlyAllowed
}

// Rules returns the names of the rules that have reasons, each once.
func (v Verdict) Rules() string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range v.Reasons {
		add(r.Rule)
	}
	why := v.Unenforced
	if why == "" {
		why = "monitored"
	}
	for _, r := range v.Monitored {
		add(r.Rule + " (" + why + ")")
	}
	switch {
	case v.Err != nil:
		return "see below"
	case len(names) == 0:
		return "-"
	}
	return strings.Join(names, ", ")
}
