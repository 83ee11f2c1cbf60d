package testhost

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// As calls f as another user, as the kernel tells the other end of a socket. f must connect in its
// own goroutine. It needs root.
func As(t testing.TB, uid int, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be several users")
	}
	done := make(chan syscall.Errno, 1)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		_, _, failed := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
		if failed == 0 {
			f()
		}
		done <- failed
	}()
	if failed := <-done; failed != 0 {
		t.Fatal(failed)
	}
}
