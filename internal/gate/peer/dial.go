package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds the time to connect to libvirtd.
const dialTimeout = 5 * time.Second

// DialAs connects to a socket so that the other end sees this user and group. The kernel notes the
// effective user of the connecting thread, and checks access by the file system's user, which stays
// root. So libvirtd and polkit see the client, and the client itself cannot reach the socket.
func DialAs(path string, uid, gid int) (*net.UnixConn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	limit := unix.NsecToTimeval(dialTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, err
	}
	connect := func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }
	if uid == unix.Geteuid() && gid == unix.Getegid() {
		err = connect()
	} else {
		err = as(uid, gid, connect)
	}
	if err != nil {
		return nil, err
	}
	limit = unix.Timeval{}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(file) // a duplicate
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// as runs f on a thread with another effective user and group. If the thread cannot be restored
// afterwards, it ends, so that nothing else runs on it. Go does not start threads from a locked
// one.
func as(uid, gid int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := become(uid, gid)
		if err == nil {
			err = f()
		}
		if restoreErr := restore(); restoreErr != nil {
			done <- errors.Join(err, restoreErr)
			return // locked: the thread ends with this goroutine
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

const unchanged = ^uintptr(0)

// become sets the effective user and group of this thread only. The functions of package syscall
// would set those of all threads.
func become(uid, gid int) error {
	if err := set(unix.SYS_SETRESGID, unchanged, uintptr(gid), unchanged); err != nil {
		return fmt.Errorf("the client's group %d cannot be taken on: %w; run the gate as root", gid, err)
	}
	if err := set(unix.SYS_SETRESUID, unchanged, uintptr(uid), unchanged); err != nil {
		return fmt.Errorf("the client's user %d cannot be taken on: %w; run the gate as root", uid, err)
	}
	// These two return only the old value. If they fail, the socket cannot be reached.
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, 0, 0, 0)
	if now := effectiveUser(); now != uid {
		return fmt.Errorf("the thread's user is %d and not the client's, %d; report this", now, uid)
	}
	return nil
}

// restore sets the thread's effective user and group back to root's. The file system's user
// follows.
func restore() error {
	if err := set(unix.SYS_SETRESUID, unchanged, 0, unchanged); err != nil {
		return fmt.Errorf("the thread cannot be root's again: %w", err)
	}
	if err := set(unix.SYS_SETRESGID, unchanged, 0, unchanged); err != nil {
		return fmt.Errorf("the thread cannot be of root's group again: %w", err)
	}
	return nil
}

func set(call uintptr, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func effectiveUser() int {
	uid, _, _ := unix.RawSyscall(unix.SYS_GETEUID, 0, 0, 0)
	return int(uid)
}
