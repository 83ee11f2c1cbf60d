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

// dialTimeout is the time to reach libvirtd.
const dialTimeout = 5 * time.Second

// DialAs connects to a socket so that the other end takes us for this user and group. The kernel
// notes the effective user of the thread that connects, and lets it reach the socket by the file
// system's user, which stays root: so libvirtd and polkit see the client, and the client itself
// cannot reach the socket.
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

// as runs f on a thread whose effective user and group are others. A thread that is not what it was
// afterwards dies: nothing else must run on it. Go starts no thread from one that is locked.
func as(uid, gid int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := become(uid, gid)
		if err == nil {
			err = f()
		}
		if back := comeBack(); back != nil {
			done <- errors.Join(err, back)
			return // locked: the thread ends with this goroutine
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

const keep = ^uintptr(0)

// become changes this thread only, which package syscall's functions would not.
func become(uid, gid int) error {
	if err := set(unix.SYS_SETRESGID, keep, uintptr(gid), keep); err != nil {
		return fmt.Errorf("the client's group %d cannot be taken on: %w; run the gate as root", gid, err)
	}
	if err := set(unix.SYS_SETRESUID, keep, uintptr(uid), keep); err != nil {
		return fmt.Errorf("the client's user %d cannot be taken on: %w; run the gate as root", uid, err)
	}
	// These two tell nothing but the old value; a wrong one ends in not reaching the socket.
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, 0, 0, 0)
	if now := effectiveUser(); now != uid {
		return fmt.Errorf("the thread's user is %d and not the client's, %d; report this", now, uid)
	}
	return nil
}

// comeBack makes the thread root's again, with the file system's user, which follows.
func comeBack() error {
	if err := set(unix.SYS_SETRESUID, keep, 0, keep); err != nil {
		return fmt.Errorf("the thread cannot be root's again: %w", err)
	}
	if err := set(unix.SYS_SETRESGID, keep, 0, keep); err != nil {
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
