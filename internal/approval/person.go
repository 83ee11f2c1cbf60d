package approval

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/policy/ticket"
)

// noLogin is the login UID of a process that does not descend from a login.
const noLogin = 1<<32 - 1

// personOf returns the person at the other end of a Unix socket.
func personOf(c net.Conn) (ticket.Person, error) {
	uid, login, err := peer(c)
	if err != nil {
		return ticket.Person{}, fmt.Errorf("who asks cannot be read: %w; try again", err)
	}
	return person(uid, login)
}

// person returns the person behind a process. That is its user, as the kernel recorded it when the
// connection was made. If the user is root after a login of another user, it is that other user. It
// returns an error if a user became another user than root. Otherwise one person could count as two
// with sudo.
func person(uid, login uint32) (ticket.Person, error) {
	switch {
	case login == noLogin || login == uid:
	case uid == 0:
		uid = login
	default:
		return ticket.Person{}, fmt.Errorf("%s logged in and became %s, who does not count then; log in as that user", nameOf(login), nameOf(uid))
	}
	return ticket.Person{UID: int(uid), User: nameOf(uid)}, nil
}

// peer returns the user at the other end, and the login UID of its process.
func peer(c net.Conn) (uid, login uint32, err error) {
	local, ok := c.(syscall.Conn)
	if !ok {
		return 0, 0, errors.New("the connection is not local")
	}
	err = control(local, func(fd int, cred *unix.Ucred) error {
		uid = cred.Uid
		if login, err = loginOf(cred.Pid); err != nil {
			return err
		}
		return alive(fd)
	})
	return uid, login, err
}

// control calls a function with a Unix socket and the kernel's credentials of its other end.
func control(c syscall.Conn, f func(fd int, cred *unix.Ucred) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			err = f(int(fd), cred)
		}
	})
	return errors.Join(failed, err)
}

// alive returns an error if the peer's process has ended, because another process may have its PID.
// On a kernel before 6.5 it cannot tell, and returns nil.
func alive(fd int) error {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return nil
	}
	defer unix.Close(pidfd)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0); err != nil || n > 0 {
		return errors.New("its process has ended")
	}
	return nil
}

// userOf returns the user at the other end of a Unix socket.
func userOf(c *net.UnixConn) (uid uint32, err error) {
	err = control(c, func(_ int, cred *unix.Ucred) error {
		uid = cred.Uid
		return nil
	})
	return uid, err
}

func loginOf(pid int32) (uint32, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(id), err
}

func nameOf(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// isAmong reports whether data.site.tickets.who names a person. A user without a name is named by
// the UID.
func isAmong(p ticket.Person, who []string) bool {
	if slices.Contains(who, "user:"+p.User) || slices.Contains(who, "user:"+strconv.Itoa(p.UID)) {
		return true
	}
	u, err := user.LookupId(strconv.Itoa(p.UID))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(groups, func(id string) bool {
		g, err := user.LookupGroupId(id)
		return slices.Contains(who, "group:"+id) || err == nil && slices.Contains(who, "group:"+g.Name)
	})
}
