package testhost

import (
	"os"

	"golang.org/x/sys/unix"
)

// memory is a folder in memory that Linux hosts have.
const memory = "/dev/shm"

// InMemory sets TMPDIR to a folder in memory, unless TMPDIR is set. Otherwise tests that create
// hosts and sync their files would wait for the disk. TestMain calls it. It does nothing if the
// folder has less than 256 MiB free, or if programs cannot be run from it.
func InMemory() {
	const room = 256 << 20
	var st unix.Statfs_t
	if os.Getenv("TMPDIR") != "" || unix.Statfs(memory, &st) != nil || st.Type != unix.TMPFS_MAGIC || st.Flags&unix.ST_NOEXEC != 0 ||
		st.Bavail*uint64(st.Bsize) < room || unix.Access(memory, unix.W_OK|unix.X_OK) != nil {
		return
	}
	if err := os.Setenv("TMPDIR", memory); err != nil {
		panic(err)
	}
}
