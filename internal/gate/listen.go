package gate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// socketUnit is the name under which systemd passes the socket, unless its unit sets another.
const socketUnit = "stopguard-gate.socket"

// fromSystemd returns the socket that systemd passes, or nil if it passes none.
func fromSystemd() (*net.UnixListener, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("what systemd gives is no socket: %w; look at systemctl cat %s", err, socketUnit)
	}
	var found *net.UnixListener
	for name, listeners := range named {
		for _, l := range listeners {
			u, ok := l.(*net.UnixListener)
			if name != socketUnit || !ok || found != nil {
				return nil, fmt.Errorf("systemd gives %q, where the gate takes one Unix socket called %s; look at its units", name, socketUnit)
			}
			found = u
		}
	}
	return found, nil
}

// listen makes a socket for all users, or for root and a group. It replaces a socket that a
// previous gate has left, but not one on which a process listens.
func listen(path, group string) (*net.UnixListener, error) {
	switch conn, err := net.Dial("unix", path); {
	case err == nil:
		_ = conn.Close()
		return nil, fmt.Errorf("somebody listens on %s already; move libvirtd's socket first, as docs/gate.md says", path)
	case errors.Is(err, syscall.ECONNREFUSED): // a stale socket without a listener
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	gid, mode := -1, os.FileMode(0o666)
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, fmt.Errorf("%w; create it, or leave -group away", err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, err
		}
		mode = 0o660
	}
	l, err := hostfile.Listen(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, mode)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
