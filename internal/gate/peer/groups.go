package peer

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// groups returns the supplementary groups that the other end had when it connected
// (SO_PEERGROUPS, Linux 4.13).
func groups(fd int) ([]int, error) {
	ids := make([]uint32, 64)
	for {
		size := uint32(len(ids) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&ids[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == unix.ERANGE { // size is the size that is needed
			ids = make([]uint32, size/4)
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		found := make([]int, size/4)
		for i := range found {
			found[i] = int(ids[i])
		}
		return found, nil
	}
}
