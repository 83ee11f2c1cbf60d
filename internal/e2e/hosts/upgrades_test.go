//go:build e2e

package e2e

// upgrades restarts and upgrades libvirt, the gate and the packages under running guests.
func (h *host) upgrades() {
	before, gate := h.must("pids"), h.must("pid stopguard-gate.service")
	unchanged := func(step string) {
		h.t.Helper()
		h.do(step+": guests run on, and the gate is the same process", "pids; pid stopguard-gate.service", prints("^"+before+" +"+gate+`\s*$`))
		h.do(step+": a protected guest is protected", "virsh destroy pg-01", vetoed(pg))
	}
	h.do("systemctl restart libvirtd", "systemctl restart libvirtd", works)
	unchanged("systemctl restart libvirtd")
	h.do("systemctl stop libvirtd: the next client starts it", "systemctl stop libvirtd.service 2>&1 && virsh domstate pg-01", prints("running"))
	unchanged("systemctl stop libvirtd")
	h.do("kill -9 libvirtd", "kill -9 $(pidof libvirtd); within 60 'virsh list'", works)
	unchanged("kill -9 libvirtd")
	h.do("upgrade of libvirt", "dpkg --force-confold -i /srv/libvirt-next/*.deb </dev/null && dpkg-query -W -f '${Version}\\n' libvirt-daemon-system && within 60 'virsh list'", prints(`\+next`))
	unchanged("upgrade of libvirt")
	h.doctor("upgrade of libvirt: stopguard doctor, every line is ok")

	h.do("upgrade of the packages", "dpkg -i /srv/media/next/*.deb </dev/null && dpkg-query -W -f '${Version}\\n' stopguard stopguard-gate stopguard-agent", prints(`(?s)next.*next.*next`))
	unchanged("upgrade of the packages")
	h.do("systemctl reload stopguard-gate: connections go on", `
virsh event --all --loop --timeout 60 >/tmp/events 2>&1 & sleep 3
systemctl reload stopguard-gate && sleep 2 && virsh suspend web-01 && virsh resume web-01
sleep 1; kill -INT %1; wait %1; cat /tmp/events`, prints(`(?is)suspended.*resumed`))
	unchanged("systemctl reload stopguard-gate")
	h.doctor("upgrade of the packages: stopguard doctor, every line is ok")
	h.do("kill -9 of the gate: systemd starts it again", "kill -9 $(pid stopguard-gate.service); within 60 'virsh list' && virsh destroy pg-01", vetoed(pg))
	h.do("systemctl restart stopguard-gate", "systemctl restart stopguard-gate && virsh destroy pg-01", vetoed(pg))
	h.do("systemctl stop stopguard-gate.socket: clients are refused", "systemctl stop stopguard-gate.socket; virsh destroy pg-01", fails("Connection refused|not reachable"))
	h.do("systemctl start stopguard-gate.socket", "systemctl start stopguard-gate.socket && virsh destroy pg-01", vetoed(pg))
	h.same("guests run on", before)
	h.do("no unit has failed", "systemctl --failed --no-legend", prints("^$"))
}
