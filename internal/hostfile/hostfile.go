// Package hostfile reads the files of a host that decide what may be stopped, so that only those who may decide can change
// what is read.
//
// A file, or a folder above it, that others than its owner may write, or whose owner is neither root nor the running user,
// is an error: what it says may be anybody's word. Links are not followed, since who may change a link is not who may
// change what it leads to; FIFOs, sockets and devices are not opened, since a hook must not wait for them; and everything
// is read to a limit. Each folder is opened from the one above it, and what is judged is what was opened, so that
// exchanging a folder while it is read fools nobody.
//
// Every error is a [problem.Error] of one line, "PATH: WHAT; WHAT TO DO". It is fs.ErrNotExist only if the file, or a folder above it and below
// the root, is really not there.
package hostfile

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stopguard/stopguard/internal/problem"
)

// Root is the folder below which all host paths lie; "" means "/". It is judged like every folder below it, but may itself
// be reached through links, and what lies above it is not looked at. A root that is missing is an error, and not
// fs.ErrNotExist: below a misspelt root every file would be missing, and nothing protected.
type Root string

// Limits bounds what ReadDir takes into memory. Of each field, 0 means its default; more than it is an error.
type Limits struct {
	Entries   int   // files and folders altogether; 1,000
	FileBytes int64 // bytes of one file; 16 MiB
	Bytes     int64 // bytes of all files together; 64 MiB
	Depth     int   // levels of folders below the one that is read; 8
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

// Read returns what is in the file of the given host path, such as "/etc/libvirt/protected-domains": at most limit bytes,
// else an error. The path must be absolute and clean.
//
// Writable by others means: by everyone, even below a sticky bit, or by a group other than root's. One exception: when the
// running user is not root, its own effective group may write too, since many distributions give each user a group of
// their own and the umask 002. A hook on a host runs as root and never gets there; a developer trying things out does.
//
// A file that is written while it is read is an error, as far as its size and time of change show it. Files whose size is
// not known before they are read, like those in /proc, are therefore errors as well.
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

// ReadDir returns what is in the folder of the given host path, and in the folders below it, as it was read: each file
// once, and held in memory, so that what is looked at first is what is used later. Files and folders are judged as by Read.
// Names that begin with a dot are left out, as are the folders so named with all that is in them, and empty folders.
//
// Only a folder that is missing itself is fs.ErrNotExist: a file that is listed and then gone is a folder that changed while
// it was read.
func (r Root) ReadDir(name string, limits Limits) (fs.FS, error) {
	elements, err := split(name)
	if err != nil {
		return nil, err
	}
	return r.readDir(elements, limits.orDefault())
}

// Judge is an error if others than those who may decide can change what is in the folder of the given host path, or in one
// above it, as Read judges them. It is fs.ErrNotExist if the folder is missing.
func (r Root) Judge(name string) error {
	elements, err := split(name)
	if err != nil {
		return err
	}
	return r.judge(elements)
}

// split gives the elements of an absolute, clean path, and no other: what is checked must be what was meant, so nothing is
// corrected here.
func split(name string) ([]string, error) {
	if !path.IsAbs(name) || path.Clean(name) != name || strings.IndexByte(name, 0) >= 0 {
		return nil, failure(name, "is not an absolute path in its shortest form", "write it from the root folder, without . or .. or doubled slashes", nil)
	}
	if name == "/" {
		return nil, nil
	}
	return strings.Split(name[1:], "/"), nil
}

// path is what a message calls the given elements below the root: what a person would type to get at it.
func (r Root) path(elements []string) string {
	root := string(r)
	if root == "" {
		root = "/"
	}
	return path.Join(root, path.Join(elements...))
}

func failure(path, what, cure string, err error) error {
	return &problem.Error{What: word(path) + ": " + what, Cure: cure, Err: err}
}

// word writes a path such that a cure can be pasted into a shell, and that no name, however chosen, leaves the line.
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
