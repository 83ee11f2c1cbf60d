package policy

import (
	"cmp"
	"slices"
	"time"
)

// An Outcome is the result of a decision.
type Outcome int

const (
	// Fault is the zero Outcome: no decision could be made. It refuses.
	Fault Outcome = iota
	// Allow means that no rule has a reason against the operation.
	Allow
	// Veto means that there is a reason against the operation. It refuses.
	Veto
)

// String returns the outcome's name as records have it: fault, allow, veto.
func (o Outcome) String() string {
	switch o {
	case Allow:
		return "allow"
	case Veto:
		return "veto"
	}
	return "fault"
}

// A Decision is the answer of an [Engine]. Its zero value is a fault, which refuses.
type Decision struct {
	Outcome Outcome

	// Reasons are all reasons that refuse the operation, sorted by rule, then message. There is one
	// at least if and only if the outcome is Veto.
	Reasons []Reason

	// Monitored are the reasons that would refuse the operation if they were enforced, sorted
	// likewise.
	Monitored []Reason

	// Notes are texts of rules for the record that refuse nothing, such as one about a mark that
	// has lapsed, sorted likewise.
	Notes []Reason

	// Unenforced is the cause if no reason was enforced: [ClusterManaged] or [ShuttingDown]. It is
	// "" if reasons are enforced, apart from those of rules that the site only monitors.
	Unenforced string

	// GoRules are the names of the rules written in Go that were evaluated, sorted.
	GoRules []string

	// Revision names the version of the site's rules and settings that the decision was made by; ""
	// if the site does not have any. The revision of a folder is the SHA-256 over its sorted paths
	// and contents, in hexadecimal; those of several trees are joined by "+".
	Revision string
}

// The causes for which no reason of a [Decision] is enforced.
const (
	// ClusterManaged: data.site.cluster_managed names the domain. A cluster manager whose stop is
	// refused fences the whole host, or runs a second copy on the same disk.
	ClusterManaged = "cluster_managed"

	// ShuttingDown: the host shuts down, and a refused stop would end in a power cut.
	ShuttingDown = "shutting_down"
)

// Until returns the earliest time at which another request would pass: when the last of all reasons
// has lapsed. It is the zero time if there are no reasons, or if one does not lapse by itself.
func (d Decision) Until() time.Time {
	var last time.Time
	for _, r := range d.Reasons {
		if r.Until.IsZero() {
			return time.Time{}
		}
		if r.Until.After(last) {
			last = r.Until
		}
	}
	return last
}

// A Reason is the reason of one rule against the operation.
type Reason struct {
	// Rule is the name of the rule, which is its folder and the last part of its package.
	Rule string

	// Message is for the person who is refused. It may hold text that a domain's owner wrote: show
	// only its printable characters.
	Message string

	// Until is the time at which the reason lapses by itself; the zero time means that it does not.
	Until time.Time
}

func sortReasons(reasons []Reason) []Reason {
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message), a.Until.Compare(b.Until))
	})
	return slices.CompactFunc(reasons, func(a, b Reason) bool {
		return a.Rule == b.Rule && a.Message == b.Message && a.Until.Equal(b.Until)
	})
}
