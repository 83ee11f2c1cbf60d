package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/internal/gate/unit"
)

var (
	listenSetting  = regexp.MustCompile(`(?m)^[ \t]*(?:LIBVIRTD_ARGS|libvirtd_opts)[ \t]*=.*(?:--listen|[ "']-[a-z]*l\b)`)
	listenArgument = regexp.MustCompile(`\x00(?:--listen|-[a-z]*l)(?:\x00|$)`)
)

// checkNetwork looks for a libvirtd on TCP or TLS, which bypasses the gate. virtproxyd's clients
// there come to virtqemud through the gate.
func (d *doctor) checkNetwork(layout unit.Layout) {
	const cure = "if nobody needs it: systemctl disable --now libvirtd-tcp.socket libvirtd-tls.socket, and no --listen; else stops come past the gate"
	for _, unit := range []string{"libvirtd-tcp.socket", "libvirtd-tls.socket"} {
		if len(d.Enabled(unit)) > 0 || d.Systemctl != nil && d.IsActive(unit) {
			d.failure("gate-network", cure, "%s is enabled or active: over the network, libvirtd is reached without the gate", unit)
			return
		}
	}
	for _, name := range []string{"/etc/default/libvirtd", "/etc/sysconfig/libvirtd"} {
		if layout.Daemon == "libvirtd" && listenSetting.MatchString(d.text(name)) {
			d.failure("gate-network", cure, "%s has libvirtd listen on the network", d.Path(name))
			return
		}
	}
	for _, p := range d.processes.Daemons {
		if listenArgument.MatchString(d.Proc(p.PID, "cmdline")) {
			d.failure("gate-network", cure, "%s (process %d) was started with --listen", p.Name, p.PID)
			return
		}
		if port := d.listensOn(p.PID); port != "" {
			d.failure("gate-network", cure, "%s (process %d) listens on TCP %s", p.Name, p.PID, port)
			return
		}
	}
	if layout.Proxy != "" {
		d.ok("gate-network", "what comes in by %s goes through the gate; its callers are not users of this host", layout.Proxy)
		return
	}
	d.ok("gate-network", "libvirtd is not on the network")
}

// listensOn returns a TCP port that a process listens on, or "".
func (d *doctor) listensOn(pid int) string {
	own := map[string]bool{}
	folder := d.Path(fmt.Sprintf("/proc/%d/fd", pid))
	entries, _ := os.ReadDir(folder) // a process may end at any time
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join(folder, e.Name()))
		own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
	}
	for _, table := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(d.Proc(pid, "net/"+table)) {
			// sl local remote st queues timer retransmits uid timeout inode
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && own[f[9]] {
				var port int
				if _, err := fmt.Sscanf(f[1][strings.LastIndexByte(f[1], ':')+1:], "%X", &port); err == nil {
					return fmt.Sprint(port)
				}
			}
		}
	}
	return ""
}
