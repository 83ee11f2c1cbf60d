//go:build e2e

package e2e

// clients uses the gate by clients other than virsh on its socket.
func (h *host) clients() {
	before := h.must("pids")
	h.do("libvirt-python", `python3 -c '
import libvirt
try: libvirt.open("qemu:///system").lookupByName("pg-01").destroy()
except libvirt.libvirtError as e: print(e.get_error_code(), e)' 2>/dev/null`, prints("^88 stopguard: veto: pg-01"))
	h.do("libvirt-dbus", `path=$(busctl call org.libvirt /org/libvirt/QEMU org.libvirt.Connect DomainLookupByName s pg-01 | cut -d '"' -f 2)
busctl call org.libvirt "$path" org.libvirt.Domain Destroy u 0`, vetoed(pg))
	h.do("virt-install, with autodestroy of what it makes", "virt-install --name made-01 --memory 16 --osinfo linux2022 --import --disk none --graphics none --console none --noautoconsole --virt-type qemu --transient 2>&1 && virsh destroy made-01", prints("made-01"))
	h.do("virt-admin", "virt-admin -c libvirtd:///system srv-list", prints("libvirtd"))
	h.do("the read-only socket", "virsh -r domstate pg-01; virsh -r destroy pg-01", fails("read only"))
	h.must("cat ~/.ssh/authorized_keys >/dev/null; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 <<<y >/dev/null; cat ~/.ssh/id_ed25519.pub >>~/.ssh/authorized_keys; cat ~/.ssh/id_ed25519.pub >>~alice/.ssh/authorized_keys; printf 'Host *\\nStrictHostKeyChecking no\\n' >~/.ssh/config")
	h.do("qemu+ssh, by virt-ssh-helper", "virsh -c 'qemu+ssh://root@localhost/system?proxy=native' destroy pg-01", vetoed(pg))
	h.do("qemu+ssh, by netcat", "virsh -c 'qemu+ssh://root@localhost/system?proxy=netcat' destroy pg-01", vetoed(pg))
	h.do("qemu+ssh, as a member of group libvirt", "virsh -c 'qemu+ssh://alice@localhost/system' destroy pg-01", vetoed(pg))
	h.do("virt-manager's way, without virsh: a remote connection with events", `python3 -c '
import libvirt
libvirt.virEventRegisterDefaultImpl()
c = libvirt.open("qemu+ssh://root@localhost/system")
c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda *a: None, None)
print(sorted(d.name() for d in c.listAllDomains()))'`, prints("pg-01"))

	h.do("TLS passes the gate by, and doctor says so", `
mkdir -p /etc/pki/CA /etc/pki/libvirt/private && cd /etc/pki && umask 077
certtool --generate-privkey --outfile CA/cakey.pem 2>/dev/null
printf 'cn = test\nca\ncert_signing_key\n' >/tmp/ca.cfg
certtool --generate-self-signed --load-privkey CA/cakey.pem --template /tmp/ca.cfg --outfile CA/cacert.pem 2>/dev/null
printf 'organization = test\ncn = localhost\ndns_name = localhost\ntls_www_server\ntls_www_client\nencryption_key\nsigning_key\n' >/tmp/both.cfg
certtool --generate-privkey --outfile libvirt/private/serverkey.pem 2>/dev/null
certtool --generate-certificate --load-privkey libvirt/private/serverkey.pem --load-ca-certificate CA/cacert.pem --load-ca-privkey CA/cakey.pem --template /tmp/both.cfg --outfile libvirt/servercert.pem 2>/dev/null
cp libvirt/private/serverkey.pem libvirt/private/clientkey.pem; cp libvirt/servercert.pem libvirt/clientcert.pem
chmod 644 CA/cacert.pem libvirt/*.pem; chmod 755 /etc/pki /etc/pki/CA /etc/pki/libvirt
systemctl stop libvirtd.service 2>/dev/null; systemctl start libvirtd-tls.socket && virsh -c qemu+tls://localhost/system domstate pg-01
stopguard doctor | grep -A 2 gate-network`, prints(`(?s)running.*failure +gate-network`))
	h.do("without the TLS socket, doctor is content", "systemctl stop libvirtd.service libvirtd-tls.socket 2>/dev/null; virsh list; stopguard doctor | grep gate-network", prints("^(?s).*ok +gate-network"))
	h.do("SASL on the Unix socket", `
sed -i.kept 's/^mech_list.*/mech_list: scram-sha-256/; s/^#* *sasldb_path.*//' /etc/sasl2/libvirt.conf; echo 'sasldb_path: /etc/libvirt/passwd.db' >>/etc/sasl2/libvirt.conf
echo secret | saslpasswd2 -p -c -a libvirt -u vm tester -f /etc/libvirt/passwd.db
cp /etc/libvirt/libvirtd.conf /tmp/libvirtd.conf; echo 'auth_unix_rw = "sasl"' >>/etc/libvirt/libvirtd.conf; systemctl restart libvirtd
printf '[credentials-t]\nauthname=tester@vm\npassword=secret\n[auth-libvirt-localhost]\ncredentials=t\n[auth-libvirt-vm]\ncredentials=t\n[auth-libvirt-default]\ncredentials=t\n' >/tmp/auth.conf
virsh -c 'qemu:///system?authfile=/tmp/auth.conf' destroy pg-01; e=$?
cp /tmp/libvirtd.conf /etc/libvirt/libvirtd.conf; mv /etc/sasl2/libvirt.conf.kept /etc/sasl2/libvirt.conf; systemctl restart libvirtd; virsh list >/dev/null; exit $e`, vetoed(pg))
	h.same("guests run on", before)

	h.as("alice", "a user's own daemon (qemu:///session) is left alone", `
export LIBVIRT_DEFAULT_URI=qemu:///session
cp /srv/pg-01.xml /tmp/session.xml
virsh define /tmp/session.xml && virsh start pg-01 && virsh destroy pg-01 && virsh start pg-01 && virsh destroy pg-01 && virsh undefine pg-01`, works)
	h.do("and nothing of it is recorded", "tail -n 3 /var/log/stopguard/decisions.jsonl | grep -c session || true; stopguard log --domain pg-01 | tail -n 1", prints("veto"))
}
