package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

// unixSockets returns the sockets of this network namespace. A table that changes while it is read
// is read again.
func unixSockets() (all []hookproto.UnixSocket, err error) {
	for range 20 {
		all = nil
		if err = hookproto.UnixSockets(func(s hookproto.UnixSocket) { all = append(all, s) }); err == nil {
			break
		}
	}
	return all, err
}

// A holder is a process that has a socket open.
type holder struct {
	pid  int
	name string
	uid  int
}

func (h holder) String() string { return fmt.Sprintf("%s (process %d, uid %d)", h.name, h.pid, h.uid) }

// holders returns the processes that have sockets open, by the sockets' inodes.
func (d *doctor) holders() map[uint32][]holder {
	all := map[uint32][]holder{}
	folders, _ := filepath.Glob(d.Path("/proc/[0-9]*/fd")) // an error is about the pattern
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		if err != nil {
			continue
		}
		entries, _ := os.ReadDir(folder) // a process may end at any time
		for _, e := range entries {
			to, _ := os.Readlink(filepath.Join(folder, e.Name()))
			number, ok := strings.CutPrefix(to, "socket:[")
			if !ok {
				continue
			}
			inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32)
			if err != nil || slices.ContainsFunc(all[uint32(inode)], func(h holder) bool { return h.pid == pid }) {
				continue
			}
			all[uint32(inode)] = append(all[uint32(inode)], holder{pid, d.Proc(pid, "comm"), d.UID(pid)})
		}
	}
	return all
}
