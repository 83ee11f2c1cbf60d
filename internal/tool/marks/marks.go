package marks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/protection"
)

const (
	maxMarks = 64 << 20 // bytes of the file

	// KeepMarks is the time for which the mark of a domain that does not run is stored.
	KeepMarks = 90 * 24 * time.Hour
)

// A Mark is a protection that a check saw in force: a mark, or the protected list.
type Mark struct {
	Name    string    `json:"name"`
	UUID    string    `json:"uuid"`
	Message string    `json:"message"`        // as in a refusal
	Until   time.Time `json:"until,omitzero"` // when it lapses; absent if it does not lapse
	Seen    time.Time `json:"seen"`           // when it was last seen
}

// Seen is the content of the file. Both lists are sorted by UUID.
type Seen struct {
	Marks  []Mark `json:"marks"`
	Listed []Mark `json:"listed,omitempty"` // domains that an entry of the protected list matched
}

// Forget removes a mark from the file, after it was removed from the domain on purpose.
func Forget(root, uuid string) error {
	marks, err := Read(root)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(marks.Marks), func(m Mark) bool { return m.UUID == uuid })
	if len(rest) == len(marks.Marks) {
		return nil
	}
	marks.Marks = rest
	return Write(root, marks)
}

// Read returns the content of the file. A missing file is not an error.
func Read(root string) (Seen, error) {
	var marks Seen
	content, err := hostfile.Root(root).Read(protection.MarksFile, maxMarks)
	if errors.Is(err, fs.ErrNotExist) {
		return marks, nil
	}
	if err != nil {
		return marks, err
	}
	if err := json.Unmarshal(content, &marks); err != nil {
		return marks, fmt.Errorf("%s is not as it was written (%w); remove it", filepath.Join("/", root, protection.MarksFile), err)
	}
	return marks, nil
}

// Write replaces the file atomically.
func Write(root string, marks Seen) (err error) {
	path := filepath.Join("/", root, protection.MarksFile)
	defer func() {
		if err != nil {
			var at *fs.PathError
			if errors.As(err, &at) {
				err = at.Err
			}
			err = fmt.Errorf("%s: %w; run as root, and look at its disk", path, err)
		}
	}()
	byUUID := func(a, b Mark) int { return strings.Compare(a.UUID, b.UUID) }
	slices.SortFunc(marks.Marks, byUUID)
	slices.SortFunc(marks.Listed, byUUID)
	content, err := json.MarshalIndent(marks, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return hostfile.Replace(path, append(content, '\n'), 0o600)
}
