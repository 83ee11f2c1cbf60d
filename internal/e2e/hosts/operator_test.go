//go:build e2e

package e2e

import (
	"strings"
)

const installNow = "apt-get install -y --no-install-recommends /srv/media/now/*.deb </dev/null"

// installation installs the packages on a host with running guests, puts the gate in front of
// libvirtd and protects two guests.
func (h *host) installation() {
	h.do("the host is sound: no unit has failed", "systemctl is-system-running", prints("^running"))
	h.do("AppArmor confines libvirtd", "virsh list >/dev/null; cat /proc/$(pidof libvirtd)/attr/current", prints(`^libvirtd \(enforce\)`))
	for name := range guests {
		h.must("virsh define /srv/" + name + ".xml")
	}
	h.must("virsh autostart " + pg)
	h.do("guests start", "for g in pg-01 db-01 web-01; do state $g | grep -q running || virsh start $g || exit; done; virsh list", prints("web-01 +running"))
	h.do("AppArmor confines QEMU", "cat /proc/$(cat /run/libvirt/qemu/web-01.pid)/attr/current", prints(`^libvirt-3c9e4d35-.* \(enforce\)`))
	before := h.must("pids")

	h.do("apt-get install", installNow, prints("systemctl reload libvirtd"))
	h.do("systemctl reload libvirtd", "systemctl reload libvirtd && sleep 1 && virsh list", prints(web))
	h.do("the gate is not in front of libvirtd yet", "virsh -c \"$past\" list", fails("No such file"))
	h.do("stopguard install --gate", "stopguard install --gate /usr/sbin/stopguard-gate --restart", prints("answers +libvirtd, through the gate"))
	h.same("guests run on", before)
	h.must("stopguard protect pg-01 --until 2099-01-01 --reason 'billing primary' --operations reset,pause,move,modify")
	h.must("stopguard protect pg-02 --until 2099-01-01 --reason 'billing primary' --operations reset,pause,move,modify")
	h.do("stopguard protect sets a mark", "check pg-01", prints(`pg-01 +veto .*protection_mark`))
	h.do("a list protects", "umask 022; echo db-01 >/etc/libvirt/protected-domains; check db-01", prints(`db-01 +veto .*protected_list`))
	h.doctor("stopguard doctor: every line is ok")
	h.do("systemd-analyze verify", "systemd-analyze verify --man=no libvirtd.socket libvirtd.service stopguard-gate.socket stopguard-gate.service stopguard-shutdown.service stopguard-agent.service 2>&1 | grep stopguard || true", prints("^$"))
	h.do("no unit has failed", "systemctl --failed --no-legend", prints("^$"))
}

// A class is an operation, and the calls that are decided as it.
type class struct{ operation, command string }

var classes = []class{
	{"stop", "destroy DOM"},
	{"stop", "shutdown DOM"},
	{"stop", "shutdown DOM --mode agent"},
	{"stop", "managedsave DOM"},
	{"stop", "save DOM /tmp/DOM.save"},
	{"stop", "dump DOM /tmp/DOM.core --crash"},
	{"stop", "qemu-monitor-command DOM --hmp quit"},
	{"reset", "reset DOM"},
	{"reset", "reboot DOM"},
	{"reset", "inject-nmi DOM"},
	{"pause", "suspend DOM"},
	{"pause", "dump DOM /tmp/DOM.core"},
	{"move", "migrate --live --p2p DOM qemu+tcp://127.0.0.1/system"},
	{"delete", "undefine DOM"},
	{"modify", "autostart DOM --disable"},
	{"modify", "set-lifecycle-action DOM reboot destroy"},
	{"modify", "metadata DOM --uri urn:stopguard:protection:1 --remove --live --config"},
	{"modify", "define /srv/DOM.xml"},
}

// calls tries each class of calls on each guest, as root and as a member of group libvirt.
func (h *host) calls() {
	before := h.must("pids")
	for _, user := range []string{"root", "alice"} {
		of := "by root: "
		if user != "root" {
			of = "by a member of group libvirt: "
		}
		for _, c := range classes {
			// A define of another XML of a running domain is one for its next start.
			h.as(user, of+c.operation+" of a marked guest, "+strings.ReplaceAll(c.command, "DOM", "NAME"),
				"virsh "+strings.ReplaceAll(c.command, "DOM", pg), vetoed(pg))
		}
		h.as(user, of+"rename of a marked guest that is off", "virsh domrename pg-02 pg-03", vetoed(away))
		h.as(user, of+"start with autodestroy of a marked guest", "virsh start pg-02 --autodestroy", vetoed(away))
		h.as(user, of+"stop of a listed guest", "virsh destroy db-01", vetoed(db))
		h.as(user, of+"delete of a listed guest", "virsh undefine db-01", vetoed(db))
		h.as(user, of+"reset of a listed guest", "virsh reset db-01", works)
		h.as(user, of+"calls that are not decided", "virsh dominfo pg-01 && virsh domstats pg-01 && virsh list --all", prints(away))
	}
	h.same("guests run on", before)
	h.do("their state is unchanged", "for g in pg-01 db-01 web-01; do state $g; done; virsh dominfo pg-01 | grep Autostart", prints(`^running\s+running\s+running\s+Autostart: +enable`))
	for _, user := range []string{"root", "alice"} {
		of := "by root: "
		if user != "root" {
			of = "by a member of group libvirt: "
		}
		h.as(user, of+"suspend and resume of another guest", "virsh suspend web-01 && virsh domstate web-01 && virsh resume web-01", prints("paused"))
	}
	// A start takes long, so each way to end a guest is one user's.
	h.do("by root: managed save and start of another guest", "virsh managedsave web-01 && virsh start web-01", works)
	h.as("alice", "by a member of group libvirt: shutdown, undefine, define and start of another guest",
		"virsh shutdown web-01 && within 120 'virsh domstate web-01 | grep -q shut' && virsh undefine web-01 && virsh define /srv/web-01.xml && virsh start web-01", works)
	h.as("alice", "a member of group libvirt does not get past the gate", "virsh -c \"$past\" list", fails("Permission denied"))
	h.as("bob", "a user whom polkit does not know is refused as without the gate", "virsh list", fails("(?i)authentication|polkit"))
	h.do("the record names the call and its caller", `grep DOMAIN_DESTROY /var/log/stopguard/decisions.jsonl | grep '"outcome":"veto"' | grep -c '"user":"alice"'`, works)
	h.do("stopguard log shows the vetoes", "stopguard log --outcome veto --domain pg-01 | tail -n 3", prints("billing primary"))

	h.do("stopguard ticket grant", "stopguard ticket grant pg-01 --reason 'disk swap' --for 1h && stopguard ticket list", prints("disk swap"))
	h.as("alice", "with a ticket, a stop passes", "virsh destroy pg-01", works)
	h.must("virsh start pg-01")
	h.as("alice", "the ticket does not hold for the next run", "virsh destroy pg-01", vetoed(pg))
	h.do("gate-off lets everything pass at once", "touch /etc/stopguard/gate-off; virsh suspend pg-01; e=$?; rm /etc/stopguard/gate-off; virsh resume pg-01; exit $e", works)
	h.do("and on again", "virsh suspend pg-01", vetoed(pg))
	h.do("a policy that is broken refuses", "echo 'package stopguard.rules.site' >/etc/stopguard/policy/site.rego; echo 'veto contains' >>/etc/stopguard/policy/site.rego; virsh destroy web-01; e=$?; rm /etc/stopguard/policy/site.rego; exit $e", fails("stopguard: fault: web-01: "))
}

// removal takes everything away again.
func (h *host) removal() {
	before := h.must("pids")
	h.do("apt-get remove is refused while the gate is in front", "apt-get remove -y stopguard-gate </dev/null", expectation{100, "stopguard uninstall --gate --restart"})
	h.do("and libvirtd is still reached by the gate", "virsh destroy pg-01", vetoed(pg))
	h.do("stopguard uninstall --gate", "stopguard uninstall --gate --restart", prints("answers +libvirtd, without the gate"))
	h.same("guests run on", before)
	h.do("nothing is decided", "virsh suspend pg-01 && virsh resume pg-01", works)
	h.do("apt-get remove", "apt-get remove -y stopguard stopguard-gate stopguard-agent </dev/null; test ! -e $hook && test -e /var/log/stopguard/decisions.jsonl", works)
	h.do("libvirtd restarts without the hook", "systemctl restart libvirtd && virsh domstate pg-01", prints("running"))
	h.same("guests run on", before)
	h.do("apt-get purge leaves only what the operator wrote", "apt-get purge -y stopguard stopguard-gate stopguard-agent </dev/null; find /etc /usr /var /run -xdev -name '*stopguard*' ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*' ! -path '/var/log/*' ! -path '/var/cache/*'; ls /etc/libvirt/protected-domains", prints(`(?s)\A(.*\n)?((/etc/stopguard|/usr/share/[a-z/-]*)\n)?/etc/libvirt/protected-domains\n\z`))
	h.do("no unit has failed", "systemctl --failed --no-legend", prints("^$"))
}
