//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What the stand-in writes down of each connection, beside the scripts.
const gateLog = "/var/lib/stopguard/stand-in.log"

// standIn has the gate's place and nothing of its sense: it connects to libvirtd as the client's user and passes bytes, so that
// what is tested is how the gate comes and goes, and what its unit lets it do. Descriptors do not pass.
func standIn() error {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) != 1 {
		return fmt.Errorf("%d sockets from systemd: %v", len(listeners), err)
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return err
	}
	for {
		client, err := listeners[0].Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			_, flag := os.Stat("/run/stopguard/shutting-down")
			if f, err := os.OpenFile(gateLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprintf(f, "shutting down: %v\n", flag == nil)
				f.Close()
			}
			server, err := dialAs(client.(*net.UnixConn))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.(*net.UnixConn).CloseWrite()
			}()
			_, _ = io.Copy(client, server)
		}()
	}
}

// dialAs connects with the effective ids of the client, which libvirtd sees, and the rights of root to the file.
func dialAs(client *net.UnixConn) (net.Conn, error) {
	raw, err := client.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	if bad := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); bad != nil || err != nil {
		return nil, errors.Join(bad, err)
	}
	runtime.LockOSThread() // never unlocked: the thread ends with this, and its ids with it
	const same = ^uintptr(0)
	for _, call := range [][4]uintptr{
		{unix.SYS_SETRESGID, same, uintptr(peer.Gid), same}, {unix.SYS_SETRESUID, same, uintptr(peer.Uid), same},
		{unix.SYS_SETFSUID, 0}, {unix.SYS_SETFSGID, 0},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return nil, errno
		}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "libvirtd")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/run/stopguard-up/libvirt-sock"}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}
