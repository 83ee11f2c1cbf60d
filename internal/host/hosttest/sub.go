package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Sub returns the host for a subtest. What the subtest changes by the fixture's methods is rolled
// back at its end, and it fails if something else has changed. Subtests of one host run one after
// another. They share it because creating a host takes longer than most of them.
func (p *Fixture) Sub(t *testing.T) *Fixture {
	t.Helper()
	sub := &Fixture{T: t, Host: p.Host, rollback: &rollback{t: t, aside: p.Root + ".aside"}}
	sub.Must(os.MkdirAll(sub.rollback.aside, 0o700))
	before := contents(t, p.Root)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, contents(t, p.Root)); diff != "" {
			t.Error("the host stays changed:\n", diff)
		}
	})
	return sub
}

// contents returns what Tree does without the folders' times, which no rollback restores.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	all := Tree(t, root)
	for name, what := range maps.All(all) {
		if strings.HasPrefix(what, "d") {
			all[name], _, _ = strings.Cut(what, " ")
		}
	}
	return all
}

// A rollback changes files, and undoes that when a subtest ends. A nil rollback undoes nothing.
type rollback struct {
	t     *testing.T
	aside string // the folder for what is removed
	moved int    // the number of files in it
}

func (r *rollback) atEnd(undo func() error) {
	r.t.Cleanup(func() {
		if err := undo(); err != nil {
			r.t.Error(err)
		}
	})
}

// created has a path removed again.
func (r *rollback) created(path string) {
	if r != nil {
		r.atEnd(func() error { return os.RemoveAll(path) })
	}
}

// remove removes a path. A missing path is not an error.
func (r *rollback) remove(path string) error {
	if r == nil {
		return os.RemoveAll(path)
	}
	aside := filepath.Join(r.aside, fmt.Sprint(r.moved))
	switch err := os.Rename(path, aside); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	r.moved++
	r.atEnd(func() error { return os.Rename(aside, path) })
	return nil
}

func (r *rollback) chmod(path string, mode fs.FileMode) error {
	if r != nil {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		r.atEnd(func() error { return os.Chmod(path, info.Mode()) })
	}
	return os.Chmod(path, mode)
}
