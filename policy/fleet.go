package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/document"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
	"github.com/stopguard/stopguard/policy/internal/settings"
)

// A Fleet is the state of groups whose domains run on several hosts.
type Fleet struct {
	Groups []FleetCount
}

// A FleetCount is a group of the fleet with its running members.
type FleetCount struct {
	Name    string
	Error   string // the reason if the members are not known; "" if they are
	Members []FleetMember
}

// A FleetMember is a running domain of a group of the fleet.
type FleetMember struct {
	Name, UUID, Host string
	Since            string // RFC 3339, by the clock of its host
	Reserved         bool   // whether an operation that takes it off its host is allowed and not over
}

// A FleetGroup is a group of domains that are counted on all hosts of a fleet: one of
// data.site.min_running with the scope fleet.
type FleetGroup = settings.FleetGroup

// FleetGroups returns the groups of the fleet, in the order of the settings.
func (e *Engine) FleetGroups() []FleetGroup { return slices.Clone(e.settings.Fleet.Groups) }

// FleetGroupsOf returns the groups of the fleet that could refuse an operation on a domain.
func (e *Engine) FleetGroupsOf(operation string, d *domainxml.Domain) []FleetGroup {
	if !slices.Contains(e.settings.Fleet.Operations, operation) {
		return nil
	}
	return slices.DeleteFunc(e.FleetGroups(), func(g FleetGroup) bool { return !g.Holds(d.Name, d.UUID, d.Metadata) })
}

// EnforcesFleetGroups reports whether the rule about groups of the fleet is enforced for the
// operation, and not only monitored.
func (e *Engine) EnforcesFleetGroups(operation string) bool {
	return !e.settings.IsMonitored(settings.CountingRule, operation)
}

func fleetTerm(fields *document.Tree, f Fleet) *ast.Term {
	o := object{at: fields}
	if o.reads("groups") {
		o.put(regovalue.Array(f.Groups, func(g FleetCount) *ast.Term {
			return ast.ObjectTerm(
				regovalue.Pair("name", regovalue.Text(g.Name)),
				regovalue.Pair("error", regovalue.Text(g.Error)),
				regovalue.Pair("members", regovalue.Array(g.Members, fleetMemberTerm)),
			)
		}))
	}
	return o.term()
}

func fleetMemberTerm(m FleetMember) *ast.Term {
	return ast.ObjectTerm(
		regovalue.Pair("name", regovalue.Text(m.Name)),
		regovalue.Pair("uuid", regovalue.Text(m.UUID)),
		regovalue.Pair("host", regovalue.Text(m.Host)),
		regovalue.Pair("since", regovalue.Text(m.Since)),
		regovalue.Pair("reserved", ast.InternedTerm(m.Reserved)),
	)
}

// needsNoFleet reports whether a rule can be evaluated without the fleet in its input although it
// reads the fleet. That is the library's counting rule, as long as no group is counted in the
// fleet. Otherwise documents of programs that do not know fleets could not be decided.
func (e *Engine) needsNoFleet(rule string) bool {
	return rule == settings.CountingRule && len(e.settings.Fleet.Groups) == 0
}
