package hold

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/problem"
)

// home is the folder of the holds. In it, and in each folder in it, are
//
//	UUID.RANDOM   a hold on the domain, if its file is locked
//	.new-RANDOM   a file that is being written
//
// A file gets its name when it is locked already. So a named file without a lock has no holder any
// more, and never will.
const home = "/run/stopguard/holds"

const tempPrefix = ".new-"

// step is called where a process might be killed. Tests kill it there.
var step = func(point string) {}

// A Hold is a domain's protection by this process. It is safe for concurrent use.
type Hold struct {
	Until time.Time // when it ends by itself; the zero time if it does not

	path  string
	mu    sync.Mutex
	file  *os.File // nil if it has ended
	timer *time.Timer
}

// Acquire protects a domain until [Hold.Release] is called, this process ends, or the request's
// time is over. The hold is this process's alone: children that it starts by package os do not have
// it. An error is one line, "hold: WHAT; WHAT TO DO".
//
// Root holds in /run/stopguard/holds, any other user in the folder there that has the user's name,
// which root creates for those who may hold.
func (s Store) Acquire(r Request) (*Hold, error) {
	c, err := newContent(r, os.Getpid(), time.Now())
	if err != nil {
		return nil, err
	}
	folder, err := s.ownFolder()
	if err != nil {
		return nil, err
	}
	d, err := os.OpenRoot(folder)
	if err != nil {
		return nil, systemFailure(folder, err)
	}
	defer d.Close()
	sweep(d)
	id := make([]byte, 8)
	rand.Read(id) // never fails
	temp, name := tempPrefix+hex.EncodeToString(id), c.Domain+"."+hex.EncodeToString(id)
	f, err := d.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, systemFailure(folder, err)
	}
	step("file created")
	if err := s.write(d, f, c, temp, name); err != nil {
		f.Close()
		d.Remove(temp)
		return nil, systemFailure(filepath.Join(folder, name), err)
	}
	step("hold there")
	h := &Hold{Until: c.Until, path: filepath.Join(folder, name), file: f}
	if r.AtMost > 0 {
		h.mu.Lock() // the time may be over at once
		defer h.mu.Unlock()
		h.timer = time.AfterFunc(r.AtMost, func() { _ = h.Release() })
	}
	return h, nil
}

func (s Store) write(d *os.Root, f *os.File, c content, temp, name string) error {
	data, err := c.encode()
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET} // of the whole file
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return err
	}
	step("file locked")
	return d.Rename(temp, name)
}

// Release ends the hold. Further calls do nothing.
func (h *Hold) Release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil {
		return nil
	}
	if h.timer != nil {
		h.timer.Stop()
	}
	err := os.Remove(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, h.file.Close()) // which frees the lock, whether or not the file could be removed
	h.file = nil
	if err != nil {
		return systemFailure(h.path, err)
	}
	return nil
}

// ownFolder returns the folder in which this user may hold. Root's is created if it is missing.
func (s Store) ownFolder() (string, error) {
	uid := os.Geteuid()
	if uid == 0 || s.isTheirs(uid) {
		if err := s.create(); err != nil {
			return "", err
		}
		return s.path(home), nil
	}
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil && !strings.ContainsAny(u.Username, "/.") {
		name = u.Username
	}
	own := path.Join(home, name)
	info, err := os.Lstat(s.path(own))
	if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(uid) {
		return "", caused(fmt.Sprintf("user %s may not hold domains", name), fmt.Sprintf("hold as root, or let root create %s, owned by %s, mode 0700", own, name), fs.ErrPermission)
	}
	return s.path(own), nil
}

// isTheirs reports whether the whole host below Root is this user's, as in a test.
func (s Store) isTheirs(uid int) bool {
	info, err := os.Stat(s.path("/"))
	return err == nil && s.Root != "" && info.Sys().(*syscall.Stat_t).Uid == uint32(uid)
}

func (s Store) path(name string) string { return filepath.Join("/", s.Root, name) }

func (s Store) create() error {
	if err := hostfile.Root(s.Root).Judge("/"); err != nil {
		return problem.Prefix("hold: ", err, "correct this and try again")
	}
	d, err := os.OpenRoot(s.path("/"))
	if err != nil {
		return systemFailure(s.path("/"), err)
	}
	defer d.Close()
	name := ""
	for element := range strings.SplitSeq(home[1:], "/") {
		name = filepath.Join(name, element)
		err := d.Mkdir(name, 0o755)
		if err == nil {
			// Others may enter it whatever the umask is, to reach a folder of their own.
			err = d.Chmod(name, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return systemFailure(s.path("/"+name), err)
		}
	}
	return nil
}

// sweep removes files without a holder. A file that is being written is left alone for an hour.
func sweep(d *os.Root) {
	f, err := d.Open(".")
	if err != nil {
		return
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxNames + 1)
	for _, name := range names {
		info, err := d.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if strings.HasPrefix(name, tempPrefix) && time.Since(info.ModTime()) < time.Hour {
			continue
		}
		held, err := d.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if isLocked, err := isLockHeld(int(held.Fd())); err == nil && !isLocked {
			d.Remove(name)
		}
		held.Close()
	}
}

// isLockHeld reports whether a holder has a lock on the file. It does not lock the file itself.
func isLockHeld(fd int) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err != nil {
		return false, err
	}
	return lock.Type != unix.F_UNLCK, nil
}

// systemFailure returns the kernel's error about a file.
func systemFailure(name string, err error) error {
	cure := "correct this and try again"
	switch {
	case errors.Is(err, fs.ErrPermission):
		cure = "run as root"
	case errors.Is(err, syscall.ENOSPC):
		cure = "make room there"
	}
	cause := err
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		cause = n // without the path that package os puts before it
	}
	return caused(name+": "+cause.Error(), cure, err)
}
