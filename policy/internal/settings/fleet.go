package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/uuid"
)

// CountingRule is the rule whose settings have the groups of the fleet.
const CountingRule = "min_running"

// A Fleet holds the groups of the fleet in data.site.min_running.
type Fleet struct {
	Groups     []FleetGroup
	Operations []string // that the groups are about
}

// A FleetGroup is a group of domains that are counted on all hosts of a fleet: one of
// data.site.min_running with the scope fleet.
type FleetGroup struct {
	Name string
	Min  int // how many other members must run for a member to be stopped

	// Hash is the SHA-256 of the group's settings, in hexadecimal. It is the same on all hosts that
	// have set the same.
	Hash string

	members  []string
	metadata *elementForm
}

// An elementForm says which elements of metadata make a domain a member.
type elementForm struct {
	Namespace  string            `json:"namespace"`
	Name       *string           `json:"name"`
	Text       *string           `json:"text"`
	Attributes map[string]string `json:"attributes"`
}

// Holds reports whether a domain is a member, as the rule does. The UUID is in lower case with
// hyphens.
func (g FleetGroup) Holds(name, id string, metadata []domainxml.Element) bool {
	isNamed := slices.ContainsFunc(g.members, func(entry string) bool {
		of, ok := uuid.Parse(entry)
		u, known := uuid.Parse(id)
		return ok && known && of == u || glob.Match(entry, name)
	})
	return isNamed || g.metadata != nil && slices.ContainsFunc(metadata, g.metadata.matches)
}

func (f elementForm) matches(e domainxml.Element) bool {
	if e.Namespace != f.Namespace || f.Name != nil && e.Name != *f.Name || f.Text != nil && e.Text != *f.Text {
		return false
	}
	for name, value := range f.Attributes {
		if has, ok := e.Attributes[name]; !ok || has != value {
			return false
		}
	}
	return true
}

// maxFleetMin is how many members the fleet can compare when it reserves an operation. etcd limits
// the size of a transaction.
const maxFleetMin = 100

// readFleet reads the groups of the fleet from settings that agree with the rule's schema.
func (s *Engine) readFleet(value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var set struct {
		Operations []string          `json:"operations"`
		Groups     []json.RawMessage `json:"groups"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return fmt.Errorf("data.site.%s: %w; correct it", CountingRule, err)
	}
	for _, raw := range set.Groups {
		var g struct {
			Name     string       `json:"name"`
			Min      int          `json:"min"`
			Scope    string       `json:"scope"`
			Members  []string     `json:"members"`
			Metadata *elementForm `json:"metadata"`
		}
		if err := json.Unmarshal(raw, &g); err != nil {
			return fmt.Errorf("data.site.%s.groups: %w; correct it", CountingRule, err)
		}
		if g.Scope != "fleet" {
			continue
		}
		if g.Min > maxFleetMin {
			return fmt.Errorf("data.site.%s.groups: the group %q needs %d in the fleet, and at most %d can be compared at once; make it smaller", CountingRule, g.Name, g.Min, maxFleetMin)
		}
		if slices.ContainsFunc(s.Fleet.Groups, func(other FleetGroup) bool { return other.Name == g.Name }) {
			return fmt.Errorf("data.site.%s.groups has two groups %q in the fleet, which would be counted as one; give one of them another name", CountingRule, g.Name)
		}
		// json.Marshal has sorted the keys of raw.
		sum := sha256.Sum256(raw)
		s.Fleet.Groups = append(s.Fleet.Groups, FleetGroup{g.Name, g.Min, hex.EncodeToString(sum[:]), g.Members, g.Metadata})
	}
	s.Fleet.Operations = set.Operations
	if set.Operations == nil {
		s.Fleet.Operations = []string{"stop"}
	}
	return nil
}
