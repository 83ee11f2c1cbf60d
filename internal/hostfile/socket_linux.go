package hostfile

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Listen listens on a Unix socket that only its owner can connect to, from the moment at which it
// is bound. Linux gives the file the mode that the socket has then. A umask would be that of all
// threads, and of what they create meanwhile.
func Listen(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}
