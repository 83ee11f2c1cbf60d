package doctor

import (
	"errors"
	"io/fs"
	"os"
)

// checkState checks whether the hook can detect that a domain is gone. Otherwise a veto would wedge
// such a domain.
func (d *doctor) checkState() {
	for _, folder := range []string{"/run/libvirt/qemu", "/var/run/libvirt/qemu"} {
		_, err := os.ReadDir(d.Path(folder))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			d.failure("state", "make it a folder that root can read; restarting the daemon creates it where it is missing",
				"whether a domain is dead already cannot be told, and a refused stop would wedge it: %v", err)
		default:
			d.ok("state", "%s", d.Path(folder))
		}
		return
	}
	if len(d.processes.Daemons) > 0 {
		d.failure("state", "restart the daemon",
			"a daemon runs, and %s is missing: whether a domain is dead already cannot be told, and a refused stop would wedge it", d.Path("/run/libvirt/qemu"))
		return
	}
	d.ok("state", "%s is not there yet; the daemon creates it", d.Path("/run/libvirt/qemu"))
}
