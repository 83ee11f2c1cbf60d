// Package ticket keeps permissions to stop a protected domain, or for another operation that rules refuse: explicit,
// attributed, expiring, and good for one run of the domain. A ticket lifts the vetoes of rules, never a fault.
//
// Each is a file in /var/lib/stopguard/tickets. The first stop that needs one takes it, by a claim beside it: a file that is
// written whole under another name and then linked to its own, which the kernel does for one of any number of processes.
// So there is no lock that a killed process could leave behind, no half a claim, and nothing to undo: from that link on, the
// ticket is that incarnation's, whatever becomes of the process that took it.
//
// What is there but cannot be trusted or understood lifts nothing and is no fault. It is reported, beside the result.
package ticket

import (
	"errors"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// Longest is how far ahead of the moment it is granted a ticket may expire: 30 days. A permission that outlives the work
// that it was asked for is a hole that nobody remembers.
const Longest = 30 * 24 * time.Hour

// ErrUnknown is what [Store.Revoke] gives, by [errors.Is], for an ID that no ticket has.
var ErrUnknown = errors.New("ticket: no such ticket")

// A Ticket permits one operation on one incarnation of a domain, or of each of the domains that a pattern names. Domain,
// Name, Operation, Reason, Requester and NotAfter are for who grants it to fill in; [Store.Grant] sets the rest.
type Ticket struct {
	// ID names it, and its file: 16 hexadecimal digits.
	ID string `json:"id"`

	// Domain is the UUID of the domain; "" for a ticket for the whole host. Hyphens and case do not matter to Grant; what is
	// stored is in lower case, with four hyphens.
	Domain string `json:"domain"`

	// Name makes it a ticket for the whole host, as for draining it: a pattern as of [path.Match] on the name of the domain,
	// "*" for all of them. Exactly one of Domain and Name must be set.
	Name string `json:"name"`

	// Operation is what it permits, and all that it permits: one of [policy.Operations]. A stop that a gate sees first and a
	// hook after it is one operation, of one incarnation, and so needs one ticket.
	Operation string `json:"operation"`

	// Reason and Requester say why, and who wanted it. Both must be given, printable, on one line, and at most 1 KiB long.
	Reason    string `json:"reason"`
	Requester string `json:"requester"`

	// Granted and NotAfter are from when and until when it holds, by the wall clock, in UTC.
	Granted  time.Time `json:"granted"`
	NotAfter time.Time `json:"not_after"`

	// Boot is the boot ID of the host (/proc/sys/kernel/random/boot_id) when it was granted. After a reboot it is expired: every
	// incarnation that it was meant for has ended, and the clock that Deadline is told by has begun anew.
	Boot string `json:"boot"`

	// Deadline is NotAfter by the clock that nobody can set, in nanoseconds since the boot, with the time that the host was
	// suspended (CLOCK_BOOTTIME). It expires by whichever clock gets there first.
	Deadline int64 `json:"deadline"`
}

// HostWide reports whether it is for every domain with a name that fits a pattern, and not for a single one.
func (t Ticket) HostWide() bool { return t.Domain == "" }

// A State is what has become of a ticket.
type State string

// The states of a ticket. One for the whole host is open until it is expired, whoever took it.
const (
	Open    State = "open"    // nobody has taken it
	Taken   State = "taken"   // an incarnation holds it, or a claim is there that cannot be read
	Used    State = "used"    // the incarnation that held it has ended; expired since or not
	Expired State = "expired" // by the wall clock, by boot time, or by a reboot; taken before or not
)

// A Listed is a ticket with what has become of it.
type Listed struct {
	Ticket
	State  State
	Claims []Claim // who took it, by time: one at most, or, of a ticket for the whole host, any number
}

// A Claim is one incarnation's hold on a ticket.
type Claim struct {
	Incarnation policy.Incarnation
	Name        string    // of the domain
	Taken       time.Time // when the first stop took it
	Used        time.Time // when it was marked as used; zero while it holds
}
