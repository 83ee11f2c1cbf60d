package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/stopguard/stopguard/internal/persisted"
)

// A Signing says who must have signed a bundle, as OPA's configuration does. The zero Signing asks for no signature.
type Signing struct {
	// Keys are OPA's section keys, by their IDs. With any, a bundle that none of them signed is an error.
	Keys map[string]SigningKey

	// ID is the key that must have signed; "" means the one that the signature names.
	ID string

	// Scope is what the signature must have been made for; "" means the key's own.
	Scope string
}

// A SigningKey is a key of OPA's section keys.
type SigningKey struct {
	Key       string // a public key in PEM, or a secret for the algorithms HS256 to HS512
	Algorithm string // "" means RS256
	Scope     string // what its signatures are made for
}

// ReadSignedBundle is [ReadBundle] for a bundle that is signed as OPA's configuration says it. Of the signature, only the
// name of its key is heeded, and only if Signing names none.
func ReadSignedBundle(name string, content []byte, s Signing) (Site, error) {
	if len(s.Keys) == 0 {
		return readBundle(name, content, nil)
	}
	keys := map[string]*bundle.KeyConfig{}
	for id, k := range s.Keys {
		if k.Algorithm == "" {
			k.Algorithm = "RS256"
		}
		keys[id] = &bundle.KeyConfig{Key: k.Key, Algorithm: k.Algorithm, Scope: k.Scope}
	}
	return readBundle(name, content, func() (*bundle.VerificationConfig, error) {
		return bundle.NewVerificationConfig(keys, s.ID, s.Scope, nil), nil
	})
}

// agentBundles gives the bundles that the host's agent persisted; none on a host without an agent, or whose agent has never
// had a bundle.
func agentBundles(root string) ([]Site, error) {
	config, err := persisted.ReadConfig(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The agent replaces an archive together with the state that names it, and removes the old one. Whoever has read the old
	// state may come too late for it, and finds the new one. Where the state is the same, the archive is gone for good.
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
		return persisted.State{}, fmt.Errorf("there is an agent's configuration, %s, but nothing says which bundles it had: %w; start the agent once, or remove its configuration",
			persisted.ConfigFile, err)
	}
	return state, err
}

func readArchives(config persisted.Config, state persisted.State) ([]Site, error) {
	var sites []Site
	for _, b := range state.Bundles {
		content, err := config.Folder.Archive(b)
		if err != nil {
			return nil, err
		}
		site, err := ReadSignedBundle("the agent's bundle "+b.Name, content, signingOf(config, b))
		if err != nil {
			return nil, err
		}
		sites = append(sites, site)
	}
	return sites, nil
}

func signingOf(config persisted.Config, b persisted.Bundle) Signing {
	s := Signing{ID: b.KeyID, Scope: b.Scope}
	for id, k := range config.Keys {
		if s.Keys == nil {
			s.Keys = map[string]SigningKey{}
		}
		s.Keys[id] = SigningKey(k)
	}
	return s
}
