package hostpolicy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// agentBundles returns the bundles that the host's agent persisted: none on a host without an
// agent, or if the agent never had a bundle.
func agentBundles(root string) ([]policy.Site, error) {
	config, err := persisted.ReadConfig(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The agent replaces an archive together with the state that names it, and removes the old
	// archive. A reader of the old state may come too late for it, and then finds another state. If
	// the state is the same, the archive is missing.
	state, err := readState(config)
	for err == nil {
		sites, failed := readArchives(config, state)
		if !errors.Is(failed, fs.ErrNotExist) {
			return sites, failed
		}
		was := state.Bundles
		if state, err = readState(config); err == nil && slices.Equal(was, state.Bundles) {
			return nil, failed
		}
	}
	return nil, err
}

func readState(config persisted.Config) (persisted.State, error) {
	state, err := config.Folder.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return persisted.State{}, &problem.Error{
			What: fmt.Sprintf("there is an agent's configuration, %s, but nothing says which bundles it had: %v", persisted.ConfigFile, err),
			Cure: "start the agent once, or remove its configuration",
			Err:  err,
		}
	}
	return state, err
}

func readArchives(config persisted.Config, state persisted.State) ([]policy.Site, error) {
	var sites []policy.Site
	for _, b := range state.Bundles {
		content, err := config.Folder.Archive(b)
		if err != nil {
			return nil, err
		}
		site, err := policy.ReadSignedBundle("the agent's bundle "+b.Name, content, signingOf(config, b))
		if err != nil {
			return nil, err
		}
		sites = append(sites, site)
	}
	return sites, nil
}

func signingOf(config persisted.Config, b persisted.Bundle) policy.Signing {
	s := policy.Signing{ID: b.KeyID, Scope: b.Scope}
	for id, k := range config.Keys {
		if s.Keys == nil {
			s.Keys = map[string]policy.SigningKey{}
		}
		s.Keys[id] = policy.SigningKey(k)
	}
	return s
}
