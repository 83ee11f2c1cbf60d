package peer

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/policy"
)

// A Peer is the process that has made a connection, as the kernel noted it then.
type Peer struct {
	UID, GID, PID int

	// LoginUID is the user who logged in; policy.UnknownID if that is not known.
	LoginUID int

	// Service is the daemon of libvirt's that the process belongs to, such as "virtproxyd"; "" for
	// any other process. It is looked up for root's processes only.
	Service string

	// Unit and Executable are as in [policy.Caller].
	Unit       string
	Executable string

	groups []int // supplementary
}

// Of returns the process at the other end of a connection. The login UID, the unit and the
// executable are read from /proc by the PID. They are used only if the kernel confirms that the PID
// still belongs to the process, which takes Linux 6.5. The service is that of the process that has
// the PID now.
func Of(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	controlErr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p = Peer{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid), LoginUID: policy.UnknownID}
		p.groups, err = groups(int(fd))
		if pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			isSame := func() bool { // the gate's unit may not send signals to other users' processes
				err := unix.PidfdSendSignal(pidfd, 0, nil, 0)
				return err == nil || err == unix.EPERM
			}
			p.LoginUID = loginUID(p.PID, isSame)
			p.Unit, p.Executable = program(p.PID, isSame)
			_ = unix.Close(pidfd)
		}
	})
	if err == nil {
		err = controlErr
	}
	if err != nil {
		return Peer{}, fmt.Errorf("who connects cannot be told: %w", err)
	}
	if p.UID == 0 {
		p.Service = service(p.PID)
	}
	return p, nil
}

// loginUID reads /proc/PID/loginuid, and checks afterwards that the PID still belongs to the
// process.
func loginUID(pid int, isSame func() bool) int {
	const unset = 1<<32 - 1
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	if err != nil {
		return policy.UnknownID
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
	if err != nil || id == unset || !isSame() {
		return policy.UnknownID
	}
	return int(id)
}

// Caller returns the peer as the caller of an operation. If the peer is a daemon of libvirt's,
// which acts for its clients, the caller is unknown.
func (p Peer) Caller() policy.Caller {
	if p.Service != "" {
		return p.CallerOf(Identity{UID: policy.UnknownID, GID: policy.UnknownID})
	}
	c := policy.Caller{UID: p.UID, GID: p.GID, PID: p.PID, LoginUID: p.LoginUID, User: userName(p.UID), Unit: p.Unit, Executable: p.Executable}
	c.Groups = groupNames(append([]int{p.GID}, p.groups...))
	return c
}
