package doctor

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

	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

// guarded returns a healthy host with the gate in front of libvirtd.
func guarded(t *testing.T) *patient { t.Helper(); return guardedIn(t, unit.Monolithic) }

// guardedIn returns a healthy host with the gate in front of the daemon of a layout. Its sockets
// are real and in the kernel's table. The test holds them open itself; its fake /proc shows other
// processes as their holders.
func guardedIn(t *testing.T, l unit.Layout) *patient {
	t.Helper()
	p := newPatient(t)
	p.Root = hosttest.ShortFolder(t, p.Root)
	p.doctor.sockets = unixSockets
	for _, f := range append([]unit.File{l.Gate}, l.Moves...) {
		p.Put(f.Path, f.Content, 0o644)
	}
	p.Put(host.UnitFolder+"/"+host.GateSocket, unit.Socket, 0o644)
	p.Put(host.UnitFolder+"/"+host.GateService, unit.Service, 0o644)
	p.Link("../"+host.GateSocket, host.UnitFolder+"/sockets.target.wants/"+host.GateSocket)
	p.Link("../"+host.GateService, host.UnitFolder+"/multi-user.target.wants/"+host.GateService)
	p.Folder(unit.UpstreamFolder, "/run/libvirt")
	p.Chmod(unit.UpstreamFolder, 0o700)
	p.listen(gatePID, l.Public)
	p.Chmod(l.Public, 0o666)
	p.Process(gatePID, "stopguard-gate", 0, time.Now())
	p.Program(host.GateProgram)
	p.Link(p.Path(host.GateProgram), fmt.Sprintf("/proc/%d/exe", gatePID))
	p.Process(hosttest.DaemonPID, l.Daemon, 0, time.Now().Add(hosttest.DaemonLater))
	p.connect(gatePID, p.listen(hosttest.DaemonPID, l.Upstream))
	p.Chmod(l.Upstream, 0o600)
	p.listen(hosttest.DaemonPID, l.Public+"-ro")
	if l.Proxy != "" {
		p.Process(proxyPID, l.Proxy, 0, time.Now())
		p.listen(proxyPID, "/run/libvirt/libvirt-sock")
		p.hides(proxyPID)
	}
	p.Folder(monitorFolder + "/domain-1-g1")
	p.Chmod(monitorFolder, 0o750)
	p.Process(guestPID, "qemu-system-x86", 64055, time.Now())
	p.Put(fmt.Sprintf("/proc/%d/cmdline", guestPID), strings.Join(guestArguments, "\x00")+"\x00", 0o444)
	p.connect(hosttest.DaemonPID, p.listen(guestPID, monitorFolder+"/domain-1-g1/monitor.sock"))
	p.Put("/etc/group", "root:x:0:\nkvm:x:107:\nlibvirt:x:106:alice\nlibvirt-qemu:x:64055:libvirt-qemu\n", 0o644)
	p.Put("/usr/share/polkit-1/rules.d/60-libvirt.rules", "org.libvirt.unix.manage", 0o644)
	return p
}

// hides has a process not see the folder of the moved socket, as in the mountinfo of a virtproxyd
// that systemd 252 started with its drop-in.
func (p *patient) hides(pid int) {
	p.Put(fmt.Sprintf("/proc/%d/mountinfo", pid), "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"+
		"463 436 0:25 /systemd/inaccessible/dir /run/stopguard-up ro,nosuid,nodev,noexec shared:264 master:11 - tmpfs tmpfs rw,size=202584k,mode=755\n", 0o444)
}

const (
	gatePID  = 4712
	guestPID = 4713
	otherPID = 4714
	proxyPID = 4715
)

// guestArguments are of a real QEMU that libvirt 9.0 started.
var guestArguments = []string{"/usr/bin/qemu-system-x86_64", "-name", "guest=g1,debug-threads=on", "-S", "-no-user-config",
	"-chardev", "socket,id=charmonitor,fd=32,server=on,wait=off", "-mon", "chardev=charmonitor,id=monitor,mode=control", "-msg", "timestamp=on"}

// holds has a process have a socket of this test open.
func (p *patient) holds(pid int, conn interface {
	File() (*os.File, error)
}) {
	p.T.Helper()
	f, err := conn.File()
	p.Must(err)
	p.T.Cleanup(func() { _ = f.Close() })
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	p.Must(err)
	p.Link(to, fmt.Sprintf("/proc/%d/fd/%d", pid, f.Fd()))
}

// listen makes a process listen.
func (p *patient) listen(pid int, name string) *net.UnixListener {
	p.T.Helper()
	p.Folder(filepath.Dir(name))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.Path(name), Net: "unix"})
	p.Must(err)
	p.T.Cleanup(func() { _ = l.Close() })
	p.holds(pid, l)
	return l
}

// connect connects a process to a listener.
func (p *patient) connect(pid int, to *net.UnixListener) {
	p.T.Helper()
	client, err := net.DialUnix("unix", nil, to.Addr().(*net.UnixAddr))
	p.Must(err)
	server, err := to.AcceptUnix()
	p.Must(err)
	p.T.Cleanup(func() { _, _ = client.Close(), server.Close() })
	p.holds(pid, client)
}

func TestAHostBehindAGateHasNoFinding(t *testing.T) {
	for _, l := range unit.Layouts {
		t.Run(l.Daemon, func(t *testing.T) {
			p := guardedIn(t, l)
			r := p.examine(context.Background())
			if diff := cmp.Diff([]string{}, ill(r)); diff != "" {
				t.Errorf("%s\n%+v", diff, r.Findings)
			}
			if !strings.Contains(fmt.Sprint(r.Findings), "gate-peers") {
				t.Error("nothing was looked at")
			}
		})
	}
}

func TestDoctorSaysNothingOfAGateWhereNoneIs(t *testing.T) {
	for _, f := range newPatient(t).examine(context.Background()).Findings {
		if strings.HasPrefix(f.ID, "gate") {
			t.Errorf("%+v", f)
		}
	}
}

func TestALibvirtThatCallsNoHookIsNoFaultBehindAGate(t *testing.T) {
	p := guarded(t)
	p.Library(hosttest.StockOperations)
	if diff := cmp.Diff([]string{}, ill(p.examine(context.Background()))); diff != "" {
		t.Error(diff)
	}
}

// tapset returns the file in which libvirt lists its procedures.
func tapset(program, last uint32) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  if (program == %d && version == 1) {\n", program)
	for number := uint32(1); number <= last; number++ {
		fmt.Fprintf(&b, "      } else if (proc == %d) {\n          procstr = \"domain_something\";\n", number)
	}
	return b.String()
}

// Each row opens one way around the gate. doctor finds that way and no other.
func TestDoctorFindsEachWayAroundTheGate(t *testing.T) {
	guest := func(p *patient, more ...string) {
		p.Put(fmt.Sprintf("/proc/%d/cmdline", guestPID), strings.Join(append(guestArguments, more...), "\x00")+"\x00", 0o444)
	}
	domain := func(p *patient, args string) {
		p.Put("/etc/libvirt/qemu/g1.xml", "<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>g1</name><uuid>8c24ab34-2b11-40de-a128-75e3f4a5fe11</uuid><q:commandline>"+args+"</q:commandline></domain>", 0o600)
	}
	healthy := guarded(t)
	for _, tt := range []struct {
		name, why string
		plant     func(p *patient)
		want      string // "" if it is not a way around
	}{
		{"not in front", "", func(p *patient) { p.Remove(unit.Monolithic.Move().Path) }, "gate-units: warning"},
		{"another place", "", func(p *patient) { p.Put(unit.Monolithic.Move().Path, "[Socket]\nSocketMode=0666\n", 0o644) }, "gate-units: warning"},
		{"a changed unit", "", func(p *patient) { p.Put(host.UnitFolder+"/"+host.GateService, "[Unit]\n", 0o644) }, "gate-units: warning"},
		{"no unit", "", func(p *patient) { p.Remove(host.UnitFolder + "/" + host.GateService) }, "gate-units: failure"},
		{"units of a package", "", func(p *patient) {
			p.Remove(host.UnitFolder + "/" + host.GateService)
			p.Put("/usr/lib/systemd/system/"+host.GateService, unit.Service, 0o644)
		}, ""},
		{"a gate without its program", "the next boot is without a gate, and so without libvirtd", func(p *patient) { p.Remove(host.GateProgram) }, "gate-owner: failure"},
		{"a program that others can change", "it is not run as root", func(p *patient) { p.Copied(host.GateProgram); p.Chmod(host.GateProgram, 0o777) }, "gate-owner: failure"},
		{"a gate that would not start", "its options are wrong", func(p *patient) { p.Put(host.GateProgram+".does", "fail", 0o644) }, "gate-starts: failure"},
		{"a gate that does not start with the host", "", func(p *patient) { p.Remove(host.UnitFolder + "/sockets.target.wants") }, "gate-units: failure"},

		{"a newer libvirt", "its calls pass", func(p *patient) { p.Put(call.Tapset, tapset(call.Remote, 500), 0o644) }, "gate-procedures: warning"},
		{"a libvirt that the gate knows", "", func(p *patient) { p.Put(call.Tapset, tapset(call.Remote, 450), 0o644) }, ""},
		{"a gate that systemd starts in vain", "its socket is there, and who connects waits for ever", func(p *patient) {
			p.Systemd(map[string]string{"ActiveState --value " + host.GateService: "activating"})
		}, "gate-units: failure"},
		{"a reload that failed", "the next boot is without a gate, and so without libvirtd", func(p *patient) {
			p.Systemd(map[string]string{"StatusText": "not reloaded: gate.conf: line 1: no such flag"})
		}, "gate-listens: warning"},

		{"switched off", "somebody may forget it", func(p *patient) { p.Put(host.GateOff, "", 0o644) }, "gate-off: failure"},

		{"an open folder", "", func(p *patient) { p.Chmod(unit.UpstreamFolder, 0o755) }, "gate-upstream: failure"},
		{"an open socket", "", func(p *patient) { p.Chmod(unit.Monolithic.Upstream, 0o660) }, "gate-upstream: failure"},
		{"a group's folder", "", func(p *patient) { p.Chmod(unit.UpstreamFolder, 0o710) }, "gate-upstream: failure"},
		{"a setting for sockets elsewhere", "", func(p *patient) { p.Put("/etc/libvirt/libvirtd.conf", "unix_sock_dir = \"/run/mine\"\n", 0o644) }, "gate-upstream: warning"},
		{"a setting that is only explained", "", func(p *patient) { p.Put("/etc/libvirt/libvirtd.conf", "#unix_sock_dir = \"/run/mine\"\n", 0o644) }, ""},

		{"virtqemud's socket", "clients try it first", func(p *patient) { p.Put("/run/libvirt/virtqemud-sock", "", 0o666) }, "gate-other-daemon: failure"},
		{"an earlier version's gate", "its unit had the daemon in it", func(p *patient) { p.Remove(unit.Monolithic.Gate.Path) }, "gate-units: warning"},
		{"containers", "they end past the gate", func(p *patient) { p.Process(otherPID, "virtlxcd", 0, time.Now()) }, "gate-other-daemon: warning"},
		{"another daemon since", "systemd has its socket", func(p *patient) {
			p.Systemd(map[string]string{"ActiveState --value virtqemud.socket": "active"})
		}, "gate-other-daemon: failure"},
		{"virtqemud itself", "", func(p *patient) { p.Process(otherPID, "virtqemud", 0, time.Now().Add(time.Minute)) }, "gate-other-daemon: failure"},

		{"TCP", "", func(p *patient) {
			p.Link("/lib/systemd/system/libvirtd-tcp.socket", host.UnitFolder+"/sockets.target.wants/libvirtd-tcp.socket")
		}, "gate-network: failure"},
		{"TLS, started by hand", "", func(p *patient) {
			p.Systemd(map[string]string{"libvirtd-tls": "active"})
		}, "gate-network: failure"},
		{"--listen to come", "", func(p *patient) { p.Put("/etc/default/libvirtd", "LIBVIRTD_ARGS=\"--timeout 120 --listen\"\n", 0o644) }, "gate-network: failure"},
		{"-l to come", "", func(p *patient) { p.Put("/etc/default/libvirtd", "LIBVIRTD_ARGS=\"-l\"\n", 0o644) }, "gate-network: failure"},
		{"no --listen", "", func(p *patient) {
			p.Put("/etc/default/libvirtd", "# --listen is no more\nLIBVIRTD_ARGS=\"--timeout 120\"\n", 0o644)
		}, ""},
		{"--listen", "", func(p *patient) {
			p.Put(fmt.Sprintf("/proc/%d/cmdline", hosttest.DaemonPID), "/usr/sbin/libvirtd\x00--listen\x00", 0o444)
		}, "gate-network: failure"},
		{"a port", "", func(p *patient) {
			l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			p.Must(err)
			p.T.Cleanup(func() { _ = l.Close() })
			p.holds(hosttest.DaemonPID, l)
			p.Link("/proc/self/net/tcp", fmt.Sprintf("/proc/%d/net/tcp", hosttest.DaemonPID))
		}, "gate-network: failure"},

		{"another who listens", "", func(p *patient) {
			p.Process(gatePID, "socat", 0, time.Now())
			p.Link("/usr/bin/socat", fmt.Sprintf("/proc/%d/exe", gatePID))
		},
			"gate-listens: failure, gate-peers: failure"},
		{"libvirtd on its old socket", "", func(p *patient) {
			p.Remove(unit.Monolithic.Public)
			p.listen(hosttest.DaemonPID, unit.Monolithic.Public)
		}, "gate-listens: failure"},
		{"nobody who listens", "", func(p *patient) { p.Remove(fmt.Sprintf("/proc/%d/fd", gatePID)) }, "gate-listens: failure"},
		{"a socket more of libvirtd", "", func(p *patient) { p.listen(hosttest.DaemonPID, "/srv/libvirt-sock") }, "gate-listens: failure"},
		{"a daemon of a user", "it has domains of its own", func(p *patient) {
			p.Process(otherPID, "libvirtd", 1000, time.Now())
			p.listen(otherPID, "/run/user/1000/libvirt/libvirt-sock")
		}, ""},
		{"a user's arguments without end", "they do not take doctor's memory", func(p *patient) {
			p.Process(otherPID, "sleep", 1000, time.Now())
			p.Put(fmt.Sprintf("/proc/%d/cmdline", otherPID), "sleep\x00", 0o644)
			p.Must(os.Truncate(p.Path(fmt.Sprintf("/proc/%d/cmdline", otherPID)), 1<<40))
		}, ""},
		{"a gate that was replaced", "", func(p *patient) { p.Link(p.Path(host.GateProgram)+" (deleted)", fmt.Sprintf("/proc/%d/exe", gatePID)) }, "gate-listens: warning"},

		{"root past the gate", "", func(p *patient) {
			p.Remove(unit.Monolithic.Upstream)
			p.Process(otherPID, "virsh", 0, time.Now())
			p.connect(otherPID, p.listen(hosttest.DaemonPID, unit.Monolithic.Upstream))
			p.Chmod(unit.Monolithic.Upstream, 0o600)
		}, "gate-peers: failure"},

		{"somebody at a monitor", "", func(p *patient) {
			p.Process(otherPID, "socat", 0, time.Now())
			p.connect(otherPID, p.listen(guestPID, monitorFolder+"/domain-2-g2/monitor.sock"))
		}, "gate-monitor-peers: failure"},

		{"a monitor for everybody", "", func(p *patient) {
			p.Chmod(monitorFolder, 0o755)
			p.Chmod(monitorFolder+"/domain-1-g1/monitor.sock", 0o777)
		}, "gate-monitors: failure"},
		{"an open monitor in a closed folder", "", func(p *patient) { p.Chmod(monitorFolder+"/domain-1-g1/monitor.sock", 0o777) }, ""},
		{"a monitor more", "", func(p *patient) { guest(p, "-qmp", "unix:/tmp/mine,server=on") }, "gate-monitors: failure"},
		{"a second -mon", "", func(p *patient) { guest(p, "-mon", "chardev=mine") }, "gate-monitors: failure"},
		{"a monitor for people", "", func(p *patient) { guest(p, "--monitor", "telnet::4444,server") }, "gate-monitors: failure"},
		{"a debugger", "", func(p *patient) { guest(p, "-s") }, "gate-monitors: failure"},
		{"no monitor for people", "", func(p *patient) { guest(p, "-monitor", "none") }, ""},
		{"no monitor for programs", "", func(p *patient) { guest(p, "-qmp", "none", "-qmp-pretty", "none") }, ""},
		{"no debugger", "", func(p *patient) { guest(p, "-gdb", "none") }, ""},
		{"a device called none", "QEMU has no such character device; this is a -mon of its own", func(p *patient) { guest(p, "-mon", "none") }, "gate-monitors: failure"},
		{"no monitor, and one more", "", func(p *patient) { guest(p, "-gdb", "none", "-qmp", "unix:/tmp/mine,server=on") }, "gate-monitors: failure"},
		{"a monitor more, at the next start", "", func(p *patient) { domain(p, "<q:arg value='-qmp'/><q:arg value='unix:/tmp/q'/>") }, "gate-monitors: failure"},
		{"arguments that cannot be read", "a monitor may be among them", func(p *patient) { domain(p, "</q:commandline><cputune><shares>many</shares></cputune><q:commandline>") }, "gate-monitors: warning"},
		{"something else at the next start", "", func(p *patient) { domain(p, "<q:arg value='-cpu'/><q:arg value='host'/>") }, ""},
		{"a user in QEMU's group", "", func(p *patient) { p.Put("/etc/group", "kvm:x:107:alice,root\n", 0o644) }, "gate-monitors: warning"},

		{"a rule for other identities", "", func(p *patient) {
			p.Put("/etc/polkit-1/rules.d/10-mine.rules", `if (action.id == "org.libvirt.api.connect.write") return polkit.Result.YES`, 0o644)
		}, "gate-polkit: warning"},
		{"a protected domain that ends with its client", "no call is made that could be refused", func(p *patient) {
			p.Put(host.GateMetrics, "# TYPE stopguard_gate_autodestroy gauge\nstopguard_gate_autodestroy{domain=\"pg\",protected=\"true\",uuid=\"x\"} 1\n", 0o644)
		}, "autodestroy: warning"},
		{"an unprotected one", "", func(p *patient) {
			p.Put(host.GateMetrics, "# TYPE stopguard_gate_autodestroy gauge\nstopguard_gate_autodestroy{domain=\"ci\",protected=\"false\",uuid=\"x\"} 1\n", 0o644)
		}, ""},
		{"a rule that names no operation", "it refuses a reset, too", func(p *patient) {
			p.Put("/etc/stopguard/policy/web.rego", "package stopguard.rules.web\n\nveto contains \"web\" if input.domain.name == \"web\"\n", 0o644)
		}, "operations: warning"},
		{"metrics that cannot be read", "", func(p *patient) { p.Put(host.GateMetrics, "{{{", 0o644) }, "autodestroy: unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) { healthy.sub(t).finds(tt.why, tt.plant, tt.want) })
	}
}

// finds makes the patient ill, and compares doctor's findings.
func (p *patient) finds(why string, plant func(*patient), want string) {
	t := p.T
	t.Helper()
	plant(p)
	r := p.examine(context.Background())
	if got := strings.Join(ill(r), ", "); got != want {
		t.Errorf("%s\nwant %q, got %q", why, want, got)
	}
	for _, f := range r.Findings {
		if f.Severity != severityOK && f.Cure == "" {
			t.Errorf("%s has no cure", f.ID)
		}
	}
}

func TestDoctorFindsEachWayAroundTheGateOnAModularHost(t *testing.T) {
	healthy := guardedIn(t, unit.Modular)
	for _, tt := range []struct {
		name, why string
		plant     func(p *patient)
		want      string // "" if it is not a way around
	}{
		{"no drop-in of the gate", "it would connect to libvirtd's socket", func(p *patient) { p.Remove(unit.Modular.Gate.Path) }, "gate-units: failure"},
		{"no drop-in of virtproxyd", "the next one sees the folder", func(p *patient) { p.Remove(unit.Modular.Moves[1].Path) }, "gate-units: failure"},
		{"a virtproxyd that started before", "it leads clients to the moved socket", func(p *patient) {
			p.Put(fmt.Sprintf("/proc/%d/mountinfo", proxyPID), "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n", 0o444)
		}, "gate-proxy: failure"},
		{"a virtproxyd with the folder itself mounted", "it is not hidden", func(p *patient) {
			p.Put(fmt.Sprintf("/proc/%d/mountinfo", proxyPID), "463 436 0:25 /stopguard-up /run/stopguard-up rw - tmpfs tmpfs rw\n", 0o444)
		}, "gate-proxy: failure"},
		{"a virtproxyd whose mounts cannot be read", "doctor is not root", func(p *patient) { p.Remove(fmt.Sprintf("/proc/%d/mountinfo", proxyPID)) }, "gate-proxy: unknown"},
		{"a user's process called virtproxyd", "it does not connect as root", func(p *patient) { p.Process(otherPID, "virtproxyd", 1000, time.Now()) }, ""},
		{"no virtproxyd", "", func(p *patient) { p.Remove(fmt.Sprintf("/proc/%d", proxyPID)); p.Remove("/run/libvirt/libvirt-sock") }, ""},
		{"TCP by virtproxyd", "it is decided there", func(p *patient) {
			p.Link("/lib/systemd/system/virtproxyd-tcp.socket", host.UnitFolder+"/sockets.target.wants/virtproxyd-tcp.socket")
			l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			p.Must(err)
			p.T.Cleanup(func() { _ = l.Close() })
			p.holds(proxyPID, l)
			p.Link("/proc/self/net/tcp", fmt.Sprintf("/proc/%d/net/tcp", proxyPID))
		}, ""},
		{"TCP by libvirtd", "", func(p *patient) {
			p.Link("/lib/systemd/system/libvirtd-tcp.socket", host.UnitFolder+"/sockets.target.wants/libvirtd-tcp.socket")
		}, "gate-network: failure"},
		{"libvirtd beside it", "", func(p *patient) { p.Process(otherPID, "libvirtd", 0, time.Now().Add(time.Minute)) }, "gate-other-daemon: failure"},
		{"virtqemud on its old socket", "", func(p *patient) {
			p.Remove(unit.Modular.Public)
			p.listen(hosttest.DaemonPID, unit.Modular.Public)
		}, "gate-listens: failure"},
		{"virtqemud on libvirtd's socket", "no gate is there", func(p *patient) {
			p.Remove("/run/libvirt/libvirt-sock")
			p.listen(hosttest.DaemonPID, "/run/libvirt/libvirt-sock")
		}, "gate-listens: failure"},
		{"a setting for sockets elsewhere", "", func(p *patient) { p.Put("/etc/libvirt/virtqemud.conf", "unix_sock_dir = \"/run/mine\"\n", 0o644) }, "gate-upstream: warning"},
		{"libvirtd's setting", "it is not used", func(p *patient) { p.Put("/etc/libvirt/libvirtd.conf", "unix_sock_dir = \"/run/mine\"\n", 0o644) }, ""},
		{"virtstoraged for everybody", "volumes are deleted past the gate", func(p *patient) { p.listen(otherPID, volumeSocket); p.Chmod(volumeSocket, 0o666) }, "gate-volumes: warning"},
		{"virtstoraged for root", "virtqemud connects as root", func(p *patient) { p.listen(otherPID, volumeSocket); p.Chmod(volumeSocket, 0o600) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) { healthy.sub(t).finds(tt.why, tt.plant, tt.want) })
	}
}

// The operator would look for a person's process, and finds only libvirt's.
func TestDoctorNamesADaemonThatLedAClientPastTheGate(t *testing.T) {
	healthy := guardedIn(t, unit.Modular)
	for _, tt := range []struct{ daemon, cure string }{
		{"virtnwfilterd", "systemctl edit virtnwfilterd.socket, with SocketMode=0600"},
		{"virtproxyd", "systemctl try-restart virtproxyd"},
		{"virtqemud", "find that client: virt-admin -c virtqemud:///system client-list"},
	} {
		t.Run(tt.daemon, func(t *testing.T) {
			p := healthy.sub(t)
			p.Remove(unit.Modular.Upstream)
			p.Process(otherPID, tt.daemon, 0, time.Now())
			p.hides(otherPID)
			p.connect(otherPID, p.listen(hosttest.DaemonPID, unit.Modular.Upstream))
			p.Chmod(unit.Modular.Upstream, 0o600)
			var found finding
			for _, f := range p.examine(context.Background()).Findings {
				if f.ID == "gate-peers" {
					found = f
				}
			}
			if !strings.Contains(found.What, tt.daemon) || !strings.Contains(found.What, "a client was led there by it") || !strings.Contains(found.Cure, tt.cure) {
				t.Errorf("%+v", found)
			}
		})
	}
}
