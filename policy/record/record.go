// Package record writes decision records: one JSON line each, in the format of OPA's decision logs,
// so that programs that read those logs read these.
//
// A record that cannot be written changes no decision. Lines of concurrent processes never mix, the
// next line after a torn one begins on a line of its own, and a file that is too large is rotated;
// see [Recorder.Write].
//
// The package does not import the policy, so that a program that asks an agent can record without
// linking an engine.
package record

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
)

// Path is the path of every event, as OPA's decision logs name the decision.
const Path = "stopguard/decision"

// An Event is a recorded decision. Its JSON is that of OPA's decision log events, with stopguard's
// own fields below result.
type Event struct {
	Labels     map[string]string `json:"labels"` // host: the host's name
	DecisionID string            `json:"decision_id"`
	Bundles    map[string]Bundle `json:"bundles,omitempty"` // site: the site's rules and settings
	Path       string            `json:"path"`
	Input      any               `json:"input,omitempty"` // the whole input without the erased paths; absent if the policy was not asked
	Result     Result            `json:"result"`
	Erased     []string          `json:"erased,omitempty"`
	Masked     []string          `json:"masked,omitempty"`
	Timestamp  time.Time         `json:"timestamp"`
	Metrics    map[string]int64  `json:"metrics,omitempty"` // timer_stopguard_decide_ns: the time that the decision took
}

// A Bundle names the revision of a policy.
type Bundle struct {
	Revision string `json:"revision"`
}

// The outcomes of a request, and of a domain that went down without one.
const (
	Allow  = "allow"  // no enforced rule vetoed, or a ticket lifted the vetoes
	Veto   = "veto"   // a rule refused the operation
	Moot   = "moot"   // there was nothing left to protect
	Fault  = "fault"  // no decision could be made, and the operation was refused
	Escape = "escape" // a protected domain went down without having been allowed to
)

// A Result is an outcome and its reasons. Lists are empty rather than null.
type Result struct {
	Outcome    string   `json:"outcome"`
	Domain     Domain   `json:"domain"`
	Request    *Request `json:"request,omitempty"`    // absent if a hook asked about a stop
	Reasons    []Reason `json:"reasons"`              // of the vetoes, also those that a ticket lifted
	Monitored  []Reason `json:"monitored"`            // of the vetoes in monitor mode
	Notes      []Reason `json:"notes,omitempty"`      // notes of rules, such as that a mark has lapsed
	Unenforced string   `json:"unenforced,omitempty"` // why no veto is enforced: cluster_managed or shutting_down
	GoRules    []string `json:"go_rules,omitempty"`   // the rules in Go that were asked; only the program that has them can ask them again
	Ticket     *Ticket  `json:"ticket,omitempty"`     // the ticket that lifted the vetoes
	Detail     string   `json:"detail,omitempty"`     // the error of a fault, the evidence of a moot operation, the cause of an escape
	Reports    []string `json:"reports,omitempty"`    // errors that changed nothing, such as an unreadable ticket
}

// A Request is a request at an enforcement point other than a hook. It is recorded even if there is
// no input.
type Request struct {
	Operation string `json:"operation"`
	Procedure string `json:"procedure,omitempty"`
	UID       int    `json:"uid"` // -1 if it is not known
	User      string `json:"user,omitempty"`
	PID       int    `json:"pid,omitempty"`
	Via       string `json:"via,omitempty"`     // the process of root's that asks for the caller, such as virtproxyd; absent if the caller asks directly
	ViaPID    int    `json:"via_pid,omitempty"` // its PID
}

// String returns the request for people, such as "stop by alice (DOMAIN_SHUTDOWN)".
func (r Request) String() string {
	s := r.Operation
	switch {
	case r.User != "":
		s += " by " + r.User
	case r.UID >= 0:
		s += fmt.Sprintf(" by uid %d", r.UID)
	case r.Via != "":
		s += " by a client of " + r.Via
	}
	if r.Procedure != "" {
		s += " (" + r.Procedure + ")"
	}
	return s
}

// A Domain identifies the domain. It is recorded even without an input.
type Domain struct {
	Name  string `json:"name"`
	UUID  string `json:"uuid,omitempty"`
	PID   int    `json:"pid,omitempty"`   // of its process
	Start uint64 `json:"start,omitempty"` // of its process, in clock ticks since boot
}

// String returns the domain's name for people, quoted if it could imitate the text behind a name.
// libvirt accepts the name "web-01: stop by alice".
func (d Domain) String() string {
	if strings.ContainsFunc(d.Name, isUnusual) {
		return strconv.Quote(d.Name)
	}
	return d.Name
}

func isUnusual(r rune) bool {
	return !unicode.In(r, unicode.L, unicode.M, unicode.N) && !strings.ContainsRune(" -_.,/@+#%=", r)
}

// A Reason is a rule's reason. Until is absent if the reason does not lapse by itself.
type Reason struct {
	Rule    string    `json:"rule"`
	Message string    `json:"message"`
	Until   time.Time `json:"until,omitzero"`
}

// A Ticket identifies the ticket that lifted the vetoes.
type Ticket struct {
	ID        string `json:"id"`
	Requester string `json:"requester"`
	Reason    string `json:"reason"`

	// Approvers approved it; BreakGlass says that its requester did without.
	Approvers  []string `json:"approvers,omitempty"`
	BreakGlass bool     `json:"break_glass,omitempty"`
}

// New returns an event about a domain of a host, with a new decision ID.
func New(host string, domain Domain, at time.Time) Event {
	return Event{
		Labels:     map[string]string{"host": host},
		DecisionID: uuid.NewString(),
		Path:       Path,
		Result:     Result{Domain: domain, Reasons: []Reason{}, Monitored: []Reason{}},
		Timestamp:  at.UTC(),
	}
}
