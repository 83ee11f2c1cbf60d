// Package persisted is what an agent leaves on disk of its bundles, for its own next start and for the full hook, which
// decides by it when the agent does not run.
//
// One file, state.json, names the bundles, and each bundle is an archive that is named by the SHA-256 of its content. A
// change writes the new archives first and replaces state.json last, so that whoever is killed at any moment leaves the
// old state or the new one, each with all that it names.
//
// A state that names no bundle says that the agent has never had one. A state that is missing says nothing at all: whoever
// has a configuration for an agent and no state cannot tell which bundles there were.
package persisted

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// Sizes at which a file is a mistake.
const (
	maxState   = 1 << 20
	MaxArchive = 16 << 20 // bytes of a bundle as it was packed
)

const version = 1

// A State says which bundles an agent had when it last changed.
type State struct {
	Version int      `json:"version"`
	Bundles []Bundle `json:"bundles"` // sorted by name; empty if there has never been one
}

// A Bundle is one that was active.
type Bundle struct {
	Name      string    `json:"name"`
	Revision  string    `json:"revision"`
	SHA256    string    `json:"sha256"` // of the archive, in hexadecimal
	KeyID     string    `json:"keyid,omitempty"`
	Scope     string    `json:"scope,omitempty"`
	Activated time.Time `json:"activated"`
}

// A Folder is where an agent's state lies, as a path of the host.
type Folder struct {
	Root string // the folder below which all host paths lie; "" means "/"
	Path string
}

func (f Folder) statePath() string           { return path.Join(f.Path, "state.json") }
func (f Folder) archivesPath() string        { return path.Join(f.Path, "bundles") }
func (f Folder) archivePath(b Bundle) string { return path.Join(f.archivesPath(), b.SHA256+".tar.gz") }

// Paths are the host paths of all that Read and Archive read.
func (f Folder) Paths() []string { return []string{f.statePath(), f.archivesPath()} }

// on is where a host path really is.
func (f Folder) on(hostPath string) string { return filepath.Join("/", f.Root, hostPath) }

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// cure is what to do about a state that does not say what it should.
const cure = "let the agent download its bundles again: start it, with its server reachable"

// Read gives the state. It is fs.ErrNotExist if there is none.
func (f Folder) Read() (State, error) {
	content, err := hostfile.Root(f.Root).Read(f.statePath(), maxState)
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(content, &s); err != nil {
		return State{}, fmt.Errorf("%s is not as the agent wrote it: %w; %s", f.statePath(), err, cure)
	}
	if s.Version != version {
		return State{}, fmt.Errorf("%s is of version %d, and only %d is known; %s", f.statePath(), s.Version, version, cure)
	}
	for _, b := range s.Bundles {
		if b.Name == "" || !hexSum.MatchString(b.SHA256) {
			return State{}, fmt.Errorf("%s is not as the agent wrote it: it names no bundle where it should; %s", f.statePath(), cure)
		}
	}
	return s, nil
}

// Archive gives the content of a bundle as it was packed. What is not what was written is an error.
func (f Folder) Archive(b Bundle) ([]byte, error) {
	content, err := hostfile.Root(f.Root).Read(f.archivePath(b), MaxArchive)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the persisted bundle %q is gone: %w; %s", b.Name, err, cure)
	case err != nil:
		return nil, err
	case Sum(content) != b.SHA256:
		return nil, fmt.Errorf("the persisted bundle %q is damaged: %s is not as it was written; %s", b.Name, f.archivePath(b), cure)
	}
	return content, nil
}

// Sum is the SHA-256 of an archive, in hexadecimal.
func Sum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// HasArchives reports whether there are archives of bundles: then a state that is missing was lost.
func (f Folder) HasArchives() bool {
	entries, err := os.ReadDir(f.on(f.archivesPath()))
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".tar.gz") })
}

// Write replaces the state. archives holds, by their SHA-256, those that may not be on disk yet. What the state does not
// name any more is removed after it. It returns when all of it would survive a loss of power.
func (f Folder) Write(s State, archives map[string][]byte) error {
	s.Version = version
	if s.Bundles == nil {
		s.Bundles = []Bundle{}
	}
	slices.SortFunc(s.Bundles, func(a, b Bundle) int { return strings.Compare(a.Name, b.Name) })
	if err := f.make(); err != nil {
		return err
	}
	for _, b := range s.Bundles {
		content, ok := archives[b.SHA256]
		if !ok {
			continue
		}
		if err := f.replace(f.archivePath(b), content); err != nil {
			return err
		}
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := f.replace(f.statePath(), append(content, '\n')); err != nil {
		return err
	}
	f.sweep(s)
	return nil
}

// replace writes a file that is never seen half written, and is there after a loss of power.
func (f Folder) replace(hostPath string, content []byte) (err error) {
	target := f.on(hostPath)
	file, err := os.CreateTemp(filepath.Dir(target), ".new-*") // 0600
	if err != nil {
		return failure(err)
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
			err = failure(err)
		}
	}()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), target); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(target))
}

// syncFolder has the names in a folder survive a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// make makes the folders that are missing.
func (f Folder) make() error {
	inner := f.on(f.archivesPath())
	if _, err := os.Stat(inner); err == nil {
		return nil
	}
	err := os.MkdirAll(inner, 0o700)
	for folder := filepath.Dir(inner); err == nil && folder != filepath.Dir(folder); folder = filepath.Dir(folder) {
		err = syncFolder(folder)
	}
	if err != nil {
		return failure(err)
	}
	return nil
}

func failure(err error) error {
	return fmt.Errorf("the bundle cannot be persisted: %w; look at the disk and at the folder's owner", err)
}

// sweep removes archives that the state does not name, and what a killed writer left. What cannot be removed does no harm.
func (f Folder) sweep(s State) {
	named := map[string]bool{}
	for _, b := range s.Bundles {
		named[path.Base(f.archivePath(b))] = true
	}
	for _, folder := range []string{f.archivesPath(), f.Path} {
		entries, err := os.ReadDir(f.on(folder))
		if err != nil {
			continue
		}
		for _, e := range entries {
			old := folder == f.archivesPath() && strings.HasSuffix(e.Name(), ".tar.gz") && !named[e.Name()]
			if old || strings.HasPrefix(e.Name(), ".new-") {
				os.Remove(filepath.Join(f.on(folder), e.Name()))
			}
		}
	}
}

// discoveredPath is the configuration that was discovered last, so that what it names is asked again at the next start.
func (f Folder) discoveredPath() string { return path.Join(f.Path, "discovered.json") }

// WriteDiscovered replaces the discovered configuration.
func (f Folder) WriteDiscovered(config []byte) error {
	if err := f.make(); err != nil {
		return err
	}
	return f.replace(f.discoveredPath(), config)
}

// ReadDiscovered gives the discovered configuration. It is fs.ErrNotExist if there is none.
func (f Folder) ReadDiscovered() ([]byte, error) {
	return hostfile.Root(f.Root).Read(f.discoveredPath(), maxState)
}
