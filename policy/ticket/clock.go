package ticket

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/uuid"
)

// boot is a moment by the boot clock, which cannot be set.
type boot struct {
	id    string
	nanos int64 // since the boot
}

// hostBoot asks the kernel. The file is not below Store.Root, because it is the kernel's own.
func hostBoot() (boot, error) {
	const file = "/proc/sys/kernel/random/boot_id"
	const cure = "mount /proc; until then no ticket can be granted or taken"
	data, err := os.ReadFile(file)
	if err != nil {
		return boot{}, caused(errno(err).Error()+" at "+file, cure, err)
	}
	id := strings.TrimSpace(string(data))
	if !uuid.IsCanonical(id) {
		return boot{}, failure(fmt.Sprintf("%s holds %.100q, which is not a boot ID", file, id), cure)
	}
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
		return boot{}, caused("the time since boot cannot be read: "+err.Error(), "allow clock_gettime; until then no ticket can be granted or taken", err)
	}
	return boot{id, at.Nano()}, nil
}
