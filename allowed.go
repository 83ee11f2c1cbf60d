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

// allowedFolder holds a note for each domain whose end was allowed. Otherwise its release would
// count as an escape.
const allowedFolder = "/run/stopguard/allowed"

// stopTTL is how long a domain may take to end after a hook allowed its stop. A later end is judged
// anew.
const stopTTL = 5 * time.Minute

// A note says when the end of a domain was allowed, and for how long. It does not say of which run:
// at the release there is nothing to compare that with.
type note struct {
	At  int64 `json:"at"`  // seconds since 1970
	For int64 `json:"for"` // seconds
}

func (g guard) notePath(uuid string) string { return filepath.Join(g.Root, allowedFolder, uuid) }

// markAllowed leaves the note.
func (g guard) markAllowed(uuid string, lasts time.Duration) error {
	content, err := json.Marshal(note{At: g.Now().Unix(), For: int64(lasts.Seconds())})
	if err == nil {
		err = writeNote(g.notePath(uuid), content)
	}
	if err != nil {
		return fmt.Errorf("that the domain was let go could not be noted, so its end will count as an escape: %w", err)
	}
	return nil
}

// wasAllowed reports whether the end of the domain was allowed just now, and removes the note.
func (g guard) wasAllowed(uuid string) bool {
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

// writeNote writes a note as a whole, and makes its folder if it is missing. Only the owner may
// read it.
func writeNote(path string, content []byte) error {
	err := hostfile.ReplaceVolatile(path, content, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		folder := filepath.Dir(path)
		// Others may enter the folder above: holds and sockets beside it are for them, too.
		err = os.MkdirAll(filepath.Dir(folder), 0o755)
		if err == nil {
			err = os.MkdirAll(folder, 0o700)
		}
		if err == nil {
			err = hostfile.ReplaceVolatile(path, content, 0o600)
		}
	}
	return err
}
