// Package hostfile reads the files by which a host decides about stops, and refuses files that
// other users may change.
//
// A file, or a folder above it, is an error if users other than its owner may write it, or if its
// owner is neither root nor the running user. Links are not followed, because a link and its target
// may have different owners. FIFOs, sockets and devices are not opened, because a hook must not
// block on them. Every read is bounded. Each folder is opened from the one above it, and the open
// file is checked, so that a folder cannot be exchanged between the check and the read.
//
// Every error is a [problem.Error] of one line, "PATH: WHAT; WHAT TO DO". It is fs.ErrNotExist only
// if the file, or a folder between it and the root, does not exist.
package hostfile

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stopguard/stopguard/internal/problem"
)

// Root is the folder that contains all host paths; "" means "/". It is checked like the folders
// below it, but may be reached through links, and the folders above it are not checked. A missing
// root is an error other than fs.ErrNotExist. Otherwise a misspelt root would not protect anything.
type Root string

// Limits bounds the data that ReadDir reads into memory. Exceeding a limit is an error; 0 means the
// default.
type Limits struct {
	Entries   int   // files and folders; default 1,000
	FileBytes int64 // bytes of one file; default 16 MiB
	Bytes     int64 // bytes of all files; default 64 MiB
	Depth     int   // levels of folders below the one that is read; default 8
}

func (l Limits) orDefault() Limits {
	if l.Entries == 0 {
		l.Entries = 1000
	}
	if l.FileBytes == 0 {
		l.FileBytes = 16 << 20
	}
	if l.Bytes == 0 {
		l.Bytes = 64 << 20
	}
	if l.Depth == 0 {
		l.Depth = 8
	}
	return l
}

// Read returns the content of a file by its host path, such as "/etc/libvirt/protected-domains". A
// file of more than limit bytes is an error. The path must be absolute and clean.
//
// A file is writable by others if everyone may write it, even below a sticky bit, or if a group
// other than root's may. If the running user is not root, its own effective group may write, too:
// many distributions give each user a group and the umask 002. A hook on a host runs as root.
//
// A file that changes while it is read is an error, as far as its size and modification time show
// it. Files without a known size, such as those in /proc, are therefore errors, too.
func (r Root) Read(name string, limit int64) ([]byte, error) {
	elements, err := split(name)
	if err != nil {
		return nil, err
	}
	if len(elements) == 0 {
		return nil, failure(r.path(nil), "is a folder, not a file", "name a file", nil)
	}
	return r.read(elements, limit)
}

// ReadDir returns a snapshot of a folder and the folders below it, by its host path. Each file is
// read once and held in memory. Files and folders are checked as by Read. Empty folders, and files
// and folders whose names begin with a dot, are left out.
//
// The error is fs.ErrNotExist only if the folder itself is missing. If a listed file vanishes, the
// error is that the folder changed while it was read.
func (r Root) ReadDir(name string, limits Limits) (fs.FS, error) {
	elements, err := split(name)
	if err != nil {
		return nil, err
	}
	return r.readDir(elements, limits.orDefault())
}

// Judge returns an error if other users may change the folder of the given host path, or a folder
// above it, by the rules of Read. The error is fs.ErrNotExist if the folder is missing.
func (r Root) Judge(name string) error {
	elements, err := split(name)
	if err != nil {
		return err
	}
	return r.judge(elements)
}

// split returns the elements of an absolute, clean path. Any other path is an error and is not
// corrected.
func split(name string) ([]string, error) {
	if !path.IsAbs(name) || path.Clean(name) != name || strings.IndexByte(name, 0) >= 0 {
		return nil, failure(name, "is not an absolute path in its shortest form", "write it from the root folder, without . or .. or doubled slashes", nil)
	}
	if name == "/" {
		return nil, nil
	}
	return strings.Split(name[1:], "/"), nil
}

// path returns the path of the given elements below the root, for messages.
func (r Root) path(elements []string) string {
	root := string(r)
	if root == "" {
		root = "/"
	}
	return path.Join(root, path.Join(elements...))
}

func failure(path, defect, cure string, err error) error {
	return &problem.Error{What: word(path) + ": " + defect, Cure: cure, Err: err}
}

// word returns a path on one line, quoted for a shell, so that a person can paste a cure.
func word(path string) string {
	plain := path != ""
	for _, c := range path {
		if !strconv.IsPrint(c) || c == utf8.RuneError {
			return strconv.QuoteToASCII(path)
		}
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("/._-+@%:,=", c) || c >= utf8.RuneSelf) {
			plain = false
		}
	}
	if plain {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
