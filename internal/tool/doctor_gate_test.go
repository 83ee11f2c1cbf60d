package tool

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/gate/unit"
)

// guarded is a healthy host with the gate in front of libvirtd. Its sockets are real and in the kernel's table; the
// processes that have them open are this test, under the names and with the programs that its /proc gives them.
func guarded(t *testing.T) *patient {
	t.Helper()
	p := healthy(t)
	p.root = shortFolder(t, p.root)
	p.doctor.sockets = unixSockets
	p.put(gateMove, unit.Move, 0o644)
	p.put(unitFolder+"/"+gateSocket, unit.Socket, 0o644)
	p.put(unitFolder+"/"+gateService, unit.Service, 0o644)
	p.link("../"+gateSocket, unitFolder+"/sockets.target.wants/"+gateSocket)
	p.link("../"+gateService, unitFolder+"/multi-user.target.wants/"+gateService)
	p.folder(upstreamFolder, "/run/libvirt")
	p.chmod(upstreamFolder, 0o700)
	p.listen(gatePID, publicSocket)
	p.chmod(publicSocket, 0o666)
	p.process(gatePID, "stopguard-gate", 0, time.Now())
	p.program(gateProgram)
	p.link(p.path(gateProgram), fmt.Sprintf("/proc/%d/exe", gatePID))
	p.connect(gatePID, p.listen(daemonPID, upstreamSocket))
	p.chmod(upstreamSocket, 0o600)
	p.listen(daemonPID, publicSocket+"-ro")
	p.folder(monitorFolder + "/domain-1-g1")
	p.chmod(monitorFolder, 0o750)
	p.process(guestPID, "qemu-system-x86", 64055, time.Now())
	p.put(fmt.Sprintf("/proc/%d/cmdline", guestPID), strings.Join(guestArguments, "\x00")+"\x00", 0o444)
	p.connect(daemonPID, p.listen(guestPID, monitorFolder+"/domain-1-g1/monitor.sock"))
	p.put("/etc/group", "root:x:0:\nkvm:x:107:\nlibvirt:x:106:alice\nlibvirt-qemu:x:64055:libvirt-qemu\n", 0o644)
	p.put("/usr/share/polkit-1/rules.d/60-libvirt.rules", "org.libvirt.unix.manage", 0o644)
	return p
}

const (
	gatePID  = 4712
	guestPID = 4713
	otherPID = 4714
)

// guestArguments are of a real QEMU that libvirt 9.0 started.
var guestArguments = []string{"/usr/bin/qemu-system-x86_64", "-name", "guest=g1,debug-threads=on", "-S", "-no-user-config",
	"-chardev", "socket,id=charmonitor,fd=32,server=on,wait=off", "-mon", "chardev=charmonitor,id=monitor,mode=control", "-msg", "timestamp=on"}

// shortFolder gives a folder another name: nothing can be bound to a long one.
func shortFolder(t *testing.T, folder string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	short := filepath.Join(dir, "r")
	if err := os.Rename(folder, short); err != nil {
		t.Fatal(err)
	}
	return short
}

// holds has a process have a socket of this test open.
func (p *patient) holds(pid int, conn interface {
	File() (*os.File, error)
}) {
	p.t.Helper()
	f, err := conn.File()
	p.must(err)
	p.t.Cleanup(func() { _ = f.Close() })
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	p.must(err)
	p.link(to, fmt.Sprintf("/proc/%d/fd/%d", pid, f.Fd()))
}

// listen makes a process listen.
func (p *patient) listen(pid int, name string) *net.UnixListener {
	p.t.Helper()
	p.must(os.MkdirAll(p.path(filepath.Dir(name)), 0o755))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path(name), Net: "unix"})
	p.must(err)
	p.t.Cleanup(func() { _ = l.Close() })
	p.holds(pid, l)
	return l
}

// connect connects a process to whoever listens.
func (p *patient) connect(pid int, to *net.UnixListener) {
	p.t.Helper()
	client, err := net.DialUnix("unix", nil, to.Addr().(*net.UnixAddr))
	p.must(err)
	server, err := to.AcceptUnix()
	p.must(err)
	p.t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	p.holds(pid, client)
}

func TestAHostBehindAGateHasNoFinding(t *testing.T) {
	p := guarded(t)
	r := p.examine(context.Background())
	if diff := cmp.Diff([]string{}, ill(r)); diff != "" {
		t.Errorf("%s\n%+v", diff, r.Findings)
	}
	if !strings.Contains(fmt.Sprint(r.Findings), "gate-peers") {
		t.Error("nothing was looked at")
	}
}

func TestDoctorSaysNothingOfAGateWhereNoneIs(t *testing.T) {
	for _, f := range healthy(t).examine(context.Background()).Findings {
		if strings.HasPrefix(f.ID, "gate") {
			t.Errorf("%+v", f)
		}
	}
}

func TestALibvirtThatCallsNoHookIsNoFaultBehindAGate(t *testing.T) {
	p := guarded(t)
	p.library(stockOperations)
	if diff := cmp.Diff([]string{}, ill(p.examine(context.Background()))); diff != "" {
		t.Error(diff)
	}
}

// Each row opens one way around the gate, and doctor finds that, and nothing else.
func TestDoctorFindsEachWayAroundTheGate(t *testing.T) {
	guest := func(p *patient, more ...string) {
		p.put(fmt.Sprintf("/proc/%d/cmdline", guestPID), strings.Join(append(guestArguments, more...), "\x00")+"\x00", 0o444)
	}
	domain := func(p *patient, args string) {
		p.put("/etc/libvirt/qemu/g1.xml", "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:commandline>"+args+"</q:commandline></domain>", 0o600)
	}
	for _, tt := range []struct {
		name, why string
		plant     func(p *patient)
		want      string // "" if it is none
	}{
		{"not in front", "", func(p *patient) { p.remove(gateMove) }, "gate-units: warning"},
		{"another place", "", func(p *patient) { p.put(gateMove, "[Socket]\nSocketMode=0666\n", 0o644) }, "gate-units: warning"},
		{"a changed unit", "", func(p *patient) { p.put(unitFolder+"/"+gateService, "[Unit]\n", 0o644) }, "gate-units: warning"},
		{"no unit", "", func(p *patient) { p.remove(unitFolder + "/" + gateService) }, "gate-units: failure"},
		{"units of a package", "", func(p *patient) {
			p.remove(unitFolder + "/" + gateService)
			p.put("/usr/lib/systemd/system/"+gateService, unit.Service, 0o644)
		}, ""},
		{"a gate without its program", "the next boot is without a gate, and so without libvirtd", func(p *patient) { p.remove(gateProgram) }, "gate-owner: failure"},
		{"a program that others can change", "it is not run as root", func(p *patient) { p.copied(gateProgram); p.chmod(gateProgram, 0o777) }, "gate-owner: failure"},
		{"a gate that would not start", "its options are wrong", func(p *patient) { p.put(gateProgram+".does", "fail", 0o644) }, "gate-starts: failure"},
		{"a gate that does not start with the host", "", func(p *patient) { p.remove(unitFolder + "/sockets.target.wants") }, "gate-units: failure"},

		{"a gate that systemd starts in vain", "its socket is there, and who connects waits for ever", func(p *patient) {
			p.systemd(map[string]string{"ActiveState --value " + gateService: "activating", "StateChange": at(time.Now().Add(time.Minute))})
		}, "gate-units: failure"},
		{"a reload that failed", "the next boot is without a gate, and so without libvirtd", func(p *patient) {
			p.systemd(map[string]string{"StatusText": "not reloaded: gate.conf: line 1: no such flag", "StateChange": at(time.Now().Add(time.Minute))})
		}, "gate-listens: warning"},

		{"switched off", "somebody may forget it", func(p *patient) { p.put(gateOff, "", 0o644) }, "gate-off: failure"},

		{"an open folder", "", func(p *patient) { p.chmod(upstreamFolder, 0o755) }, "gate-upstream: failure"},
		{"an open socket", "", func(p *patient) { p.chmod(upstreamSocket, 0o660) }, "gate-upstream: failure"},
		{"a group's folder", "", func(p *patient) { p.chmod(upstreamFolder, 0o710) }, "gate-upstream: failure"},
		{"a setting for sockets elsewhere", "", func(p *patient) { p.put("/etc/libvirt/libvirtd.conf", "unix_sock_dir = \"/run/mine\"\n", 0o644) }, "gate-upstream: warning"},
		{"a setting that is only explained", "", func(p *patient) { p.put("/etc/libvirt/libvirtd.conf", "#unix_sock_dir = \"/run/mine\"\n", 0o644) }, ""},

		{"virtqemud's socket", "clients try it first", func(p *patient) { p.put("/run/libvirt/virtqemud-sock", "", 0o666) }, "gate-other-daemon: failure"},
		{"virtqemud itself", "", func(p *patient) { p.process(otherPID, "virtqemud", 0, time.Now().Add(time.Minute)) }, "gate-other-daemon: failure"},

		{"TCP", "", func(p *patient) {
			p.link("/lib/systemd/system/libvirtd-tcp.socket", unitFolder+"/sockets.target.wants/libvirtd-tcp.socket")
		}, "gate-network: failure"},
		{"TLS, started by hand", "", func(p *patient) {
			p.systemd(map[string]string{"libvirtd-tls": "active", "StateChange": at(time.Now())})
		}, "gate-network: failure"},
		{"--listen to come", "", func(p *patient) { p.put("/etc/default/libvirtd", "LIBVIRTD_ARGS=\"--timeout 120 --listen\"\n", 0o644) }, "gate-network: failure"},
		{"-l to come", "", func(p *patient) { p.put("/etc/default/libvirtd", "LIBVIRTD_ARGS=\"-l\"\n", 0o644) }, "gate-network: failure"},
		{"no --listen", "", func(p *patient) {
			p.put("/etc/default/libvirtd", "# --listen is no more\nLIBVIRTD_ARGS=\"--timeout 120\"\n", 0o644)
		}, ""},
		{"--listen", "", func(p *patient) {
			p.put(fmt.Sprintf("/proc/%d/cmdline", daemonPID), "/usr/sbin/libvirtd\x00--listen\x00", 0o444)
		}, "gate-network: failure"},
		{"a port", "", func(p *patient) {
			l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			p.must(err)
			p.t.Cleanup(func() { _ = l.Close() })
			p.holds(daemonPID, l)
			p.link("/proc/self/net/tcp", fmt.Sprintf("/proc/%d/net/tcp", daemonPID))
		}, "gate-network: failure"},

		{"another who listens", "", func(p *patient) {
			p.process(gatePID, "socat", 0, time.Now())
			p.link("/usr/bin/socat", fmt.Sprintf("/proc/%d/exe", gatePID))
		},
			"gate-listens: failure, gate-peers: failure"},
		{"libvirtd on its old socket", "", func(p *patient) {
			p.remove(publicSocket)
			p.listen(daemonPID, publicSocket)
		}, "gate-listens: failure"},
		{"nobody who listens", "", func(p *patient) { p.remove(fmt.Sprintf("/proc/%d/fd", gatePID)) }, "gate-listens: failure"},
		{"a socket more of libvirtd", "", func(p *patient) { p.listen(daemonPID, "/srv/libvirt-sock") }, "gate-listens: failure"},
		{"a daemon of a user", "it has domains of its own", func(p *patient) {
			p.process(otherPID, "libvirtd", 1000, time.Now())
			p.listen(otherPID, "/run/user/1000/libvirt/libvirt-sock")
		}, ""},
		{"a gate that was replaced", "", func(p *patient) { p.link(p.path(gateProgram)+" (deleted)", fmt.Sprintf("/proc/%d/exe", gatePID)) }, "gate-listens: warning"},

		{"root past the gate", "", func(p *patient) {
			p.remove(upstreamSocket)
			p.process(otherPID, "virsh", 0, time.Now())
			p.connect(otherPID, p.listen(daemonPID, upstreamSocket))
			p.chmod(upstreamSocket, 0o600)
		}, "gate-peers: failure"},

		{"somebody at a monitor", "", func(p *patient) {
			p.process(otherPID, "socat", 0, time.Now())
			p.connect(otherPID, p.listen(guestPID, monitorFolder+"/domain-2-g2/monitor.sock"))
		}, "gate-monitor-peers: failure"},

		{"a monitor for everybody", "", func(p *patient) {
			p.chmod(monitorFolder, 0o755)
			p.chmod(monitorFolder+"/domain-1-g1/monitor.sock", 0o777)
		}, "gate-monitors: failure"},
		{"an open monitor in a closed folder", "", func(p *patient) { p.chmod(monitorFolder+"/domain-1-g1/monitor.sock", 0o777) }, ""},
		{"a monitor more", "", func(p *patient) { guest(p, "-qmp", "unix:/tmp/mine,server=on") }, "gate-monitors: failure"},
		{"a second -mon", "", func(p *patient) { guest(p, "-mon", "chardev=mine") }, "gate-monitors: failure"},
		{"a monitor for people", "", func(p *patient) { guest(p, "--monitor", "telnet::4444,server") }, "gate-monitors: failure"},
		{"a debugger", "", func(p *patient) { guest(p, "-s") }, "gate-monitors: failure"},
		{"no monitor for people", "", func(p *patient) { guest(p, "-monitor", "none") }, ""},
		{"a monitor more, at the next start", "", func(p *patient) { domain(p, "<q:arg value='-qmp'/><q:arg value='unix:/tmp/q'/>") }, "gate-monitors: failure"},
		{"something else at the next start", "", func(p *patient) { domain(p, "<q:arg value='-cpu'/><q:arg value='host'/>") }, ""},
		{"a user in QEMU's group", "", func(p *patient) { p.put("/etc/group", "kvm:x:107:alice,root\n", 0o644) }, "gate-monitors: warning"},

		{"a rule for other identities", "", func(p *patient) {
			p.put("/etc/polkit-1/rules.d/10-mine.rules", `if (action.id == "org.libvirt.api.connect.write") return polkit.Result.YES`, 0o644)
		}, "gate-polkit: warning"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := guarded(t)
			tt.plant(p)
			r := p.examine(context.Background())
			if got := strings.Join(ill(r), ", "); got != tt.want {
				t.Errorf("%s\nwant %q, got %q", tt.why, tt.want, got)
			}
			for _, f := range r.Findings {
				if f.Severity != severityOK && f.Cure == "" {
					t.Errorf("%s has no cure", f.ID)
				}
			}
		})
	}
}
