package call

import (
	"errors"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/hookproto"
)

func TestANameThatLeadsLibvirtdElsewhereIsRefused(t *testing.T) {
	const passes = ""
	for _, tt := range []struct{ why, name, want string }{
		{"the hypervisor of this host", "qemu:///system", passes},
		{"libvirtd chooses", "", passes},
		{"a user's own", "qemu:///session", passes},
		{"containers", "lxc:///", passes},
		{"", "lxc:///system", passes},
		{"", "test:///default", passes},
		{"", "test:///root/test+remote.xml", passes},
		{"", "xen:///system", passes},
		{"a name of old", "xen", passes},
		{"libvirt takes it in any case", "Xen", passes},
		{"", "xen://", passes},
		{"", "qemu:/system", passes},
		{"", "qemu:///system#here", passes},
		{"a driver's own parameters", "qemu:///system?mode=legacy&no_tty=1", passes},
		{"a secondary daemon's, on a modular host", "network:///system", passes},
		{"an embedded driver is refused by libvirtd", "qemu:///embed?root=/tmp/x", passes},
		{"another host, in its own protocol", "esx://host.example/?no_verify=1", passes},
		{"", "vpx://admin@vcenter.example:443/dc/cluster/host?proxy=socks5://proxy:1080", passes},
		{"", "hyperv://host.example", passes},
		{"a parameter that only begins so", "qemu:///system?sockets=/x", passes},
		{"a value of such a name", "qemu:///system?x=socket", passes},

		{"a transport", "qemu+unix:///system", "qemu:///system"},
		{"to itself", "qemu+unix:///system?socket=/run/stopguard-up/libvirt-sock", "qemu:///system"},
		{"a transport that is not libvirt's", "qemu+other:///system", "qemu:///system"},
		{"no transport", "qemu+:///system", "qemu:///system"},
		{"in capital letters", "QEMU+UNIX:///system", "qemu:///system"},
		{"a transport of the user's session", "qemu+ssh://root@localhost/session", "qemu:///session"},
		{"a program", "qemu+ext:///system?command=/bin/sh", "qemu:///system"},
		{"a server", "qemu://localhost/system", "qemu:///system"},
		{"", "qemu://localhost:16514/system", "qemu:///system"},
		{"a server in brackets", "qemu://[::1]/system", "qemu:///system"},
		{"a server that is written in hexadecimal digits", "qemu://%6c%6fcalhost/system", "qemu:///system"},
		{"a user", "qemu://root@/system", "qemu:///system"},
		{"a port", "qemu://:16514/system", "qemu:///system"},
		{"a server without a path", "qemu://localhost", "qemu:///system"},
		{"and with parameters alone", "qemu://localhost?x=/system", "qemu:///system"},
		{"a server where the driver has none", "test://localhost/default", "test:///default"},
		{"a driver of other hosts, in capital letters", "ESX://localhost/", "esx://HOST/"},
		{"a driver of other hosts, over a transport", "esx+ssh://localhost/", "esx://HOST/"},
		{"a driver that libvirt no longer has", "phyp://localhost/", "phyp:///system"},
		{"whatever there is", "remote:///", "qemu:///system"},
		{"", "remote:", "qemu:///system"},
		{"", "remote+unix:///system", "qemu:///system"},
		{"", "Remote:///system", "qemu:///system"},
		{"", "remote://localhost/", "qemu:///system"},
		{"a socket", "qemu:///system?socket=/run/x", "qemu:///system"},
		{"", "qemu:///system?x=1&socket=/run/x", "qemu:///system"},
		{"", "qemu:///system?x=1;socket=/run/x", "qemu:///system"},
		{"a socket without a value", "qemu:///system?socket", "qemu:///system"},
		{"since libvirt 11.3", "qemu:///system?SOCKET=/run/x", "qemu:///system"},
		{"written in hexadecimal digits", "qemu:///system?%73ocke%74=/run/x", "qemu:///system"},
		{"in C it ends there", "qemu:///system?socket%00x=/run/x", "qemu:///system"},
		{"without slashes", "qemu:system?socket=/run/x", "qemu:///system"},
		{"a socket of a driver of other hosts", "esx://host.example/?socket=/run/x", "esx://HOST/"},
		{"no URI, or an alias", "hail", "qemu:///system"},
		{"", "qemu", "qemu:///system"},
		{"no scheme", "//localhost/system", "qemu:///system"},
		{"", ":///system", "qemu:///system"},
		{"a blank before it", " qemu+unix:///system", "qemu:///system"},
		{"", " qemu:///system", "qemu:///system"},
		{"a driver's name in another case", "QEMU:///system", "qemu:///system"},
		{"what is unusual is not suggested", "qemu+unix:///sys%0atem", "qemu:///system"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(Remote, 1, args{}.optional(tt.name).u(0))
			if tt.want == passes {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var veto *hookproto.Veto
			if !errors.As(err, &veto) || !strings.HasSuffix(veto.Reason, "past the gate; connect with "+tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if isOwnName(tt.name) || !isOwnName(ownName(tt.name)) {
				t.Errorf("%q is suggested", ownName(tt.name))
			}
		})
	}
}

func TestAnOpenWithoutANameOrThatCannotBeReadIsNoNameElsewhere(t *testing.T) {
	if err := Check(Remote, 1, args{}.none().u(0)); err != nil {
		t.Errorf("no name: %v", err)
	}
	if err := Check(Remote, 1, args{}.optional("qemu:///system\x00+unix").u(0)); err != nil {
		t.Errorf("a name that ends at its zero byte: %v", err)
	}
	if err := Check(Remote, 1, args{}.u(1).u(100)); err == nil || !strings.Contains(err.Error(), "the arguments of CONNECT_OPEN are not as libvirt 9.0.0 has them") {
		t.Errorf("a name that is not there: %v", err)
	}
	if err := Check(Remote, 34, args{}.domain()); err == nil {
		t.Error("a call that is decided is inspected")
	}
}

func FuzzANameThatPassesHasNoTransport(f *testing.F) {
	f.Add("qemu+unix:///system?socket=/x")
	f.Add("qemu:///system?%73ocket=x")
	f.Fuzz(func(t *testing.T, name string) {
		if !isOwnName(name) {
			return
		}
		before, _, isURI := strings.Cut(name, ":")
		if isURI && strings.Contains(before, "+") || strings.Contains(strings.ToLower(name), "?socket=") {
			t.Errorf("%q passes", name)
		}
		_ = ownName(name)
	})
}
