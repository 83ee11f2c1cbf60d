//go:build e2e

package e2e

// clients uses the gate by clients other than virsh on its socket, where a whole host is needed:
// for SSH, D-Bus and users. internal/e2e/clients has the others.
func (h *host) clients() {
	before := h.must("pids")
	h.do("libvirt-python", `python3 -c '
import libvirt
try: libvirt.open("qemu:///system").lookupByName("pg-01").destroy()
except libvirt.libvirtError as e: print(e.get_error_code(), e)' 2>/dev/null`, prints("^88 stopguard: veto: pg-01"))
	h.do("libvirt-dbus", `path=$(busctl call org.libvirt /org/libvirt/QEMU org.libvirt.Connect DomainLookupByName s pg-01 | cut -d '"' -f 2)
busctl call org.libvirt "$path" org.libvirt.Domain Destroy u 0`, vetoed(pg))
	h.do("virt-admin", "virt-admin -c libvirtd:///system srv-list", prints("libvirtd"))
	h.do("the read-only socket", "virsh -r domstate pg-01; virsh -r destroy pg-01", fails("read only"))

	h.must(`mkdir -p ~/.ssh; rm -f ~/.ssh/id_ed25519; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
for home in /root /home/alice; do cat ~/.ssh/id_ed25519.pub >>$home/.ssh/authorized_keys; done
printf 'Host *\nStrictHostKeyChecking no\n' >~/.ssh/config`)
	h.do("qemu+ssh, by virt-ssh-helper", "virsh -c 'qemu+ssh://root@localhost/system?proxy=native' destroy pg-01", vetoed(pg))
	h.do("qemu+ssh, by netcat", "virsh -c 'qemu+ssh://root@localhost/system?proxy=netcat' destroy pg-01", vetoed(pg))
	h.do("qemu+ssh, as a member of group libvirt", "virsh -c 'qemu+ssh://alice@localhost/system' destroy pg-01", vetoed(pg))
	h.same("guests run on", before)

	h.must("cp /var/log/stopguard/decisions.jsonl /tmp/decisions")
	h.as("alice", "a user's own daemon (qemu:///session) is left alone", `
export LIBVIRT_DEFAULT_URI=qemu:///session
virsh define /srv/pg-01.xml && virsh start pg-01 && virsh destroy pg-01 && virsh undefine pg-01`, works)
	h.do("and nothing of it is recorded", "cmp /var/log/stopguard/decisions.jsonl /tmp/decisions", works)
	h.must("pkill -u alice libvirtd; true")
}
