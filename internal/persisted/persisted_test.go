package persisted

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/hostfile"
)

func TestAStateIsReadAsItWasWritten(t *testing.T) {
	f := Folder{Root: t.TempDir(), Path: "/var/lib/stopguard/agent"}
	if _, err := f.Read(); !errors.Is(err, fs.ErrNotExist) || f.HasArchives() {
		t.Errorf("before anything was written: %v", err)
	}
	if err := f.Write(State{}, nil); err != nil {
		t.Fatal(err)
	}
	if s, err := f.Read(); err != nil || len(s.Bundles) != 0 {
		t.Errorf("an agent without a bundle: %+v %v", s, err)
	}
	a, b := []byte("a"), []byte("b")
	want := State{Version: version, Bundles: []Bundle{
		{Name: "fleet", Revision: "r1", SHA256: Sum(a), KeyID: "k", Scope: "s", Activated: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)},
		{Name: "more", SHA256: Sum(b)},
	}}
	if err := f.Write(want, map[string][]byte{Sum(a): a, Sum(b): b}); err != nil {
		t.Fatal(err)
	}
	got, err := f.Read()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for i, content := range [][]byte{a, b} {
		if c, err := f.Archive(got.Bundles[i]); err != nil || string(c) != string(content) {
			t.Errorf("%q %v", c, err)
		}
	}
}

// Otherwise an agent that has nothing new could not start on a full disk.
func TestAnUnchangedStateIsNotWrittenAgain(t *testing.T) {
	f := Folder{Root: t.TempDir(), Path: "/var/lib/stopguard/agent"}
	file := func() fs.FileInfo {
		t.Helper()
		info, err := os.Stat(f.on(f.statePath()))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	write := func(s State) fs.FileInfo {
		t.Helper()
		if err := f.Write(s, nil); err != nil {
			t.Fatal(err)
		}
		return file()
	}
	first := write(State{})
	if !os.SameFile(first, write(State{})) {
		t.Error("the same state is written again")
	}
	if os.SameFile(first, write(State{Bundles: []Bundle{{Name: "fleet"}}})) {
		t.Error("another state is not written as a new file")
	}
}

// A writer that was killed leaves temporary files, and archives that no state names.
func TestWhatAKilledWriterLeftIsRemoved(t *testing.T) {
	f := Folder{Root: t.TempDir(), Path: "/var/lib/stopguard/agent"}
	a := []byte("a")
	s := State{Bundles: []Bundle{{Name: "fleet", SHA256: Sum(a)}}}
	if err := f.Write(s, map[string][]byte{Sum(a): a}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{hostfile.TempPrefix + "1", "bundles/" + hostfile.TempPrefix + "2", "bundles/" + Sum([]byte("b")) + ".tar.gz"} {
		if err := os.WriteFile(filepath.Join(f.on(f.Path), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Write(s, nil); err != nil {
		t.Fatal(err)
	}
	var files []string
	err := filepath.WalkDir(f.on(f.Path), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(f.on(f.Path), path)
			files = append(files, rel)
			if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", rel, info.Mode(), err)
			}
		}
		return err
	})
	if diff := cmp.Diff([]string{"bundles/" + Sum(a) + ".tar.gz", "state.json"}, files); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestAPersistenceDirectoryIsAPlainPath(t *testing.T) {
	for _, path := range []string{"opa", "/", "/a/../b", "/a/"} {
		if _, err := ParseConfig("", []byte("persistence_directory: "+path)); err == nil {
			t.Errorf("%q is accepted", path)
		}
	}
	c, err := ParseConfig("", []byte("persistence_directory: /srv/agent"))
	if err != nil || c.Folder.Path != "/srv/agent" {
		t.Errorf("%+v %v", c.Folder, err)
	}
}
