package domains

import (
	"slices"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// All returns the domains of this host: those that run, and then those that are off. With an error,
// those that were found.
func All() ([]Subject, error) {
	// A domain that stops between the two reads is among those that are off.
	defined, unread := readDefined()
	guests, err := Running()
	if err != nil {
		return OfGuests(guests), err // which of the defined ones are off is not known
	}
	return slices.Concat(OfGuests(guests), notAmong(guests, defined)), unread
}

// off returns the domains of this host that are defined and do not run.
func off() ([]Subject, error) {
	defined, unread := readDefined()
	guests, err := Running()
	if err != nil {
		return nil, err
	}
	return notAmong(guests, defined), unread
}

func notAmong(guests []hookproto.Guest, defined []Subject) []Subject {
	return slices.DeleteFunc(defined, func(s Subject) bool {
		return slices.ContainsFunc(guests, func(g hookproto.Guest) bool {
			return g.Name == s.Name || s.UUID != "" && strings.EqualFold(g.Process.Status.UUID, s.UUID)
		})
	})
}

// readDefined returns the domains that are defined. With an error, those that were found.
func readDefined() ([]Subject, error) {
	defined, err := definition.All(cli.HostRoot())
	var subjects []Subject
	for _, d := range defined {
		s := Subject{Name: d.Name, State: StateOff, Domain: d.Domain, Err: d.Err}
		if d.Domain != nil {
			s.UUID = d.Domain.UUID
		}
		subjects = append(subjects, s)
	}
	return subjects, err
}
