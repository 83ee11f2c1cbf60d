package domainxml

import (
	"strings"
)

// The XML of a running domain has libvirt's defaults written out. A file that a user wrote for
// virsh define does not, and must be read as libvirt reads it. The defaults are those of libvirt
// 9.0 for every hypervisor; testdata/defaults holds libvirt's own output for such files.

// targetBuses are the buses that libvirt takes for a disk by the beginning of its target.
var targetBuses = []struct{ target, bus string }{
	{"hd", "ide"}, {"sd", "scsi"}, {"vd", "virtio"}, {"xvd", "xen"}, {"ubd", "uml"},
}

func (d *Disk) setDefaults() {
	if d.Device == "" {
		d.Device = "disk"
	}
	if d.Device == "cdrom" {
		d.ReadOnly = true
	}
	if d.Mirrored && d.MirrorJob == "" {
		d.MirrorJob = "copy" // libvirt before 1.2.7 wrote no job
	}
	if d.Bus != "" {
		return
	}
	if d.Device == "floppy" {
		d.Bus = "fdc"
		return
	}
	for _, b := range targetBuses {
		if strings.HasPrefix(d.Target, b.target) {
			d.Bus = b.bus
		}
	}
}

func (i *Interface) setDefaults() {
	if i.Type == "" {
		i.Type = "user"
	}
}

func (h *Hostdev) setDefaults() {
	if h.Mode == "" {
		h.Mode = "subsystem"
	}
}
