package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"unicode/utf8"

	"github.com/stopguard/stopguard/internal/memfs"
	"golang.org/x/sys/unix"
)

func (r Root) read(elements []string, limit int64) ([]byte, error) {
	last := len(elements) - 1
	d, err := r.walk(elements[:last])
	if err != nil {
		return nil, err
	}
	defer d.close()
	return d.read(elements[last], limit)
}

func (r Root) readDir(elements []string, limits Limits) (fs.FS, error) {
	d, err := r.walk(elements)
	if err != nil {
		return nil, err
	}
	defer d.close()
	t := tree{top: d.path, limits: limits, files: map[string][]byte{}}
	if err := t.add(d, ".", 0); err != nil {
		return nil, err
	}
	return memfs.New(t.files), nil
}

func (r Root) judge(elements []string) error {
	d, err := r.walk(elements)
	if err != nil {
		return err
	}
	d.close()
	return nil
}

// walk opens and checks the folders from the root to the last element, each from the one above it.
func (r Root) walk(elements []string) (folder, error) {
	d := folder{path: r.path(nil)}
	name := string(r) // not cleaned: a/.. is another folder if a is a link
	if name == "" {
		name = "/"
	}
	var err error
	d.fd, err = open(unix.AT_FDCWD, name, unix.O_PATH|unix.O_DIRECTORY)
	switch {
	case err == unix.ENOENT:
		return folder{}, failure(d.path, "the root folder is missing", "create it, or name another root", nil)
	case err == unix.ENOTDIR:
		return folder{}, failure(d.path, "the root is not a folder", "name another root", err)
	case err != nil:
		return folder{}, systemFailure(d.path, err)
	}
	if _, err := judge(d.fd, d.path); err != nil {
		d.close()
		return folder{}, err
	}
	for _, name := range elements {
		next, err := d.folder(name)
		d.close()
		if err != nil {
			return folder{}, err
		}
		d = next
	}
	return d, nil
}

// folder is a folder that is open with O_PATH, for which the right to list it is not needed.
type folder struct {
	fd   int
	path string
}

func (d folder) close() { unix.Close(d.fd) }

// folder opens and checks a folder in d. O_DIRECTORY refuses other files, and triggers an
// automount. Otherwise O_PATH would open the empty folder below the mount.
func (d folder) folder(name string) (folder, error) {
	f := folder{path: path.Join(d.path, name)}
	var err error
	f.fd, err = open(d.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		// This is for the message only, because a link is ENOTDIR, too.
		var st unix.Stat_t
		if unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return folder{}, linkFailure(f.path)
		}
		return folder{}, failure(f.path, "is not a folder", "move it away, or correct the path", err)
	}
	if err != nil {
		return folder{}, systemFailure(f.path, err)
	}
	if _, err := judge(f.fd, f.path); err != nil {
		f.close()
		return folder{}, err
	}
	return f, nil
}

// read reads and checks a file in d.
func (d folder) read(name string, limit int64) ([]byte, error) {
	p := path.Join(d.path, name)
	var st unix.Stat_t
	// Opening a device may have side effects, so the file is checked first. The open file is
	// checked again.
	if err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return nil, systemFailure(p, err)
	}
	if err := regular(p, &st); err != nil {
		return nil, err
	}
	fd, err := open(d.fd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY)
	if err == unix.ELOOP {
		return nil, linkFailure(p)
	}
	if err != nil {
		return nil, systemFailure(p, err)
	}
	defer unix.Close(fd)
	before, err := judge(fd, p)
	if err != nil {
		return nil, err
	}
	if err := regular(p, before); err != nil {
		return nil, err
	}
	if before.Size > limit {
		return nil, failure(p, fmt.Sprintf("is longer than %d bytes", limit), "make it shorter", nil)
	}
	data := make([]byte, before.Size+1) // one more byte to detect that the file grew
	n := 0
	for n < len(data) {
		var m int
		if err := retry(func() (err error) { m, err = unix.Read(fd, data[n:]); return err }); err != nil {
			return nil, systemFailure(p, err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	var after unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &after) }); err != nil {
		return nil, systemFailure(p, err)
	}
	// A rename over the file changes the ctime of the old one, so ctime is not compared.
	if int64(n) != before.Size || after.Size != before.Size || after.Mtim != before.Mtim {
		return nil, changed(p)
	}
	return data[:n:n], nil
}

// names returns the sorted names in d that do not begin with a dot. It stops soon after more than
// enough names.
func (d folder) names(enough int) ([]string, error) {
	fd, err := open(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, systemFailure(d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	var names []string
	for len(names) <= enough {
		some, err := f.Readdirnames(256) // ReadDir would need the path
		if err == io.EOF {
			break
		}
		if err != nil {
			if e, ok := errors.AsType[*fs.PathError](err); ok {
				err = e.Err
			}
			return nil, systemFailure(d.path, err)
		}
		for _, name := range some {
			if name[0] != '.' {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// tree is a snapshot that is being taken.
type tree struct {
	top     string // path of the folder, for messages
	limits  Limits
	entries int
	bytes   int64
	files   map[string][]byte
}

// add adds the folder d, called name in the snapshot, and everything below it.
func (t *tree) add(d folder, name string, depth int) error {
	before, err := stat(d)
	if err != nil {
		return err
	}
	names, err := d.names(t.limits.Entries - t.entries)
	if err != nil {
		return err
	}
	t.entries += len(names)
	if t.entries > t.limits.Entries {
		return failure(t.top, fmt.Sprintf("holds more than %d files and folders", t.limits.Entries), "move out what does not belong there", nil)
	}
	for _, base := range names {
		if !utf8.ValidString(base) {
			return failure(path.Join(d.path, base), "its name is not UTF-8", "rename it", nil)
		}
		err := t.addChild(d, base, path.Join(name, base), depth)
		if errors.Is(err, fs.ErrNotExist) { // it was removed after the folder was listed
			return changed(d.path)
		}
		if err != nil {
			return err
		}
	}
	// If a name came, went or was replaced meanwhile, the snapshot may be half old and half new.
	after, err := stat(d)
	if err != nil {
		return err
	}
	if after.Mtim != before.Mtim {
		return changed(d.path)
	}
	return nil
}

func (t *tree) addChild(d folder, base, name string, depth int) error {
	p := path.Join(d.path, base)
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return systemFailure(p, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if depth == t.limits.Depth {
			return failure(p, fmt.Sprintf("lies more than %d folders deep", t.limits.Depth), "move it up", nil)
		}
		f, err := d.folder(base)
		if err != nil {
			return err
		}
		defer f.close()
		return t.add(f, name, depth+1)
	}
	data, err := d.read(base, t.limits.FileBytes)
	if err != nil {
		return err
	}
	if t.bytes += int64(len(data)); t.bytes > t.limits.Bytes {
		return failure(t.top, fmt.Sprintf("its files are longer than %d bytes altogether", t.limits.Bytes), "move out what does not belong there", nil)
	}
	t.files[name] = data
	return nil
}

func stat(d folder) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(d.fd, &st) }); err != nil {
		return nil, systemFailure(d.path, err)
	}
	return &st, nil
}

// judge returns an error if other users may change the open file.
func judge(fd int, p string) (*unix.Stat_t, error) {
	st, err := stat(folder{fd, p})
	if err != nil {
		return nil, err
	}
	euid := uint32(unix.Geteuid())
	if st.Uid != 0 && st.Uid != euid {
		who := "neither root nor the running user"
		if euid == 0 {
			who = "not root"
		}
		return nil, failure(p, fmt.Sprintf("is owned by uid %d, %s", st.Uid, who), "chown root: "+word(p), nil)
	}
	if st.Mode&0o002 != 0 {
		cure := "chmod go-w " + word(p)
		if st.Mode&unix.S_ISVTX != 0 { // a folder like /tmp is writable on purpose
			cure = "put what lies there into a folder that only root may write"
		}
		return nil, failure(p, fmt.Sprintf("is writable by everyone (mode %04o)", st.Mode&0o7777), cure, nil)
	}
	if st.Mode&0o020 != 0 {
		own := euid != 0 && st.Gid == uint32(unix.Getegid()) // the exception that Read documents
		if st.Gid != 0 && !own {
			return nil, failure(p, fmt.Sprintf("is writable by the group %d (mode %04o)", st.Gid, st.Mode&0o7777), "chmod go-w "+word(p), nil)
		}
		// With an access control list, the group's bits are its mask: any user or group in the list
		// may have them. O_PATH descriptors do not have attributes, so the path in /proc is used.
		err := retry(func() error {
			_, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), "system.posix_acl_access", nil)
			return err
		})
		switch err {
		case unix.ENODATA, unix.EOPNOTSUPP:
		case nil:
			return nil, failure(p, "may be written by others through its access control list", "chmod go-w "+word(p), nil)
		default:
			return nil, failure(p, fmt.Sprintf("is writable by the group %d, and its access control list cannot be read: %v", st.Gid, err), "chmod go-w "+word(p), nil)
		}
	}
	return st, nil
}

func regular(p string, st *unix.Stat_t) error {
	var kind string
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		return linkFailure(p)
	case unix.S_IFDIR:
		kind = "a folder"
	case unix.S_IFIFO:
		kind = "a FIFO"
	case unix.S_IFSOCK:
		kind = "a socket"
	case unix.S_IFBLK, unix.S_IFCHR:
		kind = "a device"
	default:
		kind = "something else"
	}
	return failure(p, "is "+kind+", not a regular file", "put a regular file in its place", nil)
}

func linkFailure(p string) error {
	return failure(p, "is a link, and links are not followed", "put what it leads to in its place", nil)
}

func changed(p string) error {
	return failure(p, "changed while it was read", "try again", nil)
}

// systemFailure returns an error that wraps the kernel's.
func systemFailure(p string, err error) error {
	cure := "correct this and try again"
	switch err {
	case unix.ENOENT:
		return failure(p, "is missing", "create it", err)
	case unix.EACCES, unix.EPERM:
		cure = "run as root, or let the running user read it"
	case unix.EAGAIN:
		cure = "try again"
	}
	return failure(p, err.Error(), cure, err)
}

func open(dir int, name string, flags int) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// retry repeats a call that a signal interrupted. The Go runtime sends signals to itself.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
