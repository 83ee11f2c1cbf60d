//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// A way is a client, or a way of virsh's to the daemon. A domain's name stands for NAME.
type way struct {
	name    string
	list    string // prints the domains
	destroy string
	says    string // how the client says what refuses it: %s is the reason
	modular bool   // monolithic hosts have it past the gate, or not at all
}

const (
	overSSH = "qemu+ssh://127.0.0.1/system?command=/run/ssh/ssh&proxy="

	// A reset of an unprotected guest is refused with what a rule sees of the caller.
	callerRule = `package stopguard.rules.caller

veto contains message if {
	input.operation == "reset"
	not startswith(input.domain.name, "pg-")
	message := sprintf("user %q, uid %d, read-only %v, via %q", [input.caller.user, input.caller.uid, input.caller.read_only, input.caller.via])
}
`
	pythonClient = python + ` -c '
import libvirt, sys
try:
    c = libvirt.open("qemu:///system")
    if len(sys.argv) > 1:
        c.lookupByName(sys.argv[1]).destroy()
    else:
        print(*[d.name() for d in c.listAllDomains()])
except libvirt.libvirtError as e:
    sys.exit("code %d: %s" % (e.get_error_code(), e))' `

	busctl     = "busctl --system call org.libvirt "
	dbusClient = busctl + `$(` + busctl + `/org/libvirt/QEMU org.libvirt.Connect DomainLookupByName s NAME | cut -d '"' -f 2) org.libvirt.Domain `
)

func virsh(uri string) (list, destroy string) {
	return "virsh -c '" + uri + "' list --name", "virsh -c '" + uri + "' destroy NAME"
}

func waysIn() []way {
	byVirsh := func(name, uri string, modular bool) way {
		list, destroy := virsh(uri)
		return way{name: name, list: list, destroy: destroy, says: "error: %s\n", modular: modular}
	}
	return []way{
		byVirsh("virsh", "qemu:///system", false),
		{name: "libvirt-python", list: pythonClient, destroy: pythonClient + "NAME", says: "code 88: %s\n"},
		{name: "go-libvirt", list: "goclients go-libvirt list", destroy: "goclients go-libvirt destroy NAME", says: "Error: %s\n"},
		{name: "libvirt-dbus", list: dbusClient + "GetXMLDesc u 0", destroy: dbusClient + "Destroy u 0", says: "Call failed: %s\n"},
		{name: "virt-manager", list: python + " /run/manager.py qemu:///system", destroy: python + " /run/manager.py qemu:///system NAME", says: "Error deleting virtual machine 'pg-primary-01': %s\n"},
		byVirsh("virt-ssh-helper", overSSH+"native", false),
		byVirsh("netcat", overSSH+"netcat&netcat=/usr/bin/nc.openbsd", false),
		byVirsh("TLS", "qemu+tls://localhost/system", true),
		byVirsh("SASL", "qemu:///system?socket=/run/other/libvirt-sock&authfile=/run/auth.conf", true),
	}
}

// listen starts servers by which clients come: sshd, libvirt-dbus and, with virtproxyd, one more
// virtproxyd for TLS and SASL.
func (h *host) listen() {
	h.Doing = "servers are started"
	h.Run("sh", "-c", `set -e
mkdir -p /run/ssh /run/sshd
id sshd >/dev/null 2>&1 || useradd -r sshd
usermod -p '*' root
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/host
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/key
cp /run/ssh/key.pub /run/ssh/authorized
cat >/run/ssh/sshd_config <<END
ListenAddress 127.0.0.1
HostKey /run/ssh/host
AuthorizedKeysFile /run/ssh/authorized
PermitRootLogin yes
StrictModes no
UsePAM no
END
printf '#!/bin/sh\nexec ssh -F none -i /run/ssh/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"\n' >/run/ssh/ssh
chmod 755 /run/ssh/ssh
/usr/sbin/sshd -f /run/ssh/sshd_config
libvirt-dbus --system >/run/dbus.log 2>&1 &`)
	if e2ehost.Modular == "" {
		return
	}
	h.certificates()
	h.File("/etc/sasl2/libvirt.conf", "mech_list: SCRAM-SHA-256\nsasldb_path: /etc/libvirt/passwd.db\n", 0o644)
	h.File("/run/auth.conf", "[credentials-test]\nauthname=ops\npassword=open-sesame\n[auth-libvirt-default]\ncredentials=test\n", 0o600)
	h.File("/run/other.conf", `unix_sock_dir = "/run/other"
auth_unix_rw = "sasl"
auth_tls = "none"
listen_tls = 1
listen_tcp = 0
listen_addr = "127.0.0.1"
log_outputs = "1:file:/var/log/libvirt/other.log"
`, 0o644)
	h.Run("sh", "-c", `set -e
echo open-sesame | saslpasswd2 -p -a libvirt -f /etc/libvirt/passwd.db ops
mkdir /run/other
virtproxyd -d -f /run/other.conf -p /run/other.pid || { cat /var/log/libvirt/other.log; exit 1; }`)
}

func (h *host) ways() {
	h.addClients()
	h.PrepareGated("")
	h.File(listFile, listed.Name+"\n", 0o644)
	h.File("/etc/stopguard/policy/caller.rego", callerRule, 0o644)
	h.StartGate()
	h.StartDaemon()
	h.screen()
	h.listen()
	h.start(listed, listed.Disk())
	for _, w := range waysIn() {
		if w.modular && e2ehost.Modular == "" {
			continue
		}
		h.start(free, free.Disk())
		h.Records()
		h.use(tool{w.name, w.list}, "list", listed, "")
		h.use(tool{w.name, w.destroy}, "a protected domain", listed, "")
		if strings.HasPrefix(w.destroy, "virsh") {
			h.use(tool{w.name, strings.Replace(w.destroy, "destroy", "reset", 1)}, "who asks", free, "")
		}
		h.use(tool{w.name, w.destroy}, "another", free, "")
		h.OnDirect("undefine", free.Name)
	}
	h.Doing = "the read-only socket"
	readOnly := map[bool]string{false: "qemu:///system", true: "qemu:///system?mode=legacy"}[e2ehost.Modular != ""]
	h.use(tool{"read-only", "virsh -r -c " + readOnly + " domstate NAME"}, "a state", listed, "")
	h.use(tool{"read-only", "virsh -r -c " + readOnly + " destroy NAME"}, "a protected domain", listed, "")
}

func TestEveryClientIsRefusedInItsOwnWords(t *testing.T) {
	const running, off, none = "running", "shut off", "none"
	want := map[string]expected{
		"read-only: a state":            {0, []string{"running"}, running, false, []string{}},
		"read-only: a protected domain": {1, []string{"read only access prevents virDomainDestroy"}, running, false, []string{}},
	}
	for _, w := range waysIn() {
		if w.modular && e2ehost.Modular == "" {
			continue
		}
		want[w.name+": list"] = expected{0, []string{listed.Name}, running, false, []string{}}
		want[w.name+": a protected domain"] = expected{1, []string{fmt.Sprintf(w.says, veto(listed, "stop"))}, running, false, []string{listed.Name + " stop veto protected_list"}}
		another := expected{0, nil, off, false, []string{free.Name + " stop allow"}}
		if w.name == "virt-manager" { // it deletes
			another.state, another.records = none, nil
		}
		want[w.name+": another"] = another
		if strings.HasPrefix(w.destroy, "virsh") {
			who := `user "root", uid 0, read-only false, via ""`
			switch {
			case w.name == "TLS":
				who = `user "", uid -1, read-only false, via "unknown"`
			case w.modular, w.name == "netcat" && e2ehost.Modular != "":
				who = `user "root", uid 0, read-only false, via "unknown"`
			}
			want[w.name+": who asks"] = expected{1, []string{"stopguard: veto: web-01: " + who + " (rule caller)"}, running, false, nil}
		}
	}
	compare(t, on(t, "ways"), want)
}
