//go:build e2e

package e2e

import (
	"strings"
)

// confined runs a hook under the profile of libvirtd, as libvirtd does for a stop where it knows
// the operation. The XML is that of the running guest.
func confined(profile, program, guest string) string {
	return "confined " + profile + " " + program + " " + guest
}

// programs are the ways to run the hook. libvirtd runs the file, whose program leaves the profile;
// the programs themselves are run within it, which allows them less.
var programs = []struct{ name, path string }{
	{"hook file", "/etc/libvirt/hooks/qemu.d/50-stopguard"},
	{"hook", "/usr/sbin/stopguard-hook"},
	{"thin hook", "/usr/sbin/stopguard-hook-thin"},
}

// denials are rules of AppArmor against one thing each that a hook may look at. None of them may
// turn a veto into an allow.
var denials = []struct{ name, rule string }{
	{"the state of processes", "deny /proc/*/stat r,"},
	{"command lines", "deny /proc/*/cmdline r,"},
	{"what processes are", "deny /proc/*/{exe,status,cgroup} r,"},
	{"/proc", "deny /proc/** r,"},
	{"ptrace", "deny ptrace,"},
	{"netlink", "deny network netlink,"},
	{"Unix sockets", "deny network unix, deny unix,"},
	{"pid files", "deny /{,var/}run/libvirt/qemu/*.pid r,"},
	{"status files", "deny /{,var/}run/libvirt/qemu/*.xml r,"},
	{"libvirt's state", "deny /{,var/}run/libvirt/{,**} r,"},
	{"the list", "deny /etc/libvirt/protected-domains r,"},
	{"rules and settings", "deny /etc/stopguard/{,**} r,"},
	{"tickets", "deny /var/lib/stopguard/{,**} rw,"},
	{"marks of allowed stops, and the flag of a shutdown", "deny /run/stopguard/{,**} rw,"},
	{"the record", "deny /var/log/stopguard/{,**} rw,"},
	{"the hook file", "deny /etc/libvirt/hooks/** r,"},
	{"the programs", "deny /usr/sbin/stopguard-hook* x,"},
	{"capabilities", "deny capability,"},
	{"/dev", "deny /dev/** rw,"},
}

func (h *host) apparmor() {
	h.must("virsh start " + db + " 2>/dev/null || true; for g in pg-01 db-01 web-01; do virsh dumpxml $g >/tmp/$g.live; done; chmod 644 /tmp/*.live")
	h.do("libvirtd runs the hook file within its profile", `
printf '#!/bin/sh\nread -r label </proc/self/attr/current; echo "$2 $label" >>/var/log/libvirt/label\n' >/etc/libvirt/hooks/qemu.d/10-label && chmod 755 /etc/libvirt/hooks/qemu.d/10-label
virsh destroy web-01; rm /etc/libvirt/hooks/qemu.d/10-label; virsh start web-01; cat /var/log/libvirt/label`, prints(`release libvirtd \(enforce\)`))
	h.must("virsh dumpxml web-01 >/tmp/web-01.live")
	for _, p := range programs {
		h.do(p.name+": a marked guest, veto", confined("libvirtd", p.path, pg), vetoed(pg))
		h.do(p.name+": a listed guest, veto", confined("libvirtd", p.path, db), vetoed(db))
		h.do(p.name+": another guest, allow", confined("libvirtd", p.path, web), works)
	}
	h.do("their records can be read", `tail -n 60 /var/log/stopguard/decisions.jsonl | grep -o '"outcome":"[a-z]*"' | sort -u`, prints(`(?s)allow.*veto`))
	h.do("a ticket lets a stop through the hook", "stopguard ticket grant db-01 --reason 'within the profile' && "+confined("libvirtd", programs[0].path, db)+" && stopguard log --domain db-01 | tail -n 1", prints("ticket"))
	h.do("libvirtd runs the hook at the end of a guest, with the ticket: no escape", "virsh destroy db-01 && ! stopguard log --outcome escape --domain db-01 | grep db-01; virsh start db-01", works)
	h.do("past the gate, the hook that libvirtd runs records an escape", "virsh -c \"$past\" destroy db-01 && within 20 'stopguard log --outcome escape --domain db-01 | grep -q db-01'", works)
	h.must("virsh start db-01; virsh dumpxml db-01 >/tmp/db-01.live")
	var dead strings.Builder
	dead.WriteString("daemon=$(pidof libvirtd); kill -STOP $daemon; kill -9 $(cat /run/libvirt/qemu/db-01.pid); sleep 1\n")
	for _, p := range programs {
		dead.WriteString(confined("libvirtd", p.path, db) + "; echo \"" + p.name + " $?\"; tail -n 1 /var/log/stopguard/decisions.jsonl | grep -o '\"outcome\":\"[a-z]*\"'\n")
	}
	dead.WriteString("kill -CONT $daemon; within 60 'state db-01 | grep -q shut'; virsh start db-01 >/dev/null; virsh dumpxml db-01 >/tmp/db-01.live")
	moot := `0\s+"outcome":"moot"\s+`
	h.do("hook file, hook and thin hook: a listed guest after kill -9, moot", dead.String(), prints("hook file "+moot+"(?s:.*)hook "+moot+"(?s:.*)thin hook "+moot))
	h.do("AppArmor has denied nothing", "journalctl -k -b | grep 'apparmor=.DENIED'; grep -a 'apparmor=.DENIED' /var/log/audit/audit.log; true", prints("^$"))

	// Under a profile that allows all but one thing, the guard may refuse, and must not allow.
	for _, d := range denials {
		profile := "profile stopguard-denied flags=(attach_disconnected,mediate_deleted) {\n  file, network, capability, ptrace, signal, unix, dbus, mount, umount,\n  " + d.rule + "\n}\n"
		var script strings.Builder
		script.WriteString("cat >/tmp/denied <<'P'\n" + profile + "P\napparmor_parser -r -K /tmp/denied || exit 9\n")
		for _, p := range programs {
			for _, g := range []string{pg, db} {
				script.WriteString("said=$(" + confined("stopguard-denied", p.path, g) + " 2>&1); e=$?\n" +
					`[ $e != 0 ] || { echo "ALLOWED: ` + p.name + ` ` + g + `: $said"; bad=1; }; echo "$e ${said:0:150}"` + "\n")
			}
		}
		script.WriteString("exit ${bad-0}")
		h.do("denied "+d.name+": no stop of a protected guest is allowed", script.String(), works)
	}
	h.must("apparmor_parser -R /tmp/denied")
}
