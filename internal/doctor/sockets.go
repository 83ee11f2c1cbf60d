package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A unixSocket is a socket in the kernel's table of this network namespace. The table is read
// through netlink: the text of /proc/net/unix does not have peers, and any user can forge a line in
// it.
type unixSocket struct {
	path      string // "" if it is bound to none
	inode     uint32
	peer      uint32 // inode of the socket at the other end; 0 if there is none, or it is not accepted yet
	listening bool
}

// Constants of unix_diag.h, which golang.org/x/sys/unix does not define.
const (
	diagShow    = 0x01 | 0x04 // names and peers
	diagName    = 0
	diagPeer    = 2
	diagRequest = 24 // bytes
	diagMessage = 16
)

// unixSockets reads the table.
func unixSockets() ([]unixSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	timeout := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, err
	}
	native := binary.NativeEndian
	request := make([]byte, unix.NLMSG_HDRLEN+diagRequest)
	native.PutUint32(request, uint32(len(request)))
	native.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	native.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[unix.NLMSG_HDRLEN] = unix.AF_UNIX
	native.PutUint32(request[unix.NLMSG_HDRLEN+4:], ^uint32(0)) // in every state
	native.PutUint32(request[unix.NLMSG_HDRLEN+12:], diagShow)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var all []unixSocket
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		done, err := parseSockets(buffer[:n], &all)
		if done || err != nil {
			return all, err
		}
	}
}

func parseSockets(data []byte, all *[]unixSocket) (done bool, err error) {
	native := binary.NativeEndian
	for len(data) >= unix.NLMSG_HDRLEN {
		size := int(native.Uint32(data))
		if size < unix.NLMSG_HDRLEN || size > len(data) {
			return false, errors.New("the kernel's socket table is torn")
		}
		body := data[unix.NLMSG_HDRLEN:size]
		switch native.Uint16(data[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			return false, errors.New("the kernel gives no socket table")
		case unix.SOCK_DIAG_BY_FAMILY:
			if len(body) >= diagMessage {
				*all = append(*all, parseSocket(body))
			}
		}
		data = data[min((size+3)&^3, len(data)):]
	}
	return false, nil
}

func parseSocket(body []byte) unixSocket {
	native := binary.NativeEndian
	s := unixSocket{listening: body[2] == 10, inode: native.Uint32(body[4:])} // TCP_LISTEN
	for rest := body[diagMessage:]; len(rest) >= 4; {
		size := int(native.Uint16(rest))
		if size < 4 || size > len(rest) {
			break
		}
		switch value := rest[4:size]; native.Uint16(rest[2:]) {
		case diagName:
			// An abstract name, which any user may choose, begins with a NUL.
			if name := strings.TrimRight(string(value), "\x00"); !strings.Contains(name, "\x00") {
				s.path = name
			}
		case diagPeer:
			if len(value) >= 4 {
				s.peer = native.Uint32(value)
			}
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return s
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
