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

// receiptFile says what install put on the host, so that only that is replaced or removed later.
const receiptFile = "/var/lib/stopguard/installed.json"

type receipt struct {
	Files   map[string][]string `json:"files"`           // SHA-256 sums by path; several while an installation is under way
	Links   map[string]string   `json:"links,omitempty"` // where they lead, by path
	Folders []string            `json:"folders"`         // that install created, the outer before the inner
}

// receipt reads the receipt; without one, nothing was installed.
func (i installer) receipt() (receipt, error) { return i.receiptAt(receiptFile) }

func (i installer) receiptAt(file string) (receipt, error) {
	content, err := hostfile.Root(i.Root).Read(file, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return receipt{}, nil
	}
	if err != nil {
		return receipt{}, err
	}
	var r receipt
	if err := json.Unmarshal(content, &r); err != nil {
		return receipt{}, fmt.Errorf("%s: %w; move it away, and with it whatever install shall not replace", i.Path(file), err)
	}
	return r, nil
}

func (i installer) keep(r receipt) error { return i.keepAt(receiptFile, r) }

func (i installer) keepAt(file string, r receipt) error {
	content, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return hostfile.Replace(i.Path(file), append(content, '\n'), 0o644)
}

// with gives the receipt with the parts in it too.
func (r receipt) with(parts []part) receipt {
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
	return receipt{Files: all, Links: links, Folders: slices.Clone(r.Folders)}
}

// knows reports whether install put anything at a path.
func (r receipt) knows(path string) bool { return len(r.Files[path]) > 0 || r.Links[path] != "" }

// has reports whether install put this content there.
func (r receipt) has(path string, content []byte) bool {
	return slices.Contains(r.Files[path], sumOf(content))
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
