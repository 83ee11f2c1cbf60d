package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// manifestFile is the path of the list of files that install wrote. Only those are replaced or
// removed later.
const manifestFile = "/var/lib/stopguard/installed.json"

type manifest struct {
	Files   map[string][]string `json:"files"`           // SHA-256 sums by path; several while an installation is under way
	Links   map[string]string   `json:"links,omitempty"` // targets by path
	Folders []string            `json:"folders"`         // folders that install created, outer ones first
}

// manifest returns the manifest. A missing manifest means that nothing was installed.
func (i installer) manifest() (manifest, error) { return i.manifestAt(manifestFile) }

func (i installer) manifestAt(file string) (manifest, error) {
	content, err := hostfile.Root(i.Root).Read(file, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{}, nil
	}
	if err != nil {
		return manifest{}, err
	}
	var r manifest
	if err := json.Unmarshal(content, &r); err != nil {
		return manifest{}, fmt.Errorf("%s: %w; move it away, and with it whatever install shall not replace", i.Path(file), err)
	}
	return r, nil
}

func (i installer) writeManifest(r manifest) error { return i.writeManifestAt(manifestFile, r) }

func (i installer) writeManifestAt(file string, r manifest) error {
	content, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return hostfile.Replace(i.Path(file), append(content, '\n'), 0o644)
}

// with returns the manifest with the parts added.
func (r manifest) with(parts []part) manifest {
	all := map[string][]string{}
	for path, sums := range maps.All(r.Files) {
		all[path] = slices.Clone(sums)
	}
	links := map[string]string{}
	maps.Copy(links, r.Links)
	for _, p := range parts {
		if p.to != "" {
			links[p.path] = p.to
			continue
		}
		if sum := sumOf(p.content); !slices.Contains(all[p.path], sum) {
			all[p.path] = append(all[p.path], sum)
		}
	}
	return manifest{Files: all, Links: links, Folders: slices.Clone(r.Folders)}
}

// knows reports whether install wrote a file or a link at a path.
func (r manifest) knows(path string) bool { return len(r.Files[path]) > 0 || r.Links[path] != "" }

// has reports whether install wrote this content at a path.
func (r manifest) has(path string, content []byte) bool {
	return slices.Contains(r.Files[path], sumOf(content))
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
