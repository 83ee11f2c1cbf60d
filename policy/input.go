package policy

import (
	"context"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// An Input holds the facts that a decision is made from. rego/input.schema.json describes the form
// in which rules in Rego see it.
type Input struct {
	// Operation is the requested operation: one of [Operations].
	Operation string

	// Request describes the request; zero if it is not known, as in a hook.
	Request Request

	// Time is the time of the request, and the only clock of the rules. Rules in Rego see whole
	// seconds.
	Time time.Time

	// Host is the host that the domain runs on.
	Host Host

	// Fleet holds the groups of the fleet that the domain belongs to, with their running members. A
	// group that is left out counts as one whose members are not known, which refuses. See
	// [Engine.FleetGroups].
	Fleet Fleet

	// Caller is the client that requests the operation; nil if it is not known, as in a hook.
	Caller *Caller

	// Domain is the domain that the operation would act upon. It must not be nil.
	Domain *domainxml.Domain

	// Holds are the holds on the domain, as of package policy/hold. They need to be given only if
	// [Engine.Reads]("domain", "holds").
	Holds []Hold

	// State is the domain's state in libvirt's status file. If it is not known, set State.Unknown:
	// a zero State is an error if a rule reads it.
	State State

	// ShuttingDown is set if the host itself shuts down. No reason is enforced then: a veto would
	// end in a power cut.
	ShuttingDown bool
}

// clock is the time as rules in Rego see it, and as a record has it: in whole seconds. Marks are
// read by the same time. Otherwise a mark that ends within the second would be over in a decision,
// and in force when its record is replayed.
func (in Input) clock() time.Time { return in.Time.Truncate(time.Second) }

// A Host is the host that a domain runs on.
type Host struct {
	Name string // needs to be given only if [Engine.Reads]("host", "name")

	// Domains are those with a live process. They need to be given only if [Engine.Reads]("host",
	// "domains"), and must then not be nil, even if there are none.
	Domains []HostDomain

	// Running reads the running domains for Go rules, if Domains does not have them.
	// [Engine.Decide] calls it once at most, and only if a rule asks. Within a rule it is never
	// nil, and returns Domains if they are given.
	Running func(context.Context) ([]HostDomain, error)

	shared *sharedDomains
}

// Shared returns the host for many decisions, which may be concurrent. The value of its domains for
// rules in Rego is then built once and not for each decision. The domains must not be changed
// afterwards.
func (h Host) Shared() Host {
	h.shared = &sharedDomains{list: h.Domains}
	return h
}

type sharedDomains struct {
	list []HostDomain
	once sync.Once
	term *ast.Term
}

func (h Host) domainsTerm() *ast.Term {
	if h.shared == nil || len(h.shared.list) != len(h.Domains) || len(h.Domains) > 0 && &h.shared.list[0] != &h.Domains[0] {
		return regovalue.Array(h.Domains, hostDomainTerm)
	}
	h.shared.once.Do(func() { h.shared.term = regovalue.Array(h.Domains, hostDomainTerm) })
	return h.shared.term
}

// A Hold protects a domain for as long as a process works on it.
type Hold struct {
	Holder     string    // the user whose process it is
	PID        int       // of the process, as it says; 0 if unknown
	Reason     string    // one line
	Since      time.Time // when it began
	Until      time.Time // when it ends even if the process lives on; the zero time if it does not
	Operations []string  // the operations that it refuses, of [Operations]
}

// A HostDomain is a running domain of a [Host].
type HostDomain struct {
	Name, UUID string
	State      string              // one of [States]; "" if unknown
	Unknown    bool                // whether nothing is known of its state; else State must be set if a rule reads it
	Metadata   []domainxml.Element // its children of <metadata>; nil where it cannot be read
	Stopping   bool                // whether a stop of it has been allowed and is under way
}

// An Incarnation is one run of a domain: its process, as distinct from a later one of the same PID.
type Incarnation struct {
	UUID  string
	PID   int    // 0 where the process is not known
	Start uint64 // when the process began, in clock ticks since boot; 0 where it is not known
}

// A State is a domain's state in libvirt's status file, in libvirt's own words.
type State struct {
	State  string // one of [States]; "" if unknown
	Reason string // booted, user, ioerror, ...
	Job    string // backup, migration out, ...; "" if none

	// Unknown is set if the state is not known.
	Unknown bool

	// DiskJobs holds the running block job of a disk (copy, commit, active-commit, pull, backup) by
	// the disk's target.
	DiskJobs map[string]string
}
