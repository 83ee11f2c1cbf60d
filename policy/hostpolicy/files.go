// Package hostpolicy reads a host's policy, and caches the engine made of it.
//
// Use one function for each source of a site's rules:
//
//	a host: its files and its agent's bundles        Load
//	a host's files, without its agent's bundles      LoadFiles
//	a host, asked more than once by one program      EngineCache
//	a host, before a new version or policy is used   Check
//	a bundle, unsigned or with one key               policy.ReadBundle
//	a bundle, signed as OPA's configuration says it  policy.ReadSignedBundle
//	any fs.FS: a folder, an embed.FS, a test's files policy.Site
//
// A root is a folder below which every path of the host is looked for. If it is "", the folder is
// the one that the environment variable STOPGUARD_ROOT names, or the host itself.
package hostpolicy

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/persisted"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// hostPaths returns all that Load reads below a root: files, and folders with everything in them.
// The agent's configuration says where its state is.
func hostPaths(root string) []string {
	paths := append([]string{persisted.ConfigFile}, hostpath.All...)
	if config, err := persisted.ReadConfig(root); err == nil {
		paths = append(paths, config.Folder.Paths()...)
	}
	return paths
}

// Sizes at which a file is a mistake: half a million names, a bundle of more than any policy, more
// than one key.
const (
	maxList    = 16 << 20
	maxArchive = 16 << 20
	maxKey     = 64 << 10
)

// Load reads a host's policy: that of [LoadFiles], and on a host with /etc/stopguard/agent.yaml the
// bundles that its agent persisted. They are verified again. It is an error if a bundle is missing
// or changed: otherwise an agent that does not run would leave a weaker policy behind.
func Load(root string) (policy.Config, error) {
	root = hostpath.Root(root)
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

// LoadFiles reads the host's own files: rules and settings in /etc/stopguard/policy, a bundle of
// them in /etc/stopguard/bundle.tar.gz, and the list in /etc/libvirt/protected-domains. Each may be
// missing. If there is a public key in /etc/stopguard/bundle.pem, it is an error if the bundle is
// missing or not signed by the key's owner. It is an error if users other than root and the running
// user may write one of the files.
func LoadFiles(root string) (policy.Config, error) {
	at := hostfile.Root(hostpath.Root(root))
	c := policy.Config{ListName: hostpath.List}
	var err error
	if c.List, err = readOptional(at, hostpath.List, maxList); err != nil {
		return policy.Config{}, err
	}
	for _, read := range []func(hostfile.Root) ([]policy.Site, error){policyFolder, packedPolicy} {
		sites, err := read(at)
		if err != nil {
			return policy.Config{}, err
		}
		c.Sites = append(c.Sites, sites...)
	}
	return c, nil
}

// policyFolder returns the site of the host's policy folder; none if the folder is missing.
func policyFolder(at hostfile.Root) ([]policy.Site, error) {
	folder, err := at.ReadDir(hostpath.Policy, hostfile.Limits{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, prefix(err)
	}
	return []policy.Site{{FS: folder, Name: hostpath.Policy}}, nil
}

// packedPolicy returns the site of the host's bundle; none if there is neither a bundle nor a key.
func packedPolicy(at hostfile.Root) ([]policy.Site, error) {
	content, err := readOptional(at, hostpath.Bundle, maxArchive)
	if err != nil {
		return nil, err
	}
	key, err := readOptional(at, hostpath.Key, maxKey)
	if err != nil {
		return nil, err
	}
	if content == nil && key == nil {
		return nil, nil
	}
	if content == nil {
		return nil, &problem.Error{
			What: "policy: " + hostpath.Key + " is there, but no bundle that it could verify",
			Cure: "put one into " + hostpath.Bundle + ", or remove the key",
		}
	}
	site, err := policy.ReadBundle(hostpath.Bundle, content, key)
	if err != nil {
		return nil, err
	}
	return []policy.Site{site}, nil
}

// readOptional returns nil for a file that is missing, and a slice that is not nil for an empty
// one.
func readOptional(at hostfile.Root, name string, limit int64) ([]byte, error) {
	content, err := at.Read(name, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, prefix(err)
	case content == nil:
		return []byte{}, nil
	}
	return content, nil
}

// prefix returns an error of hostfile's as one of this package.
func prefix(err error) error { return problem.Prefix("policy: ", err, "correct this and try again") }
