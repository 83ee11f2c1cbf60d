// Package memfs implements a read-only file system in memory, for files that were read once and
// must not change.
package memfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

type memory struct {
	files   map[string][]byte
	folders map[string][]fs.DirEntry // sorted entries, by folder
}

// New returns a file system of files by their slash-separated paths, which [fs.ValidPath] accepts.
// A path must not lie below another. The contents are not copied, and the caller must not change
// them. The file system is safe for concurrent use.
func New(files map[string][]byte) fs.FS {
	m := &memory{files, map[string][]fs.DirEntry{".": nil}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		entry := info{path.Base(name), int64(len(files[name])), 0o444}
		for folder := path.Dir(name); ; folder = path.Dir(folder) {
			_, known := m.folders[folder]
			m.folders[folder] = append(m.folders[folder], entry)
			if known {
				break
			}
			entry = info{path.Base(folder), 0, fs.ModeDir | 0o555}
		}
	}
	for _, entries := range m.folders {
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return m
}

func (m *memory) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if content, ok := m.files[name]; ok {
		return &file{info{path.Base(name), int64(len(content)), 0o444}, bytes.NewReader(content)}, nil
	}
	if entries, ok := m.folders[name]; ok {
		return &folder{info{path.Base(name), 0, fs.ModeDir | 0o555}, entries}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) Mode() fs.FileMode          { return i.mode }
func (i info) Type() fs.FileMode          { return i.mode.Type() }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) IsDir() bool                { return i.mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatDirEntry(i) }

type file struct {
	info info
	*bytes.Reader
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

type folder struct {
	info info
	rest []fs.DirEntry
}

func (f *folder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *folder) Close() error               { return nil }

func (f *folder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.name, Err: errors.New("is a folder")}
}

func (f *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(f.rest)
	} else if len(f.rest) == 0 {
		return nil, io.EOF
	}
	entries := slices.Clone(f.rest[:min(n, len(f.rest))])
	f.rest = f.rest[len(entries):]
	return entries, nil
}
