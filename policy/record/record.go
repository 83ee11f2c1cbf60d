// Package record writes every decision down: one JSON line each, in the format of OPA's decision logs, so that what reads
// those reads these.
//
// A record that cannot be written changes no decision. Lines of many processes at once never mix, a torn last line stays
// alone, and a file that is too large is set aside; see [Recorder.Write].
//
// The package knows nothing of the policy, so that a program that decides nothing itself can record without linking one.
package record

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
)

// Path is the decision that an event is about, as OPA's decision logs name it.
const Path = "stopguard/decision"

// An Event is a decision as it is recorded. Its JSON is that of OPA's decision log events, with stopguard's own words
// below result.
type Event struct {
	Labels     map[string]string `json:"labels"` // host: the host's name
	DecisionID string            `json:"decision_id"`
	Bundles    map[string]Bundle `json:"bundles,omitempty"` // site: the site's rules and settings
	Path       string            `json:"path"`
	Input      any               `json:"input,omitempty"` // the whole input, less what is erased or masked; absent if there is none
	Result     Result            `json:"result"`
	Erased     []string          `json:"erased,omitempty"`
	Masked     []string          `json:"masked,omitempty"`
	Timestamp  time.Time         `json:"timestamp"`
	Metrics    map[string]int64  `json:"metrics,omitempty"` // timer_stopguard_decide_ns: from the event to the decision
}

// A Bundle names the version of what was decided by.
type Bundle struct {
	Revision string `json:"revision"`
}

// What became of what was asked for, or of a domain that nobody had asked about.
const (
	Allow  = "allow"  // no rule was against it, or none that is enforced, or a ticket lifted the vetoes
	Veto   = "veto"   // a rule refused it
	Moot   = "moot"   // there was nothing left to protect
	Fault  = "fault"  // no decision could be made, and it was refused
	Escape = "escape" // a protected domain went down without having been let go
)

// A Result is what was decided and why. Lists are empty rather than null.
type Result struct {
	Outcome    string   `json:"outcome"`
	Domain     Domain   `json:"domain"`
	Request    *Request `json:"request,omitempty"`    // what was asked for and by whom; absent where a hook asked about a stop
	Reasons    []Reason `json:"reasons"`              // what refused it; with a ticket, what would have
	Monitored  []Reason `json:"monitored"`            // what would have, were it enforced
	Notes      []Reason `json:"notes,omitempty"`      // what rules said besides, such as that a mark has lapsed
	Unenforced string   `json:"unenforced,omitempty"` // why nothing was: cluster_managed or shutting_down
	Ticket     *Ticket  `json:"ticket,omitempty"`     // what lifted the vetoes
	Detail     string   `json:"detail,omitempty"`     // of a fault, what was wrong; of a moot operation, what was seen; of an escape, why it went down
	Reports    []string `json:"reports,omitempty"`    // what was passed over: tickets that cannot be read
}

// A Request is what was asked for at an enforcement point that is no hook, also where there is no input.
type Request struct {
	Operation string `json:"operation"`
	Procedure string `json:"procedure,omitempty"`
	UID       int    `json:"uid"` // -1 where it is not known
	User      string `json:"user,omitempty"`
	PID       int    `json:"pid,omitempty"`
}

// String is the request for people, such as "stop by alice (DOMAIN_SHUTDOWN)".
func (r Request) String() string {
	s := r.Operation
	switch {
	case r.User != "":
		s += " by " + r.User
	case r.UID >= 0:
		s += fmt.Sprintf(" by uid %d", r.UID)
	}
	if r.Procedure != "" {
		s += " (" + r.Procedure + ")"
	}
	return s
}

// A Domain is which domain it was, also where there is no input.
type Domain struct {
	Name  string `json:"name"`
	UUID  string `json:"uuid,omitempty"`
	PID   int    `json:"pid,omitempty"`   // of its process
	Start uint64 `json:"start,omitempty"` // of its process, in clock ticks since boot
}

// String is the domain's name for people, in quotes if it could pass for what stands behind a name: "web-01: stop by alice" is
// one that libvirt accepts.
func (d Domain) String() string {
	if strings.ContainsFunc(d.Name, unusual) {
		return strconv.Quote(d.Name)
	}
	return d.Name
}

func unusual(r rune) bool {
	return !unicode.In(r, unicode.L, unicode.M, unicode.N) && !strings.ContainsRune(" -_.,/@+#%=", r)
}

// A Reason is why one rule is, or would be, against the operation; Until is absent if it does not lapse by itself.
type Reason struct {
	Rule    string    `json:"rule"`
	Message string    `json:"message"`
	Until   time.Time `json:"until,omitzero"`
}

// A Ticket is the ticket that lifted the vetoes.
type Ticket struct {
	ID        string `json:"id"`
	Requester string `json:"requester"`
	Reason    string `json:"reason"`
}

// New begins an event about a domain of a host, at a time and with an ID of its own.
func New(host string, domain Domain, at time.Time) Event {
	return Event{
		Labels:     map[string]string{"host": host},
		DecisionID: uuid.NewString(),
		Path:       Path,
		Result:     Result{Domain: domain, Reasons: []Reason{}, Monitored: []Reason{}},
		Timestamp:  at.UTC(),
	}
}
