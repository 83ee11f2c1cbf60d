package persisted

import (
	"fmt"
	"path"

	"github.com/open-policy-agent/opa/v1/util"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
)

// ConfigFile is the path of the agent's configuration, in OPA's format. A host with this file
// decides by the agent's bundles.
const ConfigFile = "/etc/stopguard/agent.yaml"

// defaultFolder is the folder of the state if the configuration does not set one.
const defaultFolder = "/var/lib/stopguard/agent"

const maxConfig = 1 << 20

// A Config holds the parts of the agent's configuration that other programs need.
type Config struct {
	Content []byte // the whole configuration as written
	Folder  Folder
	Keys    map[string]Key // keys that verify bundles, by ID
}

// A Key is a key of OPA's section keys.
type Key struct {
	Key       string `json:"key"`       // a public key in PEM, or a secret for the algorithms HS256 to HS512
	Algorithm string `json:"algorithm"` // "" means RS256
	Scope     string `json:"scope"`
}

// ReadConfig reads the agent's configuration. The error is fs.ErrNotExist on a host without an
// agent.
func ReadConfig(root string) (Config, error) {
	content, err := hostfile.Root(root).Read(ConfigFile, maxConfig)
	if err != nil {
		return Config{}, err
	}
	c, err := ParseConfig(root, content)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	return c, nil
}

// ParseConfig parses the agent's configuration.
func ParseConfig(root string, content []byte) (Config, error) {
	var parsed struct {
		Keys                 map[string]Key `json:"keys"`
		PersistenceDirectory *string        `json:"persistence_directory"`
	}
	if err := util.Unmarshal(content, &parsed); err != nil {
		return Config{}, fmt.Errorf("%s; correct it", problem.OneLine(err.Error()))
	}
	c := Config{Content: content, Folder: Folder{Root: root, Path: defaultFolder}, Keys: parsed.Keys}
	if d := parsed.PersistenceDirectory; d != nil {
		if !path.IsAbs(*d) || path.Clean(*d) != *d || *d == "/" {
			return Config{}, fmt.Errorf("persistence_directory is %q; write an absolute path in its shortest form, or leave it out", *d)
		}
		c.Folder.Path = *d
	}
	for id, key := range c.Keys {
		if key.Key == "" {
			return Config{}, fmt.Errorf("keys.%s has no key to verify with; write the public key below key", id)
		}
	}
	return c, nil
}
