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

// Sub returns the host for a subtest. It rolls back the changes that the subtest makes by the
// fixture's methods. It fails the subtest if anything else has changed. Subtests of one host run
// one after the other. They share the host because creating one takes longer than most of them.
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

// contents returns Tree without the folders' times, which a rollback does not restore.
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

// A rollback changes files, and undoes the changes when a subtest ends. A nil rollback does not
// undo anything.
type rollback struct {
	t     *testing.T
	aside string // the folder for removed files
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
