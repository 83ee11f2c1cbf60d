package candidate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/policy"
)

const (
	maxBundle = 16 << 20
	maxKey    = 64 << 10
)

// Engine returns the engine that the host would have with the candidate in place of its own policy
// folder or bundle.
func Engine(ctx context.Context, host policy.Config, candidate, key string) (*policy.Engine, error) {
	info, err := os.Stat(candidate)
	if err != nil {
		return nil, fmt.Errorf("%w; name a policy folder or a bundle", err)
	}
	site, replaces := policy.Site{FS: os.DirFS(candidate), Name: candidate}, hostpath.Policy
	if info.IsDir() {
		if key != "" {
			return nil, cli.Usage("--key is for a bundle, and %s is a folder; leave it out", candidate)
		}
	} else {
		replaces = hostpath.Bundle
		if site, err = readBundle(candidate, key); err != nil {
			return nil, err
		}
	}
	host.Sites = append(slices.DeleteFunc(slices.Clone(host.Sites), func(s policy.Site) bool { return s.Name == replaces }), site)
	return policy.New(ctx, host)
}

// readBundle reads a bundle, and verifies it with key, or otherwise with the host's key if it has
// one.
func readBundle(name, key string) (policy.Site, error) {
	content, err := domains.ReadFile(name, maxBundle)
	if err != nil {
		return policy.Site{}, fmt.Errorf("%w; name a bundle", err)
	}
	var pem []byte
	if key != "" {
		if pem, err = domains.ReadFile(key, maxKey); err != nil {
			return policy.Site{}, fmt.Errorf("%w; name a public key, a PEM file", err)
		}
	} else if pem, err = (hostfile.Root(cli.HostRoot()).Read(hostpath.Key, maxKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return policy.Site{}, err
	}
	return policy.ReadBundle(name, content, pem)
}
