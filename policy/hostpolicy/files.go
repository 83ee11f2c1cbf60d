// Package hostpolicy reads what a host decides by, and keeps an engine of it.
//
// Use one function for each source of a site's rules:
//
//	a host: its files and its agent's bundles        Load
//	a host's files, without its agent's bundles      LoadFiles
//	a host, asked more than once by one program      EngineCache
//	a bundle, unsigned or with one key               policy.ReadBundle
//	a bundle, signed as OPA's configuration says it  policy.ReadSignedBundle
//	any fs.FS: a folder, an embed.FS, a test's files policy.Site
package hostpolicy

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/policy"
)

// hostPaths are all that Load reads, each a file or a folder with all below it. Where the agent's state lies is in its
// configuration, which is among them.
func hostPaths(root string) []string {
	paths := append([]string{persisted.ConfigFile}, hostpath.All...)
	if config, err := persisted.ReadConfig(root); err == nil {
		paths = append(paths, config.Folder.Paths()...)
	}
	return paths
}

// Sizes at which a file is a mistake: half a million names, a bundle of more than any policy, more than one key.
const (
	maxList    = 16 << 20
	maxArchive = 16 << 20
	maxKey     = 64 << 10
)

// Load reads what a host decides by: [LoadFiles], and on a host with an agent, which is one with
// /etc/stopguard/agent.yaml, the bundles that the agent persisted. They are verified again, and an error if they are gone
// or not as they were: an agent that does not run must not leave a weaker policy behind.
func Load(root string) (policy.Config, error) {
	c, err := LoadFiles(root)
	if err != nil {
		return policy.Config{}, err
	}
	bundles, err := agentBundles(root)
	if err != nil {
		return policy.Config{}, fmt.Errorf("policy: %w", err)
	}
	c.Sites = append(c.Sites, bundles...)
	return c, nil
}

// LoadFiles reads what is a host's own: its rules and settings in /etc/stopguard/policy, a bundle of them in
// /etc/stopguard/bundle.tar.gz, and the list in /etc/libvirt/protected-domains. Each may be missing. With a public key in
// /etc/stopguard/bundle.pem, a bundle that is not signed by it is an error, and so is no bundle at all. A file that others
// than root and the running user could have written is an error. With root, a folder's path, everything is looked for
// below it; "" is the host itself.
func LoadFiles(root string) (policy.Config, error) {
	at := hostfile.Root(root)
	c := policy.Config{ListName: hostpath.List}
	var err error
	if c.List, err = readOptional(at, hostpath.List, maxList); err != nil {
		return policy.Config{}, err
	}
	folder, err := at.ReadDir(hostpath.Policy, hostfile.Limits{})
	switch {
	case err == nil:
		c.Sites = append(c.Sites, policy.Site{FS: folder, Name: hostpath.Policy})
	case !errors.Is(err, fs.ErrNotExist):
		return policy.Config{}, fmt.Errorf("policy: %w", err)
	}
	bundle, err := readOptional(at, hostpath.Bundle, maxArchive)
	if err != nil {
		return policy.Config{}, err
	}
	key, err := readOptional(at, hostpath.Key, maxKey)
	if err != nil {
		return policy.Config{}, err
	}
	switch {
	case bundle != nil:
		site, err := policy.ReadBundle(hostpath.Bundle, bundle, key)
		if err != nil {
			return policy.Config{}, err
		}
		c.Sites = append(c.Sites, site)
	case key != nil:
		return policy.Config{}, fmt.Errorf("policy: %s is there, but no bundle that it could verify; put one into %s, or remove the key", hostpath.Key, hostpath.Bundle)
	}
	return c, nil
}

// readOptional gives nil for a file that is not there, and not nil for an empty one.
func readOptional(at hostfile.Root, name string, limit int64) ([]byte, error) {
	content, err := at.Read(name, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("policy: %w", err)
	case content == nil:
		return []byte{}, nil
	}
	return content, nil
}
