package hookproto

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	if !strings.HasPrefix(path, "@") {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func connect(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func accept(t *testing.T, l *net.UnixListener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// missing skips a test if a part is missing. In CI, which must have it, missing fails the test.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// putDaemon replaces the host's daemon; "" removes it.
func (h Host) putDaemon(t *testing.T, name string) {
	t.Helper()
	remove(t, h.Root+"/run/libvirtd.pid")
	if name != "" {
		putFile(t, h.Root+"/run/"+name+".pid", fmt.Sprintln(testDaemon(t, name)))
	}
}

func TestAProcessWithoutAMonitorConnectionIsLeaving(t *testing.T) {
	if err := namedUnixSockets(func(UnixSocket) {}); err != nil {
		missing(t, "this kernel gives no socket table: %v", err)
	}
	const monitor = stageMonitor
	daemon := func(t *testing.T, h Host) { listen(t, h.Root+"/run/libvirt/libvirt-sock") }
	connected := func(path string) func(t *testing.T, h Host) {
		return func(t *testing.T, h Host) {
			l := listen(t, h.Root+path)
			connect(t, h.Root+path)
			accept(t, l)
		}
	}
	none := func(*testing.T, Host) {}
	const status, noStatus = true, false
	pid := guest(t, 0, "-uuid", uuid).Process.Pid
	for _, tt := range []struct {
		why     string
		daemon  func(*testing.T, Host)
		status  bool
		monitor func(*testing.T, Host)
		life    Liveness
	}{
		{"connected", daemon, status, connected(monitor), Alive},
		{"connected, found by its id", daemon, noStatus, connected(monitor), Alive},
		{"connected without a daemon to be seen", none, status, connected(monitor), Alive},
		{"nothing there", daemon, status, none, Gone},
		{"nothing there, looked for by its id", daemon, noStatus, none, Gone},
		{"nothing there, but the daemon's socket does not show either", none, status, none, Alive},
		{"nothing there, looked for by its id, and no daemon", none, noStatus, none, Alive},
		{"a modular daemon", func(t *testing.T, h Host) {
			h.putDaemon(t, "virtqemud")
			listen(t, h.Root+"/run/libvirt/virtqemud-sock")
		}, status, none, Gone},
		{"a modular daemon whose socket is not to be seen, beside virtproxyd's", func(t *testing.T, h Host) {
			h.putDaemon(t, "virtqemud")
			listen(t, h.Root+"/run/libvirt/libvirt-sock")
		}, status, none, Alive},
		{"no daemon, but its socket, which systemd holds", func(t *testing.T, h Host) {
			h.putDaemon(t, "")
			listen(t, h.Root+"/run/libvirt/libvirt-sock")
		}, status, none, Unknown},
		{"no daemon, but its socket, and no status file to tell the monitor's path", func(t *testing.T, h Host) {
			h.putDaemon(t, "")
			listen(t, h.Root+"/run/libvirt/libvirt-sock")
		}, noStatus, none, Alive},
		{"no daemon, and connected", func(t *testing.T, h Host) { h.putDaemon(t, "") }, status, connected(monitor), Alive},
		{"a daemon on an older system", func(t *testing.T, h Host) { listen(t, h.Root+"/var/run/libvirt/libvirt-sock") }, status, none, Gone},
		{"a daemon's socket in a folder of the same name", func(t *testing.T, h Host) { listen(t, h.Root+"/x/run/libvirt/libvirt-sock") }, status, none, Alive},
		{"a daemon's socket that nobody listens on", func(t *testing.T, h Host) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			must(t, err)
			t.Cleanup(func() { _ = syscall.Close(fd) })
			must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: h.Root + "/run/libvirt/libvirt-sock"}))
		}, status, none, Alive},
		{"a daemon's socket that is abstract", func(t *testing.T, h Host) { listen(t, "@"+h.Root+"/run/libvirt/libvirt-sock") }, status, none, Alive},
		{"listening only, as before a restarted daemon connects", daemon, status, func(t *testing.T, h Host) { listen(t, h.Root+monitor) }, Alive},
		{"connected and not accepted yet", daemon, status, func(t *testing.T, h Host) {
			listen(t, h.Root+monitor)
			connect(t, h.Root+monitor)
		}, Alive},
		{"connected and not accepted yet, found by its id", daemon, noStatus, func(t *testing.T, h Host) {
			listen(t, h.Root+monitor)
			connect(t, h.Root+monitor)
		}, Alive},
		{"closed by QEMU", daemon, status, func(t *testing.T, h Host) {
			l := listen(t, h.Root+monitor)
			connect(t, h.Root+monitor)
			_ = accept(t, l).Close()
			_ = l.Close()
		}, Gone},
		{"connected to another domain's", daemon, status, connected("/var/lib/libvirt/qemu/domain-21474800033-st-running/monitor.sock"), Gone},
		{"connected to another domain's, looked for by its id", daemon, noStatus, connected("/var/lib/libvirt/qemu/domain-21474800033-st-running/monitor.sock"), Gone},
		{"connected to another socket of this domain", daemon, noStatus, connected("/var/lib/libvirt/qemu/domain-2147480003-st-running/agent.sock"), Gone},
		{"an abstract socket of that name", daemon, status, func(t *testing.T, h Host) {
			l := listen(t, "@"+h.Root+monitor)
			connect(t, "@"+h.Root+monitor)
			accept(t, l)
		}, Gone},
		{"an abstract socket that fakes a line of the text table", daemon, status, func(t *testing.T, h Host) {
			forged := "@x\n0000000000000000: 00000003 00000000 00000000 0001 03 1 " + h.Root + monitor
			l := listen(t, forged[:min(len(forged), 107)])
			connect(t, forged[:min(len(forged), 107)])
			accept(t, l)
		}, Gone},
		{"a name that ends like it and has a NUL before", daemon, noStatus, func(t *testing.T, h Host) {
			l := listen(t, "@/domain-2147480003-x/monitor.sock")
			connect(t, "@/domain-2147480003-x/monitor.sock")
			accept(t, l)
		}, Gone},
	} {
		t.Run(tt.why, func(t *testing.T) {
			h := host(t)
			h.putPID(t, "st-running", pid)
			if tt.status {
				h.put(t, "st-running.xml", captureFree(t, pid))
			}
			tt.daemon(t, h)
			tt.monitor(t, h)
			p := h.Process("st-running")
			seen := "is alive"
			switch tt.life {
			case Gone:
				seen = "has no monitor connection left"
			case Unknown:
				seen = fmt.Sprintf("nothing holds the monitor of process %d, and libvirt's daemon does not run here", pid)
			}
			expect(t, h.Identify(p, uuid, freeID), tt.life, seen)
			expect(t, h.Identify(p, uuid, 0), Alive, "is alive")
			expect(t, h.Identify(p, uuid, -freeID), Alive, "is alive")
		})
	}
	t.Run("a path too long to be bound says nothing", func(t *testing.T) {
		h := host(t)
		h.putPID(t, "st-running", pid)
		h.put(t, "st-running.xml", captureFree(t, pid, "domain-2147480003-st-running", strings.Repeat("x", 100)))
		daemon(t, h)
		expect(t, h.Identify(h.Process("st-running"), uuid, freeID), Alive, "is alive")
	})
}
