//go:build e2e

package stop

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// destination is another host with a libvirtd and a hook of its own, in a mount namespace of its
// own. It shares the network and the disks of the guests that there are.
const destination = `set -e
hostname dsthost
mkdir -p /var/cache/dst-images /var/cache/dst-hooks
mount --bind /var/lib/libvirt/images /var/cache/dst-images
mount --bind /etc/libvirt/hooks /var/cache/dst-hooks
for dir in /run /etc/libvirt /var/lib/libvirt /var/log /etc/stopguard /var/lib/stopguard; do mount -t tmpfs -o mode=755 none "$dir"; done
mkdir -p /var/lib/libvirt/images /etc/libvirt/hooks /run/lock /var/log/libvirt/qemu
for disk in /var/cache/dst-images/*.img; do
  touch "/var/lib/libvirt/images/${disk##*/}"
  mount --bind "$disk" "/var/lib/libvirt/images/${disk##*/}"
done
mount --bind /var/cache/dst-hooks /etc/libvirt/hooks
cat > /etc/libvirt/qemu.conf <<END
cgroup_controllers = []
security_driver = "none"
namespaces = []
stdio_handler = "file"
dynamic_ownership = 0
END
cat > /etc/libvirt/libvirtd.conf <<END
host_uuid = "00112233-4455-6677-8899-aabbccddeeff"
listen_tls = 0
listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "16510"
auth_tcp = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
END
while :; do
  status=0
  libvirtd -l -f /etc/libvirt/libvirtd.conf & echo $! > /var/cache/dst.pid
  wait $! || status=$?
done
`

const (
	there       = "qemu+tcp://127.0.0.1:16510/system"
	daemonThere = "/var/cache/dst.pid"

	// duringMove is virsh's text for the state that a status file calls paused, with the reason
	// migration.
	duringMove = "paused (migrating)"
)

func (h *host) otherHost() {
	h.Doing = "the other host is started"
	h.Run("ip", "link", "set", "lo", "up")
	h.File("/var/cache/dst.sh", destination, 0o600)
	h.Run("sh", "-c", "unshare -m -u sh /var/cache/dst.sh >/var/cache/dst.log 2>&1 &")
	h.Until("the other daemon answers", func() bool { return h.onThere("uri").Exit == 0 })
}

func (h *host) onThere(args ...string) e2ehost.Answer {
	return h.Command("", h.Environment(), "virsh", append([]string{"-c", there}, args...)...)
}

// stateThere returns the state of a domain on the other host; "none" if the domain does not exist.
func (h *host) stateThere(g e2ehost.Guest) string {
	got := h.onThere("domstate", "--reason", g.UUID)
	if got.Exit != 0 {
		return "none"
	}
	return strings.TrimSpace(got.Stdout)
}

// migrate starts a client that migrates a guest to the other host, by its source and destination
// sockets. It is killed when the function that is returned is called.
func (h *host) migrate(g e2ehost.Guest, from, to string) (kill func()) {
	client := exec.Command("virsh", "-c", from, "migrate", "--live", "--unsafe", g.UUID, to, "tcp://127.0.0.1")
	client.Env = h.Environment()
	client.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := client.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	return func() {
		_ = client.Process.Kill()
		_ = client.Wait()
	}
}

// brokenMove breaks a migration of a marked guest, and tries to destroy the rest at the source.
func (h *host) brokenMove() {
	h.StartDaemon()
	h.guest(marked)
	h.otherHost()
	h.Doing = "a migration whose client dies before it asks the other daemon to finish"
	p := h.proxy("tcp", "127.0.0.1:16510", finish3)
	kill := h.migrate(marked, "qemu:///system", "qemu+tcp://"+p.address+"/system")
	h.Until("the source has sent the guest", p.isHolding)
	kill()
	h.Until("the source notices", func() bool { return strings.Contains(h.Virsh("domjobinfo", marked.UUID).Stdout, "None") })
	h.records(marked)
	step := func(name string, do func() e2ehost.Answer) {
		h.Doing = name
		h.observe(name, marked, do())
	}
	step("the source is destroyed", func() e2ehost.Answer { return destroy(h, marked) })
	step("the source is destroyed after a restart of its daemon", func() e2ehost.Answer {
		h.EndDaemon(syscall.SIGTERM)
		h.StartDaemon()
		return destroy(h, marked)
	})
	step("the incoming guest ends with its connection", func() e2ehost.Answer {
		p.close()
		h.Within(e2ehost.Patience/2, func() bool { return h.stateThere(marked) == "none" })
		return e2ehost.Answer{Stdout: h.stateThere(marked)}
	})
	step("the source goes on", func() e2ehost.Answer { return h.Virsh("resume", marked.UUID) })
	step("the source is destroyed while it runs", func() e2ehost.Answer { return destroy(h, marked) })
}

func TestTheSourceOfABrokenMigrationIsNotLetGo(t *testing.T) {
	t.Parallel()
	seen := on(t, "broken move")
	for i, want := range []struct{ state, fails, stdout, memory, outcomes string }{
		{duringMove, "stopguard: veto: pg-primary-01: ", "", "", "veto"},
		{duringMove, "stopguard: veto: pg-primary-01: ", "", "", "veto"},
		{duringMove, "", "none", "", ""},
		{"running (unpaused)", "", "", e2ehost.Kept, ""},
		{"running (unpaused)", markVeto, "", e2ehost.Kept, "veto"},
	} {
		s := seen[i]
		t.Run(s.Name, func(t *testing.T) {
			if (s.Answer.Exit == 0) != (want.fails == "") || !strings.Contains(s.Answer.Stderr, want.fails) || want.stdout != "" && s.Answer.Stdout != want.stdout {
				t.Errorf("virsh: %+v, want %q", s.Answer, want.fails)
			}
			if s.State != want.state || s.Memory != want.memory || s.Outcomes != want.outcomes {
				t.Errorf("%+v, want %+v", s, want)
			}
			if i < 2 {
				for _, word := range []string{"paused (migration)", "stopguard ticket grant pg-primary-01"} {
					if !strings.Contains(s.Answer.Stderr, word) {
						t.Errorf("the reason does not name %q: %s", word, s.Answer.Stderr)
					}
				}
			}
		})
	}
}

// When a daemon is killed: before its client dies, or after, when it is in the middle of its own
// stop of the domain.
const (
	never  = ""
	before = "before"
	after  = "after"
)

// failedMoves breaks migrations at the destination, where nothing may be left. The source may be
// paused meanwhile, and continues.
func (h *host) failedMoves() {
	h.StartDaemon()
	h.guest(marked)
	h.otherHost()
	for _, c := range []struct {
		name    string
		hold    uint32 // the call at which the client dies
		restart string // when the other daemon is killed, too
	}{
		{"the client dies before the guest is sent", perform3, never},
		{"the client and the other daemon die before the guest is sent", perform3, before},
		{"the client dies when the guest is sent", finish3, never},
		{"the client and the other daemon die when the guest is sent", finish3, before},
		{"the other daemon is killed while it cleans up", perform3, after},
	} {
		h.Doing = c.name
		var p *proxy
		var kill func()
		if c.hold == perform3 {
			p = h.proxy("unix", "/run/libvirt/libvirt-sock", c.hold)
			kill = h.migrate(marked, "qemu+unix:///system?socket="+p.address, there)
		} else {
			p = h.proxy("tcp", "127.0.0.1:16510", c.hold)
			kill = h.migrate(marked, "qemu:///system", "qemu+tcp://"+p.address+"/system")
		}
		h.Until("the client makes the call", p.isHolding)
		if got := h.stateThere(marked); got != duringMove {
			h.Fatalf("the domain there is %s", got)
		}
		daemon := h.PID(daemonThere)
		if c.restart == before {
			h.Signal(daemon, syscall.SIGKILL)
		}
		kill()
		p.close()
		if c.restart == after {
			h.Signal(daemon, syscall.SIGKILL)
		}
		h.Until("the other daemon answers", func() bool { return h.onThere("uri").Exit == 0 })
		if c.restart == after && h.stateThere(marked) != "none" {
			h.onThere("destroy", marked.UUID) // libvirt 9.0 leaves the domain to the operator, who must be able to destroy it
		}
		h.Within(e2ehost.Patience/2, func() bool { return h.stateThere(marked) == "none" })
		h.Until("the source's job ends", func() bool { return strings.Contains(h.Virsh("domjobinfo", marked.UUID).Stdout, "None") })
		if h.State(marked) == duringMove {
			h.VirshOK("resume", marked.UUID)
		}
		h.observe(c.name, marked, e2ehost.Answer{Stdout: h.stateThere(marked)})
	}
}

func TestAFailedIncomingMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range on(t, "failed moves") {
		t.Run(s.Name, func(t *testing.T) {
			if s.Answer.Stdout != "none" {
				t.Errorf("at the destination it is %s", s.Answer.Stdout)
			}
			if !strings.HasPrefix(s.State, "running") || s.Memory != e2ehost.Kept {
				t.Errorf("at the source it is %s, and its memory %q", s.State, s.Memory)
			}
		})
	}
}
