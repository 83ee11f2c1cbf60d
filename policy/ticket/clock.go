package ticket

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// boot is a moment by the clock that nobody can set.
type boot struct {
	id    string
	nanos int64 // since the boot
}

// hostBoot asks the kernel. It is not below Store.Root: a kernel has no other.
func hostBoot() (boot, error) {
	const file = "/proc/sys/kernel/random/boot_id"
	const cure = "mount /proc; until then no ticket can be granted or taken"
	data, err := os.ReadFile(file)
	if err != nil {
		return boot{}, &problem{what: errno(err).Error() + " at " + file, cure: cure, err: err}
	}
	id := strings.TrimSpace(string(data))
	if id == "" || id != canonical(id) {
		return boot{}, failure(fmt.Sprintf("%s holds %.100q, which is not a boot ID", file, id), cure)
	}
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
		return boot{}, &problem{what: "the time since boot cannot be read: " + err.Error(), cure: "allow clock_gettime; until then no ticket can be granted or taken", err: err}
	}
	return boot{id, at.Nano()}, nil
}
