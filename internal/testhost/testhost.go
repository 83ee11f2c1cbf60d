// Package testhost makes hosts for tests: their folders, bundles and processes.
package testhost

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Root creates a folder that stands for a host, with files given as pairs of path and content.
func Root(t testing.TB, pairs ...string) string {
	t.Helper()
	root := t.TempDir()
	Put(t, root, pairs...)
	return root
}

// SocketDir creates a folder whose path is short enough for that of a socket below it, which has at
// most 107 bytes. That of t.TempDir may be longer.
func SocketDir(t testing.TB) string {
	t.Helper()
	parent := "/tmp"
	if os.TempDir() == memory {
		parent = memory
	}
	dir, err := os.MkdirTemp(parent, "sg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// OpenToAll lets every user read and enter a folder of a test, and those above it that refuse that.
// It only adds permissions: a folder such as /tmp stays as it is.
func OpenToAll(t testing.TB, folder string) {
	t.Helper()
	for dir := folder; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm()&0o005 != 0o005 {
			err = os.Chmod(dir, info.Mode()|0o055)
		}
		if err != nil {
			t.Fatal(err)
		}
		if dir == filepath.Dir(dir) {
			return
		}
	}
}

// Put writes files below a folder, given as pairs of path and content.
func Put(t testing.TB, root string, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		file := filepath.Join(root, pairs[i])
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(pairs[i+1]), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// Bundle packs files by their paths, as opa build does.
func Bundle(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := archive.WriteHeader(&tar.Header{Name: "/" + name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(files[name]))})
		if err == nil {
			_, err = archive.Write([]byte(files[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}
