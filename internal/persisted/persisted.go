// Package persisted stores an agent's bundles on disk, for its next start and for the full hook.
// The full hook decides by them if the agent does not run.
//
// The file state.json names the bundles. Each bundle is an archive that is named by the SHA-256 of
// its content. A change writes the new archives first and replaces state.json last. So a process
// that is killed leaves the old state or the new one, each with all of its archives.
//
// A state without bundles means that the agent has never had one. A missing state means that the
// bundles are unknown.
package persisted

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/lazyregexp"
)

// The maximum sizes of files, in bytes.
const (
	maxState   = 1 << 20
	MaxArchive = 16 << 20 // of a packed bundle
)

const version = 1

// A State lists the active bundles of an agent.
type State struct {
	Version int      `json:"version"`
	Bundles []Bundle `json:"bundles"` // sorted by name; empty before the first
}

// A Bundle is an active bundle.
type Bundle struct {
	Name      string    `json:"name"`
	Revision  string    `json:"revision"`
	SHA256    string    `json:"sha256"` // SHA-256 of the archive, in hexadecimal
	KeyID     string    `json:"keyid,omitempty"`
	Scope     string    `json:"scope,omitempty"`
	Activated time.Time `json:"activated"`
}

// A Folder is the folder of an agent's state.
type Folder struct {
	Root string // the folder that contains all host paths; "" means "/"
	Path string // the host path of the folder
}

func (f Folder) statePath() string           { return path.Join(f.Path, "state.json") }
func (f Folder) archivesPath() string        { return path.Join(f.Path, "bundles") }
func (f Folder) archivePath(b Bundle) string { return path.Join(f.archivesPath(), b.SHA256+".tar.gz") }

// Paths returns the host paths of the files for Read and Archive.
func (f Folder) Paths() []string { return []string{f.statePath(), f.archivesPath()} }

// on returns the path of a host path below the root.
func (f Folder) on(hostPath string) string { return filepath.Join("/", f.Root, hostPath) }

var hexSum = lazyregexp.New(`^[0-9a-f]{64}$`)

// cure is the action to take for a damaged state.
const cure = "let the agent download its bundles again: start it, with its server reachable"

// Read returns the state. The error is fs.ErrNotExist if the state is missing.
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
		if b.Name == "" || !hexSum().MatchString(b.SHA256) {
			return State{}, fmt.Errorf("%s is not as the agent wrote it: it names no bundle where it should; %s", f.statePath(), cure)
		}
	}
	return s, nil
}

// Archive returns the packed content of a bundle. If its SHA-256 differs, it returns an error.
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

// Sum returns the SHA-256 of an archive, in hexadecimal.
func Sum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// HasArchives reports whether the folder has archives of bundles. If it does, a missing state was
// lost.
func (f Folder) HasArchives() bool {
	entries, err := os.ReadDir(f.on(f.archivesPath()))
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".tar.gz") })
}

// Write replaces the state, syncs it to disk, and removes archives that the state does not name.
// archives has, by their SHA-256, the archives that may not be on disk yet.
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
	content = append(content, '\n')
	// An agent that has no new bundle can then start on a full disk.
	if old, err := hostfile.Root(f.Root).Read(f.statePath(), maxState); err != nil || !bytes.Equal(old, content) {
		if err := f.replace(f.statePath(), content); err != nil {
			return err
		}
	}
	f.sweep(s)
	return nil
}

// replace writes a file atomically and syncs it to disk.
func (f Folder) replace(hostPath string, content []byte) error {
	if err := hostfile.Replace(f.on(hostPath), content, 0o600); err != nil {
		return failure(err)
	}
	return nil
}

// make creates missing folders, and syncs them to disk.
func (f Folder) make() error {
	inner := f.on(f.archivesPath())
	if _, err := os.Stat(inner); err == nil {
		return nil
	}
	err := os.MkdirAll(inner, 0o700)
	for folder := filepath.Dir(inner); err == nil && folder != filepath.Dir(folder); folder = filepath.Dir(folder) {
		err = hostfile.SyncFolder(folder)
	}
	if err != nil {
		return failure(err)
	}
	return nil
}

func failure(err error) error {
	return fmt.Errorf("the bundle cannot be persisted: %w; look at the disk and at the folder's owner", err)
}

// sweep removes archives that the state does not name, and temporary files of killed writers. It
// ignores errors.
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
			if old || strings.HasPrefix(e.Name(), hostfile.TempPrefix) {
				os.Remove(filepath.Join(f.on(folder), e.Name()))
			}
		}
	}
}

// discoveredPath returns the host path of the last discovered configuration, which the next start
// uses.
func (f Folder) discoveredPath() string { return path.Join(f.Path, "discovered.json") }

// WriteDiscovered replaces the discovered configuration.
func (f Folder) WriteDiscovered(config []byte) error {
	if err := f.make(); err != nil {
		return err
	}
	return f.replace(f.discoveredPath(), config)
}

// ReadDiscovered returns the discovered configuration. The error is fs.ErrNotExist if it is
// missing.
func (f Folder) ReadDiscovered() ([]byte, error) {
	return hostfile.Root(f.Root).Read(f.discoveredPath(), maxState)
}
