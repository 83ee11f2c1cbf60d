package stopguard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// allowedFolder holds a note for each domain that was let go, so that its release is not taken for an escape.
const allowedFolder = "/run/stopguard/allowed"

// stopLasts is for how long a domain that a hook let go may take to end. After it, its end is looked at anew.
const stopLasts = 5 * time.Minute

// A note says when a domain was let go, and for how long that is believed. Which run of it that was could not be compared
// with anything at its release.
type note struct {
	At  int64 `json:"at"`  // seconds since 1970
	For int64 `json:"for"` // seconds
}

func (g guard) notePath(uuid string) string { return filepath.Join(g.Root, allowedFolder, uuid) }

// letGo leaves the note.
func (g guard) letGo(uuid string, lasts time.Duration) error {
	content, err := json.Marshal(note{At: g.Now().Unix(), For: int64(lasts.Seconds())})
	if err == nil {
		err = writeWhole(g.notePath(uuid), content)
	}
	if err != nil {
		return fmt.Errorf("that the domain was let go could not be noted, so its end will count as an escape: %w", err)
	}
	return nil
}

// wasLetGo reports whether the domain was let go just now, and takes the note away.
func (g guard) wasLetGo(uuid string) bool {
	content, err := hostfile.Root(g.Root).Read(filepath.Join(allowedFolder, uuid), 1<<10)
	if err != nil {
		return false
	}
	_ = os.Remove(g.notePath(uuid))
	var n note
	if json.Unmarshal(content, &n) != nil {
		return false
	}
	age := g.Now().Unix() - n.At
	return age >= 0 && age <= n.For
}

// writeWhole replaces a file by one that is never seen half written. Only its owner may read it.
func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err = os.CreateTemp(filepath.Dir(path), ".new-*")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
