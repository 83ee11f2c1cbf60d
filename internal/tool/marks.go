package tool

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

	// keepMarks is how long the mark of a domain that does not run is remembered.
	keepMarks = 90 * 24 * time.Hour
)

// markRule is the rule that reads marks.
const markRule = "protection_mark"

// A seenMark is a mark that a check saw in force.
type seenMark struct {
	Name    string    `json:"name"`
	UUID    string    `json:"uuid"`
	Message string    `json:"message"`        // as a refusal has it
	Until   time.Time `json:"until,omitzero"` // when it lapses by itself; absent if it does not
	Seen    time.Time `json:"seen"`           // when it was last there
}

type seenMarks struct {
	Marks []seenMark `json:"marks"` // sorted by UUID
}

// compareMarks gives the marks that would still be in force and are not there any more, and remembers those that are.
func compareMarks(root string, s survey) ([]seenMark, error) {
	before, err := readMarks(root)
	if err != nil {
		return nil, err
	}
	var gone []seenMark
	var after seenMarks
	judged := map[string]bool{} // domains of which it is known whether they carry a mark
	for i, subject := range s.subjects {
		if subject.domain == nil || subject.domain.MetadataErr != nil || s.verdicts[i].err != nil {
			continue
		}
		judged[subject.uuid] = true
		if m, ok := markOf(subject, s.verdicts[i], s.at); ok {
			after.Marks = append(after.Marks, m)
		}
	}
	for _, m := range before.Marks {
		there := slices.ContainsFunc(after.Marks, func(now seenMark) bool { return now.UUID == m.UUID })
		lapsed := !m.Until.IsZero() && !m.Until.After(s.at)
		switch {
		case there || lapsed:
		case judged[m.UUID]:
			gone = append(gone, m)
		case s.at.Sub(m.Seen) < keepMarks:
			after.Marks = append(after.Marks, m)
		}
	}
	return gone, writeMarks(root, after)
}

// markOf gives the mark of a domain that is in force, as the rule that reads marks says it.
func markOf(s subject, v verdict, at time.Time) (seenMark, bool) {
	carries := false
	for _, e := range s.domain.Metadata {
		carries = carries || e.Namespace == protection.Namespace && e.Name == "protection"
	}
	if !carries {
		return seenMark{}, false
	}
	m := seenMark{Name: s.name, UUID: s.uuid, Seen: at.UTC().Truncate(time.Second)}
	for _, r := range slices.Concat(v.Reasons, v.Monitored) {
		if r.Rule == markRule {
			m.Message, m.Until = r.Message, r.Until
		}
	}
	return m, m.Message != ""
}

// forgetMark is for a mark that is removed on purpose.
func forgetMark(root, uuid string) error {
	marks, err := readMarks(root)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(marks.Marks), func(m seenMark) bool { return m.UUID == uuid })
	if len(left) == len(marks.Marks) {
		return nil
	}
	return writeMarks(root, seenMarks{left})
}

func readMarks(root string) (seenMarks, error) {
	var marks seenMarks
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

// writeMarks replaces the file by one that is never seen half written.
func writeMarks(root string, marks seenMarks) (err error) {
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
	slices.SortFunc(marks.Marks, func(a, b seenMark) int { return strings.Compare(a.UUID, b.UUID) })
	content, err := json.MarshalIndent(marks, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".marks-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(content, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
