package relay

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/policy"
)

// peer reports who is at the other end of a connection. The kernel noted that when it was
// connected, but for the login UID, which is that of the process that has the PID now: it is only
// believed as long as the kernel says that this is still the same process (Linux 6.5).
func peer(conn *net.UnixConn) (policy.Caller, []int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return policy.Caller{}, nil, err
	}
	var c policy.Caller
	var groups []int
	controlErr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		c = policy.Caller{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid), LoginUID: policy.UnknownID}
		groups, err = peerGroups(int(fd))
		if pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			c.LoginUID = loginUID(c.PID, pidfd)
			_ = unix.Close(pidfd)
		}
	})
	if err == nil {
		err = controlErr
	}
	if err != nil {
		return policy.Caller{}, nil, fmt.Errorf("who connects cannot be told: %w", err)
	}
	return c, groups, nil
}

// loginUID reads /proc/PID/loginuid, and makes sure afterwards that PID still is the process.
func loginUID(pid, pidfd int) int {
	const unset = 1<<32 - 1
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	if err != nil {
		return policy.UnknownID
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
	if err != nil || id == unset || unix.PidfdSendSignal(pidfd, 0, nil, 0) != nil {
		return policy.UnknownID
	}
	return int(id)
}

// named looks the caller's names up. Built without cgo, as the packages build it, the files of the
// host are read, and no directory service is waited for.
func named(c policy.Caller, groups []int) policy.Caller {
	if u, err := user.LookupId(strconv.Itoa(c.UID)); err == nil {
		c.User = u.Username
	}
	c.Groups = []string{}
	for _, id := range append([]int{c.GID}, groups...) {
		name := strconv.Itoa(id)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		if !slices.Contains(c.Groups, name) {
			c.Groups = append(c.Groups, name)
		}
	}
	return c
}
