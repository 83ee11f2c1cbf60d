package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/terminal"
)

// A gate decides only about calls that pass through it. These checks look for ways around it that
// are visible on the host.

func (d *doctor) checkGate(ctx context.Context) {
	if !d.HasGate() {
		return
	}
	d.checkGateUnits()
	if !d.InFront() {
		return
	}
	d.checkGateStarts(ctx)
	if d.Exists(host.GateOff) {
		d.failure("gate-off", "rm "+d.Path(host.GateOff), "%s is there: the gate refuses nothing", d.Path(host.GateOff))
	} else {
		d.ok("gate-off", "it is not switched off")
	}
	d.checkUpstream()
	d.checkOtherDaemons()
	d.checkNetwork()
	d.checkMonitors()
	d.checkPolkit()
	d.checkAutodestroy()
	sockets, err := d.sockets()
	if err != nil {
		d.unknown("gate-listens", "run it as root, on the host itself", "which sockets there are cannot be told: %v", err)
		return
	}
	holders := d.holders()
	d.checkListeners(sockets, holders)
	d.checkPeers(sockets, holders)
}

const gateAgain = "stopguard install --restart --gate FILE" // the guide says which

func (d *doctor) checkGateUnits() {
	if !d.InFront() {
		d.warning("gate-units", gateAgain+", or stopguard uninstall --gate", "the gate is installed, and not in front of libvirtd: it decides nothing")
		return
	}
	for _, file := range [][2]string{
		{host.GateMove, unit.Move},
		{host.UnitFolder + "/" + host.GateSocket, unit.Socket},
		{host.UnitFolder + "/" + host.GateService, unit.Service},
	} {
		path, content := file[0], file[1]
		there, err := os.ReadFile(d.Path(path))
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) == host.UnitFolder { // a package has it elsewhere
			there, err = os.ReadFile(d.Path(host.PackagedUnits + "/" + filepath.Base(path)))
		}
		if err != nil {
			d.addError(severityFailure, "gate-units", fmt.Errorf("%w; %s", err, gateAgain))
			return
		}
		if string(there) != content {
			d.warning("gate-units", "move it away, and then: "+gateAgain, "%s was changed, or is of another version than this program", d.Path(path))
			return
		}
	}
	for _, unit := range []string{host.GateSocket, host.GateService} {
		enable := "systemctl daemon-reload && systemctl enable --now " + host.GateSocket + " " + host.GateService
		if len(d.Enabled(unit)) == 0 {
			d.failure("gate-units", enable, "%s is not enabled: after a boot, nobody reaches libvirtd", unit)
			return
		}
		if d.inactive(unit) {
			d.failure("gate-units", enable, "%s is not active", unit)
			return
		}
		if d.property(unit, "ActiveState") == "activating" {
			d.failure("gate-units", "systemctl status "+unit+", and correct what it says", "%s does not get up, and systemd starts it again and again: clients wait at its socket", unit)
			return
		}
	}
	d.ok("gate-units", "they are as installed, and enabled")
}

// checkGateStarts finds out whether the gate that is installed would start with its options, at the
// next boot or now.
func (d *doctor) checkGateStarts(ctx context.Context) {
	// A program that others can change is not run as root.
	if !d.checkOwner("gate-owner", host.GateProgram) {
		return
	}
	if what := d.Fails(ctx, d.patience, d.Path(host.GateProgram), "-check"); what != "" {
		d.failure("gate-starts", "correct what it says, and see with "+d.Path(host.GateProgram)+" -check",
			"%s -check %s: a gate that is started now would not serve, and nobody reach libvirtd", d.Path(host.GateProgram), what)
		return
	}
	d.ok("gate-starts", "it would")
}

// checkUpstream looks whether others than root could reach the moved socket.
func (d *doctor) checkUpstream() {
	for _, path := range []string{host.UpstreamFolder, host.UpstreamSocket} {
		info, err := os.Lstat(d.Path(path))
		if err != nil {
			d.addError(severityFailure, "gate-upstream", fmt.Errorf("%w; systemctl restart %s", err, host.DaemonSocket))
			return
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm()&0o077 != 0 || !ok || int(st.Uid) != os.Geteuid() && st.Uid != 0 {
			d.failure("gate-upstream", fmt.Sprintf("chown root:root %s; chmod go= %[1]s", d.Path(path)),
				"%s is open to others than root (%v): they walk around the gate", d.Path(path), info.Mode())
			return
		}
	}
	if m := host.UnixSockDir.FindStringSubmatch(d.text("/etc/libvirt/libvirtd.conf")); m != nil && filepath.Clean(m[1]) != filepath.Dir(host.PublicSocket) {
		d.warning("gate-upstream", "take it out", "unix_sock_dir is %q in %s: should libvirtd ever make its sockets itself, they are elsewhere", m[1], d.Path("/etc/libvirt/libvirtd.conf"))
		return
	}
	d.ok("gate-upstream", "only root reaches %s", d.Path(host.UpstreamSocket))
}

func (d *doctor) text(name string) string {
	content, _ := os.ReadFile(d.Path(name)) // a missing file does not set anything
	return string(content)
}

// checkOtherDaemons looks for sockets that clients prefer to libvirtd's.
func (d *doctor) checkOtherDaemons() {
	for _, name := range []string{"/run/libvirt/virtqemud-sock", "/var/run/libvirt/virtqemud-sock"} {
		if d.Exists(name) {
			d.failure("gate-other-daemon", "systemctl disable --now virtqemud.socket virtqemud.service; then remove the file",
				"%s is there, and clients prefer it to libvirtd's: they walk around the gate", d.Path(name))
			return
		}
	}
	for _, p := range d.processes.Daemons {
		if p.Name != "libvirtd" {
			d.failure("gate-other-daemon", "systemctl disable --now "+p.Name+".socket "+p.Name+".service", "%s (process %d) runs beside libvirtd, and the gate is not in front of it", p.Name, p.PID)
			return
		}
	}
	d.ok("gate-other-daemon", "libvirtd is alone")
}

var (
	listenSetting  = regexp.MustCompile(`(?m)^[ \t]*(?:LIBVIRTD_ARGS|libvirtd_opts)[ \t]*=.*(?:--listen|[ "']-[a-z]*l\b)`)
	listenArgument = regexp.MustCompile(`\x00(?:--listen|-[a-z]*l)(?:\x00|$)`)
)

// checkNetwork looks for libvirtd on TCP or TLS, where no gate is.
func (d *doctor) checkNetwork() {
	const cure = "if nobody needs it: systemctl disable --now libvirtd-tcp.socket libvirtd-tls.socket, and no --listen; else stops come past the gate"
	for _, unit := range []string{"libvirtd-tcp.socket", "libvirtd-tls.socket"} {
		if len(d.Enabled(unit)) > 0 || d.Systemctl != nil && d.IsActive(unit) {
			d.failure("gate-network", cure, "%s is enabled or active: over the network, libvirtd is reached without the gate", unit)
			return
		}
	}
	for _, name := range []string{"/etc/default/libvirtd", "/etc/sysconfig/libvirtd"} {
		if listenSetting.MatchString(d.text(name)) {
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

// checkListeners checks which process listens on the clients' socket, and for other sockets of
// libvirtd.
func (d *doctor) checkListeners(sockets []unixSocket, holders map[uint32][]holder) {
	const off = "systemctl status " + host.GateSocket + " " + host.GateService
	listens := false
	for _, s := range sockets {
		if !s.listening || s.path == "" {
			continue
		}
		for _, h := range holders[s.inode] {
			switch public := d.isPath(s.path, host.PublicSocket); {
			case public && h.name == "libvirtd":
				d.failure("gate-listens", "stopguard uninstall --gate --restart, and install it again", "%s itself listens on %s: the gate is walked around", h, s.path)
				return
			case public && h.pid != 1 && !d.isGate(h.pid):
				d.failure("gate-listens", "find out what it is: systemctl status "+fmt.Sprint(h.pid), "%s listens on %s, and is not the gate", h, s.path)
				return
			case public:
				listens = true
			case slices.Contains(host.DaemonNames, h.name) && h.uid == 0 && !d.isExpected(s.path):
				d.failure("gate-listens", "find out why, and take it away", "%s listens on %s too, where no gate is", h, s.path)
				return
			}
		}
	}
	if !listens {
		d.failure("gate-listens", off, "nobody listens on %s: clients are refused", d.Path(host.PublicSocket))
		return
	}
	if why, failed := strings.CutPrefix(d.property(host.GateService, "StatusText"), "not reloaded: "); failed {
		d.warning("gate-listens", "correct that, and systemctl reload "+host.GateService, "the gate goes on as it was before its last reload, which failed: %s", terminal.Clean(why))
		return
	}
	for pid := range d.gates() {
		if to, _ := os.Readlink(d.Path(fmt.Sprintf("/proc/%d/exe", pid))); strings.HasSuffix(to, " (deleted)") {
			d.warning("gate-listens", "systemctl reload "+host.GateService+", which ends no connection", "the gate (process %d) runs a program that was replaced since", pid)
			return
		}
	}
	d.ok("gate-listens", "the gate, or systemd for it")
}

func (d *doctor) isPath(path, name string) bool {
	return path == d.Path(name) || path == d.Path("/var"+name)
}

// isExpected reports whether a socket of libvirtd is harmless: clients of the read-only one cannot
// stop domains, and virt-admin's does not give access to domains.
func (d *doctor) isExpected(path string) bool {
	return slices.ContainsFunc([]string{host.UpstreamSocket, host.PublicSocket + "-ro", "/run/libvirt/libvirt-admin-sock"}, func(name string) bool { return d.isPath(path, name) })
}

// isGate identifies the gate by its executable, because any process can choose its name. A replaced
// executable is identified by its path only.
func (d *doctor) isGate(pid int) bool {
	exe := d.Path(fmt.Sprintf("/proc/%d/exe", pid))
	to, err := os.Readlink(exe)
	if err != nil {
		return false
	}
	runs, err := os.Stat(exe)
	installed, none := os.Stat(d.Path(host.GateProgram))
	return err == nil && none == nil && os.SameFile(runs, installed) || strings.TrimSuffix(to, " (deleted)") == d.Path(host.GateProgram)
}

func (d *doctor) gates() map[int]bool {
	gates := map[int]bool{}
	folders, _ := filepath.Glob(d.Path("/proc/[0-9]*/exe")) // an error is about the pattern
	for _, folder := range folders {
		var pid int
		if _, err := fmt.Sscan(filepath.Base(filepath.Dir(folder)), &pid); err == nil && d.isGate(pid) {
			gates[pid] = true
		}
	}
	return gates
}

// checkPeers checks which other processes are connected to libvirtd's moved socket and to QEMU's
// monitors, which the gate guards.
func (d *doctor) checkPeers(sockets []unixSocket, holders map[uint32][]holder) {
	upstream, monitors := "", ""
	for _, s := range sockets {
		if s.listening || s.peer == 0 {
			continue
		}
		for _, h := range holders[s.peer] {
			switch {
			case d.isPath(s.path, host.UpstreamSocket) && !d.isGate(h.pid) && h.pid != 1:
				upstream = fmt.Sprintf("%s is connected to %s past the gate", h, s.path)
			case strings.HasPrefix(s.path, d.Path(monitorFolder)+"/") && filepath.Base(s.path) == "monitor.sock" && !slices.Contains(host.DaemonNames, h.name):
				monitors = fmt.Sprintf("%s is connected to %s: it can stop that guest past the gate", h, s.path)
			}
		}
	}
	if upstream != "" {
		d.failure("gate-peers", "have it use qemu:///system without a socket of its own", "%s", upstream)
	} else {
		d.ok("gate-peers", "nobody but the gate is connected to the moved socket")
	}
	if monitors != "" {
		d.failure("gate-monitor-peers", "find out who started it, and why", "%s", monitors)
	} else {
		d.ok("gate-monitor-peers", "nobody but libvirtd is connected to a guest's monitor")
	}
}

// checkPolkit looks for rules that let a client be another user. The gate refuses to pass that on;
// past it, it would hold.
func (d *doctor) checkPolkit() {
	for _, pattern := range []string{"/etc/polkit-1/rules.d/*.rules", "/usr/share/polkit-1/rules.d/*.rules", "/etc/polkit-1/localauthority/*/*.pkla"} {
		files, _ := filepath.Glob(d.Path(pattern)) // an error is about the pattern
		for _, file := range files {
			content, _ := os.ReadFile(file)
			if strings.Contains(string(content), "org.libvirt.api.connect.write") {
				d.warning("gate-polkit", "see that it does not give that to users who may not stop every guest", "%s is about org.libvirt.api.connect.write, with which a client may become another user past the gate", file)
				return
			}
		}
	}
	d.ok("gate-polkit", "no rule names what lets a client become another user")
}
