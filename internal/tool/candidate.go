package tool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/policy"
)

const (
	maxBundle = 16 << 20
	maxKey    = 64 << 10
)

// candidateEngine makes the engine that the host would have with the candidate in its place.
func candidateEngine(ctx context.Context, host policy.Config, candidate, key string) (*policy.Engine, error) {
	info, err := os.Stat(candidate)
	if err != nil {
		return nil, fmt.Errorf("%w; name a policy folder or a bundle", err)
	}
	site, replaces := policy.Site{FS: os.DirFS(candidate), Name: candidate}, hostpath.Policy
	if info.IsDir() {
		if key != "" {
			return nil, usage("--key is for a bundle, and %s is a folder; leave it out", candidate)
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

// readBundle reads a bundle as the host would: by its key, if it has one.
func readBundle(name, key string) (policy.Site, error) {
	content, err := readFile(name, maxBundle)
	if err != nil {
		return policy.Site{}, fmt.Errorf("%w; name a bundle", err)
	}
	var pem []byte
	if key != "" {
		if pem, err = readFile(key, maxKey); err != nil {
			return policy.Site{}, fmt.Errorf("%w; name a public key, a PEM file", err)
		}
	} else if pem, err = (hostfile.Root(hostRoot()).Read(hostpath.Key, maxKey)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return policy.Site{}, err
	}
	return policy.ReadBundle(name, content, pem)
}

// What a candidate changes for a domain; "" for nothing.
const (
	newlyVetoed  = "newly vetoed"
	newlyAllowed = "newly allowed"
	newlyFault   = "newly a fault"
	otherReason  = "other reason"
)

var changes = []string{newlyVetoed, newlyAllowed, otherReason, newlyFault}

func changeOf(now, then verdict) string {
	same := func(a, b policy.Reason) bool {
		return a.Rule == b.Rule && a.Message == b.Message && a.Until.Equal(b.Until)
	}
	switch {
	case now.err != nil && then.err != nil:
		return ""
	case then.err != nil:
		return newlyFault
	case now.err == nil && now.Outcome == then.Outcome:
		if slices.EqualFunc(now.Reasons, then.Reasons, same) && slices.EqualFunc(now.Monitored, then.Monitored, same) {
			return ""
		}
		return otherReason
	case then.Outcome == policy.Veto:
		return newlyVetoed
	}
	return newlyAllowed
}
