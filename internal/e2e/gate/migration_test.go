//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// destinationHost makes another host, which shares the folder of disks and the network.
const destinationHost = `set -e
hostname dsthost
mkdir -p /run/dst-images
mount --bind /var/lib/libvirt/images /run/dst-images
for dir in /run/libvirt /etc/libvirt /var/lib/libvirt; do mount -t tmpfs -o mode=755 none "$dir"; done
mkdir -p /var/lib/libvirt/images
mount --bind /run/dst-images /var/lib/libvirt/images
mkdir -m 700 /run/dst-up
cat > /etc/libvirt/qemu.conf <<END
cgroup_controllers = []
security_driver = "none"
namespaces = []
stdio_handler = "file"
END
`

// destination is another daemon with a gate of its own. It is reached by its gate's socket, or by
// TCP as daemons reach each other.
const destination = destinationHost + `
cat > /etc/libvirt/libvirtd.conf <<END
unix_sock_dir = "/run/dst-up"
host_uuid = "00112233-4455-6677-8899-aabbccddeeff"
listen_tls = 0
listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "16510"
auth_tcp = "none"
END
"$STOPGUARD_E2E_GATE" -listen /run/dst-sock -upstream /run/dst-up/libvirt-sock &
exec libvirtd -l -f /etc/libvirt/libvirtd.conf -p /run/dst.pid
`

// modularDestination is the same with virtqemud, and virtproxyd for what comes by TCP, which goes
// through the gate.
const modularDestination = destinationHost + `
cat > /etc/libvirt/virtqemud.conf <<END
unix_sock_dir = "/run/dst-up"
host_uuid = "00112233-4455-6677-8899-aabbccddeeff"
END
cat > /etc/libvirt/virtproxyd.conf <<END
listen_tls = 0
listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "16510"
auth_tcp = "none"
END
ln -s /run/dst-sock /run/libvirt/virtqemud-sock
"$STOPGUARD_E2E_GATE" -listen /run/dst-sock -upstream /run/dst-up/virtqemud-sock &
virtproxyd -f /etc/libvirt/virtproxyd.conf -p /run/dst-proxy.pid &
exec virtqemud -f /etc/libvirt/virtqemud.conf -p /run/dst.pid
`

const (
	toGate   = "qemu+unix:///system?socket=/run/dst-sock"
	toDaemon = "qemu+tcp://127.0.0.1:16510/system"
)

// startOther starts the other host by a script.
func (h *host) startOther(script string) {
	h.Doing = "the other host is started"
	h.Run("ip", "link", "set", "lo", "up")
	h.File("/run/dst.sh", script, 0o600)
	h.Run("sh", "-c", "export "+e2ehost.GateVariable+"="+os.Getenv(e2ehost.GateVariable)+"; unshare -m -u sh /run/dst.sh >/run/dst.log 2>&1 &")
	h.Until("the other daemon answers", func() bool { return h.there("uri").Exit == 0 })
}

func (h *host) migration() {
	h.begin()
	script := destination
	if e2ehost.Modular != "" {
		script = modularDestination
	}
	h.startOther(script)
	for _, g := range []e2ehost.Guest{guarded, free, control} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
	}
	h.Remind(guarded)
	move := func(name string, g e2ehost.Guest, args ...string) {
		h.Doing = name
		got := h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), "virsh", append([]string{"-c", "qemu:///system", "migrate", "--live", "--unsafe", g.Name}, args...)...)
		h.seen = append(h.seen, step{
			Name: name, Through: got, State: h.State(g), Direct: h.there("domstate", "--reason", g.Name),
		})
	}
	move("a protected domain", guarded, toGate, "tcp://127.0.0.1")
	move("a protected domain, from daemon to daemon", guarded, "--p2p", toDaemon, "tcp://127.0.0.1")
	h.seen[len(h.seen)-1].Memory = h.Ask(guarded)
	move("another", free, toGate, "tcp://127.0.0.1")
	move("another, from daemon to daemon, tunnelled", control, "--p2p", "--tunnelled", toDaemon)
}

// there runs virsh on the other host, through its gate.
func (h *host) there(args ...string) e2ehost.Answer {
	return h.Command("", h.Environment(), "virsh", append([]string{"-c", toGate}, args...)...)
}

func TestADomainMovesUnlessItIsProtected(t *testing.T) {
	seen := on(t, "migration")
	for i, want := range []struct {
		vetoed bool
		memory string
	}{{true, ""}, {true, e2ehost.Kept}, {false, ""}, {false, ""}} {
		s := seen[i]
		t.Run(s.Name, func(t *testing.T) {
			if s.Memory != want.memory {
				t.Errorf("its memory is %s", s.Memory)
			}
			if want.vetoed {
				if s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, veto("protected-01")+"\n") {
					t.Errorf("it is not vetoed: %+v", s.Through)
				}
				if !strings.HasPrefix(s.State, "running") || s.Direct.Exit == 0 {
					t.Errorf("here it is %s, there %+v", s.State, s.Direct)
				}
				return
			}
			if s.Through.Exit != 0 || s.State != "shut off (migrated)" || strings.TrimSpace(s.Direct.Stdout) != "running (migrated)" {
				t.Errorf("%+v; here it is %s, there %+v", s.Through, s.State, s.Direct)
			}
		})
	}
}

// crossing moves domains from a host with virtqemud to one with libvirtd, and back.
func (h *host) crossing() {
	h.begin()
	h.startOther(destination)
	for _, g := range []e2ehost.Guest{guarded, free, control} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
	}
	const (
		here  = "qemu:///system"
		byTCP = "qemu+tcp://127.0.0.1/system" // virtproxyd's
	)
	move := func(name, from string, g e2ehost.Guest, args ...string) {
		h.Doing = name
		got := h.CommandWithin(3*e2ehost.Patience, "", h.Environment(), "virsh", append([]string{"-c", from, "migrate", "--live", "--unsafe", g.Name}, args...)...)
		h.seen = append(h.seen, step{Name: name, Through: got, State: h.State(g), Direct: h.there("domstate", "--reason", g.Name)})
	}
	move("from virtqemud, a protected domain", here, guarded, toGate, "tcp://127.0.0.1")
	move("from virtqemud, a protected domain, from daemon to daemon", here, guarded, "--p2p", toDaemon, "tcp://127.0.0.1")
	move("from virtqemud", here, free, toGate, "tcp://127.0.0.1")
	move("from virtqemud, from daemon to daemon", here, control, "--p2p", "--tunnelled", toDaemon)
	h.File("/etc/stopguard/gate-off", "", 0o644)
	move("from virtqemud, with the gate off", here, guarded, toGate, "tcp://127.0.0.1")
	h.Run("rm", "/etc/stopguard/gate-off")
	move("from libvirtd, a protected domain", toGate, guarded, here, "tcp://127.0.0.1")
	move("from libvirtd, a protected domain, from daemon to daemon", toGate, guarded, "--p2p", byTCP, "tcp://127.0.0.1")
	move("from libvirtd", toGate, free, here, "tcp://127.0.0.1")
	move("from libvirtd, from daemon to daemon", toGate, control, "--p2p", "--tunnelled", byTCP)
}

func TestADomainMovesBetweenTheLayouts(t *testing.T) {
	if e2ehost.Modular == "" {
		t.Skip("there is one layout; .ci/e2e runs this with virtqemud, too")
	}
	const goes, left = "running (migrated)", "shut off (migrated)"
	seen := on(t, "crossing")
	for _, s := range seen {
		t.Run(s.Name, func(t *testing.T) {
			there := strings.TrimSpace(s.Direct.Stdout)
			isBack := strings.HasPrefix(s.Name, "from libvirtd")
			if strings.Contains(s.Name, "a protected domain") {
				if s.Through.Exit != 1 || !strings.Contains(s.Through.Stderr, veto("protected-01")+"\n") {
					t.Errorf("it is not vetoed: %+v", s.Through)
				}
				if isRunning := strings.HasPrefix(s.State, "running"); isRunning == isBack || isBack != (there == goes) {
					t.Errorf("here it is %s, there %s", s.State, there)
				}
				return
			}
			source, want, target := s.State, left, there
			if isBack { // it has no definition there
				source, want, target = there, "", s.State
			}
			if s.Through.Exit != 0 || source != want || target != goes {
				t.Errorf("%+v; here it is %s, there %s", s.Through, s.State, s.Direct.Stdout)
			}
		})
	}
	if len(seen) != 9 {
		t.Errorf("%d moves", len(seen))
	}
}
