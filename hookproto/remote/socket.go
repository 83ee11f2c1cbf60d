package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// openPath is O_PATH, which package syscall does not define.
const openPath = 0x200000

// dial connects to the agent's socket. It holds the checked socket open and connects through /proc.
// Otherwise the socket could be replaced between the check and the connection.
func (a Agent) dial(ctx context.Context) (net.Conn, error) {
	socket, err := a.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(socket) }()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", socket))
	if err != nil {
		return nil, err
	}
	if err := a.checkPeer(conn.(*net.UnixConn)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// open returns the socket itself (O_PATH) after checking each folder above it. It does not follow
// links.
func (a Agent) open() (int, error) {
	at, name := a.Root, a.Root
	if at == "" {
		at = "/"
	}
	dir, err := syscall.Open(at, openPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	elements := strings.Split(Socket[1:], "/")
	for i, element := range elements {
		err = a.judgeFolder(name, dir)
		next := -1
		if err == nil {
			flags := openPath | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
			if i < len(elements)-1 {
				flags |= syscall.O_DIRECTORY
			}
			next, err = syscall.Openat(dir, element, flags, 0)
		}
		_ = syscall.Close(dir)
		if err != nil {
			return -1, err
		}
		dir, name = next, name+"/"+element
	}
	if err := a.judgeSocket(name, dir); err != nil {
		_ = syscall.Close(dir)
		return -1, err
	}
	return dir, nil
}

func (a Agent) judgeFolder(name string, fd int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	return a.checkOwner(name, &st)
}

func (a Agent) judgeSocket(name string, fd int) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return fmt.Errorf("%s is no socket", name)
	}
	if st.Mode&0o777 != 0o600 {
		return fmt.Errorf("%s has mode %04o, not 0600", name, st.Mode&0o777)
	}
	return a.checkOwner(name, &st)
}

// checkPeer checks the user of the process that called listen(2), as the kernel reports it.
func (a Agent) checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if !a.trusts(peer.Uid) {
		return fmt.Errorf("process %d of uid %d answers", peer.Pid, peer.Uid)
	}
	return nil
}
