package doctor

import "github.com/stopguard/stopguard/internal/gate/unit"

// hypervisors are libvirt's daemons for other domains than QEMU's, and the kinds of these domains.
// The gate does not stand before them.
var hypervisors = []struct{ daemon, domains string }{
	{"virtlxcd", "LXC"}, {"virtxend", "Xen"}, {"virtvboxd", "VirtualBox"}, {"virtbhyved", "bhyve"}, {"virtvzd", "Virtuozzo"}, {"virtchd", "Cloud Hypervisor"},
}

// checkOtherDaemons looks for daemons with domains that the gate does not stand before.
func (d *doctor) checkOtherDaemons(layout unit.Layout) {
	other := layout.Other()
	const reinstall = "stopguard uninstall --gate --restart, and install it again"
	if d.Systemctl != nil && d.HasMoved(layout) {
		d.failure("gate-other-daemon", reinstall, "the gate stands before %s, and this host uses %s now", layout.Daemon, other.Daemon)
		return
	}
	disable := "systemctl disable --now " + other.Socket() + " " + other.Service()
	if preferred := unit.Modular.Public; layout.Daemon != unit.Modular.Daemon {
		for _, name := range []string{preferred, "/var" + preferred} {
			if d.Exists(name) {
				d.failure("gate-other-daemon", disable+"; then remove the file",
					"%s is there, and clients prefer it to libvirtd's: they walk around the gate", d.Path(name))
				return
			}
		}
	}
	for _, p := range d.processes.Daemons {
		if p.Name != layout.Daemon {
			d.failure("gate-other-daemon", disable, "%s (process %d) runs beside %s, and the gate is not in front of it", p.Name, p.PID, layout.Daemon)
			return
		}
	}
	if name := d.Active(other); name != "" {
		d.failure("gate-other-daemon", disable, "%s is active beside %s, and the gate is not in front of it", name, layout.Daemon)
		return
	}
	for _, h := range hypervisors {
		if d.processes.Names[h.daemon] || d.Systemctl != nil && d.IsActive(h.daemon+".socket") {
			d.warning("gate-other-daemon", "if there are none to protect: systemctl disable --now "+h.daemon+".socket "+h.daemon+".service",
				"%s runs: domains of %s are not guarded", h.daemon, h.domains)
			return
		}
	}
	d.ok("gate-other-daemon", "%s is alone", layout.Daemon)
}
