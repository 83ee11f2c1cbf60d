// Package ticket stores permissions to stop a protected domain, or to do another operation that
// rules refuse. A ticket is explicit, attributed, expires, and holds for one run of the domain. It
// lifts the vetoes of rules, never a fault.
//
// Each ticket is a file in /var/lib/stopguard/tickets. The first stop that needs a ticket claims it
// with a second file, which is written under a temporary name and then hard-linked. The kernel lets
// one of any number of processes make that link. A killed process therefore leaves neither a lock
// nor half a claim, and the ticket stays with the incarnation that claimed it.
//
// A file that cannot be trusted or parsed lifts nothing. It is reported and is not a fault.
package ticket

import (
	"errors"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// maxLife is the longest time between the grant of a ticket and its expiry. Otherwise a permission
// could outlive the work that it was granted for.
const maxLife = 30 * 24 * time.Hour

// ErrUnknown is returned by [Store.Revoke] if no ticket has the given ID.
var ErrUnknown = errors.New("ticket: no such ticket")

// A TakeError is the report of [Store.Take] about a ticket that permits the operation and could not
// be claimed, as on a full disk. It is not used up.
type TakeError struct {
	ID  string // ID is the ticket's.
	Err error  // Err has the form of all reports.
}

func (e *TakeError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *TakeError) Unwrap() error { return e.Err }

// Note returns the error in a few words, for a line that has other things to say.
func (e *TakeError) Note() string {
	return "ticket " + e.ID + " could not be taken: " + errno(e.Err).Error()
}

// A Ticket permits one operation on one incarnation of a domain, or on one incarnation of each
// domain that a pattern matches. The caller of [Store.Grant] sets Domain or Name, Operation,
// Reason, Requester and NotAfter. Grant sets the other fields.
type Ticket struct {
	// ID is 16 hexadecimal digits, also the name of the file.
	ID string `json:"id"`

	// Domain is the UUID of the domain; "" in a ticket for the whole host. Grant accepts any case
	// and any hyphens, and stores lower case with four hyphens.
	Domain string `json:"domain"`

	// Name is a name or a pattern as in the protected list, and makes this a ticket for the whole
	// host, such as for draining it; "*" matches every domain. Exactly one of Domain and Name is
	// set.
	Name string `json:"name"`

	// Operation is the one operation that the ticket permits, of [policy.Operations]; or "tamper",
	// which is the former name of a modify and a delete and permits both. A stop that the gate and
	// then the hook decide about is one operation and needs one ticket.
	Operation string `json:"operation"`

	// Reason and Requester say why the ticket was granted and who asked for it. Each is required,
	// is one line of printable text, and has at most 1 KiB.
	Reason    string `json:"reason"`
	Requester string `json:"requester"`

	// Granted and NotAfter bound the ticket's validity by the wall clock, in UTC.
	Granted  time.Time `json:"granted"`
	NotAfter time.Time `json:"not_after"`

	// Boot is the host's boot ID (/proc/sys/kernel/random/boot_id) at the grant. A reboot expires
	// the ticket: every incarnation that it was meant for has ended, and Deadline's clock was
	// reset.
	Boot string `json:"boot"`

	// Deadline is NotAfter by CLOCK_BOOTTIME, which cannot be set, in nanoseconds since boot. The
	// ticket expires by whichever clock is first.
	Deadline int64 `json:"deadline"`

	// Approval holds the approvers and the agent's seal; nil for a ticket that one person granted.
	// Grant leaves it out.
	Approval *Approval `json:"approval,omitempty"`
}

// HostWide reports whether the ticket is for every domain whose name matches a pattern.
func (t Ticket) HostWide() bool { return t.Domain == "" }

// A State is the state of a ticket.
type State string

// The states of a ticket. A ticket for the whole host stays open until it expires.
const (
	Open    State = "open"    // not claimed
	Taken   State = "taken"   // an incarnation holds it, or its claim cannot be read
	Used    State = "used"    // the incarnation that held it has ended
	Expired State = "expired" // by the wall clock, by boot time, or by a reboot; claimed or not
)

// A Listed is a ticket with its state.
type Listed struct {
	Ticket
	State  State
	Claims []Claim // by time; at most one, except for a ticket for the whole host
}

// A Claim is one incarnation's hold on a ticket.
type Claim struct {
	Incarnation policy.Incarnation
	Name        string    // of the domain
	Taken       time.Time // the time of the first stop
	Used        time.Time // the time at which it was marked as used; zero while it holds
}
