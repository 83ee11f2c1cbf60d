package hostfile

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxStamped bounds the files of a stamp. A stamp of more files is never settled.
const maxStamped = 4000

// A look is a stamp that is being taken.
type look struct {
	began   time.Time
	seen    []byte
	n       int
	settled bool
	done    map[string]bool
}

func (r Root) stamp(names []string) Stamp {
	l := look{began: time.Now(), settled: true, done: map[string]bool{}}
	top := string(r)
	if top == "" {
		top = "/"
	}
	var st unix.Stat_t
	err := retry(func() error { return unix.Stat(top, &st) }) // the root may be a link
	l.note(top, &st, err)
	isDir := err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
	for _, name := range names {
		elements, err := split(name)
		if err != nil {
			l.settled = false
			continue
		}
		at := strings.TrimSuffix(top, "/")
		if len(elements) == 0 && isDir {
			l.lookBelow(at)
		}
		for i, element := range elements {
			at += "/" + element
			l.at(at, i == len(elements)-1)
		}
	}
	return Stamp{sum: sha256.Sum256(l.seen), settled: l.settled}
}

// at adds the file at a path and, if recursive is set, everything below it.
func (l *look) at(path string, recursive bool) {
	if !recursive && l.done[path] {
		return
	}
	l.done[path] = true
	if l.n++; l.n > maxStamped {
		l.settled = false
		return
	}
	var st unix.Stat_t
	err := retry(func() error { return unix.Lstat(path, &st) })
	l.note(path, &st, err)
	if recursive && err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		l.lookBelow(path)
	}
}

// lookBelow adds the content of a folder. It is called after the folder itself was added, whose
// times would show later changes.
func (l *look) lookBelow(path string) {
	children, err := list(path + "/")
	if err != nil {
		l.settled = false
		l.seen = append(append(l.seen, err.Error()...), 0)
		return
	}
	for _, child := range children {
		l.at(path+"/"+child, true)
	}
}

// list returns the names in a folder, at most one more than a stamp may have.
func list(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxStamped + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

func (l *look) note(path string, st *unix.Stat_t, err error) {
	l.seen = append(append(l.seen, path...), 0)
	if err != nil {
		if err != unix.ENOENT && err != unix.ENOTDIR {
			l.settled = false // the file is unknown
		}
		l.seen = append(l.seen, err.Error()...)
		l.seen = append(l.seen, 0)
		return
	}
	for _, field := range []uint64{
		uint64(st.Dev), st.Ino, uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano()),
	} {
		l.seen = binary.BigEndian.AppendUint64(l.seen, field)
	}
	if l.began.Sub(time.Unix(0, st.Ctim.Nano())) < settling {
		l.settled = false
	}
}
