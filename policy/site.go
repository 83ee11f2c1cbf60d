package policy

import (
	"fmt"
	"io/fs"

	"github.com/stopguard/stopguard/policy/internal/source"
)

// A Site is one tree of a site's rules and settings.
type Site struct {
	// FS holds rules (*.rego) and settings (data.json, data.yaml), each rule's NAME.schema.json,
	// and text for people (*.md). Names that begin with a dot are passed over; anything else is an
	// error, and so is nil. It is read by [New] and not kept.
	FS fs.FS

	// Name is its name in errors, such as "/etc/stopguard/policy"; "" means "site".
	Name string

	// Revision names this version of it; "" means the SHA-256 over its sorted paths and contents,
	// in hexadecimal.
	Revision string
}

func treesOf(sites []Site) []source.Tree {
	trees := make([]source.Tree, len(sites))
	for i, site := range sites {
		trees[i] = source.Tree(site)
	}
	return trees
}

// ReadSettings returns the settings below data.site in the data files of sites, as [New] reads
// them. Numbers are [json.Number]. It does not check the settings against the rules.
func ReadSettings(sites []Site) (map[string]any, error) {
	site, err := source.ReadSettings(treesOf(sites))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return site, nil
}
