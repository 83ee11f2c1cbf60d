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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
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
	layout, inFront := d.Guarded()
	if !inFront {
		d.warning("gate-units", gateAgain+", or stopguard uninstall --gate", "the gate is installed, and not in front of libvirt's daemon: it decides nothing")
		return
	}
	d.checkGateUnits(layout)
	d.checkGateStarts(ctx)
	if d.Exists(host.GateOff) {
		d.failure("gate-off", "rm "+d.Path(host.GateOff), "%s is there: the gate refuses nothing", d.Path(host.GateOff))
	} else {
		d.ok("gate-off", "it is not switched off")
	}
	d.checkUpstream(layout)
	d.checkOtherDaemons(layout)
	d.checkNetwork(layout)
	d.checkProxy(layout)
	d.checkVolumes(layout)
	d.checkMonitors()
	d.checkPolkit()
	d.checkAutodestroy()
	d.checkProcedures()
	sockets, err := d.sockets()
	if err != nil {
		d.unknown("gate-listens", "run it as root, on the host itself", "which sockets there are cannot be told: %v", err)
		return
	}
	holders := d.holders()
	d.checkListeners(layout, sockets, holders)
	d.checkPeers(layout, sockets, holders)
}

const gateAgain = "stopguard install --restart --gate FILE" // the guide says which

func (d *doctor) checkGateUnits(layout unit.Layout) {
	for _, file := range append([]unit.File{
		{Path: host.UnitFolder + "/" + host.GateSocket, Content: unit.Socket},
		{Path: host.UnitFolder + "/" + host.GateService, Content: unit.Service},
		layout.Gate,
	}, layout.Moves...) {
		there, err := os.ReadFile(d.Path(file.Path))
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(file.Path) == host.UnitFolder { // a package has it elsewhere
			there, err = os.ReadFile(d.Path(host.PackagedUnits + "/" + filepath.Base(file.Path)))
		}
		if errors.Is(err, fs.ErrNotExist) && file == layout.Gate && layout.Daemon == unit.Monolithic.Daemon {
			// Earlier versions had its line in the unit itself.
			d.warning("gate-units", gateAgain, "%s is missing: it says which daemon the gate stands before", d.Path(file.Path))
			return
		}
		if err != nil {
			d.addError(severityFailure, "gate-units", fmt.Errorf("%w; %s", err, gateAgain))
			return
		}
		if string(there) != file.Content {
			d.warning("gate-units", "move it away, and then: "+gateAgain, "%s was changed, or is of another version than this program", d.Path(file.Path))
			return
		}
	}
	for _, unit := range []string{host.GateSocket, host.GateService} {
		enable := "systemctl daemon-reload && systemctl enable --now " + host.GateSocket + " " + host.GateService
		if len(d.Enabled(unit)) == 0 {
			d.failure("gate-units", enable, "%s is not enabled: after a boot, nobody reaches %s", unit, layout.Daemon)
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

// gateCheckTime is for a gate that loads a large policy on a busy host. No client waits for it.
const gateCheckTime = time.Minute

// checkGateStarts finds out whether the gate that is installed would start with its options, at the
// next boot or now.
func (d *doctor) checkGateStarts(ctx context.Context) {
	// A program that others can change is not run as root.
	if !d.checkOwner("gate-owner", host.GateProgram) {
		return
	}
	if what := d.Fails(ctx, gateCheckTime, d.Path(host.GateProgram), "-check"); what != "" {
		d.failure("gate-starts", "correct what it says, and see with "+d.Path(host.GateProgram)+" -check",
			"%s -check %s: a gate that is started now would not serve, and nobody reach libvirt's daemon", d.Path(host.GateProgram), what)
		return
	}
	d.ok("gate-starts", "it would")
}

// checkUpstream looks whether others than root could reach the moved socket.
func (d *doctor) checkUpstream(layout unit.Layout) {
	for _, path := range []string{unit.UpstreamFolder, layout.Upstream} {
		info, err := os.Lstat(d.Path(path))
		if err != nil {
			d.addError(severityFailure, "gate-upstream", fmt.Errorf("%w; systemctl restart %s", err, layout.Socket()))
			return
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm()&0o077 != 0 || !ok || int(st.Uid) != os.Geteuid() && st.Uid != 0 {
			d.failure("gate-upstream", fmt.Sprintf("chown root:root %s; chmod go= %[1]s", d.Path(path)),
				"%s is open to others than root (%v): they walk around the gate", d.Path(path), info.Mode())
			return
		}
	}
	if m := host.UnixSockDir.FindStringSubmatch(d.text(layout.Config())); m != nil && filepath.Clean(m[1]) != filepath.Dir(layout.Public) {
		d.warning("gate-upstream", "take it out", "unix_sock_dir is %q in %s: should %s ever make its sockets itself, they are elsewhere", m[1], d.Path(layout.Config()), layout.Daemon)
		return
	}
	d.ok("gate-upstream", "only root reaches %s", d.Path(layout.Upstream))
}

func (d *doctor) text(name string) string {
	content, _ := os.ReadFile(d.Path(name)) // a missing file does not set anything
	return string(content)
}

// hypervisors are libvirt's daemons for domains that are not QEMU's, before which no gate stands,
// and the domains' kinds.
var hypervisors = []struct{ daemon, domains string }{
	{"virtlxcd", "LXC"}, {"virtxend", "Xen"}, {"virtvboxd", "VirtualBox"}, {"virtbhyved", "bhyve"}, {"virtvzd", "Virtuozzo"}, {"virtchd", "Cloud Hypervisor"},
}

// checkOtherDaemons looks for daemons with domains before which the gate does not stand.
func (d *doctor) checkOtherDaemons(layout unit.Layout) {
	other := layout.Other()
	const again = "stopguard uninstall --gate --restart, and install it again"
	if d.Systemctl != nil && d.HasMoved(layout) {
		d.failure("gate-other-daemon", again, "the gate stands before %s, and this host uses %s now", layout.Daemon, other.Daemon)
		return
	}
	disable := "systemctl disable --now " + other.Socket() + " " + other.Service()
	if preferred := unit.Modular.Public; layout.Daemon != unit.Modular.Daemon {
		for _, name := range []string{preferred, "/var" + preferred} {
			if d.Exists(name) {
				d.failure("gate-other-daemon", disable+"; then remove the file",
					"%s is there, and clients prefer it to libvirtd's: they walk around the gate", d.Path(name))
				return
			}
		}
	}
	for _, p := range d.processes.Daemons {
		if p.Name != layout.Daemon {
			d.failure("gate-other-daemon", disable, "%s (process %d) runs beside %s, and the gate is not in front of it", p.Name, p.PID, layout.Daemon)
			return
		}
	}
	if name := d.Active(other); name != "" {
		d.failure("gate-other-daemon", disable, "%s is active beside %s, and the gate is not in front of it", name, layout.Daemon)
		return
	}
	for _, h := range hypervisors {
		if d.processes.Names[h.daemon] || d.Systemctl != nil && d.IsActive(h.daemon+".socket") {
			d.warning("gate-other-daemon", "if there are none to protect: systemctl disable --now "+h.daemon+".socket "+h.daemon+".service",
				"%s runs: domains of %s are not guarded", h.daemon, h.domains)
			return
		}
	}
	d.ok("gate-other-daemon", "%s is alone", layout.Daemon)
}

var (
	listenSetting  = regexp.MustCompile(`(?m)^[ \t]*(?:LIBVIRTD_ARGS|libvirtd_opts)[ \t]*=.*(?:--listen|[ "']-[a-z]*l\b)`)
	listenArgument = regexp.MustCompile(`\x00(?:--listen|-[a-z]*l)(?:\x00|$)`)
)

// checkNetwork looks for libvirtd on TCP or TLS, where no gate is. virtproxyd's clients there come
// to virtqemud through the gate.
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

// checkProxy looks whether the running virtproxyd could connect to the moved socket, which it would
// do for every client that asks it to.
func (d *doctor) checkProxy(layout unit.Layout) {
	if layout.Proxy == "" {
		return
	}
	running := d.named(layout.Proxy)
	for _, pid := range running {
		mounts := d.Proc(pid, "mountinfo")
		switch {
		case mounts == "":
			d.unknown("gate-proxy", "run it as root", "whether %s (process %d) sees %s cannot be told", layout.Proxy, pid, unit.UpstreamFolder)
			return
		case !isHidden(mounts, unit.UpstreamFolder):
			d.failure("gate-proxy", "systemctl daemon-reload && systemctl try-restart "+layout.Proxy,
				"%s (process %d) sees %s: it leads whoever asks it to past the gate", layout.Proxy, pid, unit.UpstreamFolder)
			return
		}
	}
	if len(running) == 0 {
		d.ok("gate-proxy", "%s does not run; one that starts does not see %s", layout.Proxy, unit.UpstreamFolder)
		return
	}
	d.ok("gate-proxy", "%s does not see %s", layout.Proxy, unit.UpstreamFolder)
}

// named returns root's processes of a name.
func (d *doctor) named(name string) []int {
	var pids []int
	files, _ := filepath.Glob(d.Path("/proc/[0-9]*/comm")) // an error is about the pattern
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && d.Proc(pid, "comm") == name && d.UID(pid) == 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isHidden reports whether systemd's empty folder covers another one, in a process's mountinfo.
func isHidden(mountinfo, folder string) bool {
	for line := range strings.Lines(mountinfo) {
		// ID, parent, device, root, mount point (proc_pid_mountinfo(5))
		if f := strings.Fields(line); len(f) > 4 && f[4] == folder && strings.HasSuffix(f[3], "/inaccessible/dir") {
			return true
		}
	}
	return false
}

const volumeSocket = "/run/libvirt/virtstoraged-sock"

// checkVolumes looks whether users other than root reach virtstoraged, which wipes and deletes the
// volumes of guests past the gate. virtqemud reaches it as root, for its own clients.
func (d *doctor) checkVolumes(layout unit.Layout) {
	if layout.Daemon != unit.Modular.Daemon {
		return
	}
	info, err := os.Lstat(d.Path(volumeSocket))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.ok("gate-volumes", "virtstoraged is not here")
	case err != nil:
		d.addError(severityUnknown, "gate-volumes", err)
	case info.Mode().Perm()&0o077 != 0:
		d.warning("gate-volumes", onlyRoot("virtstoraged"),
			"%s is open to others than root (%v): volumes that are deleted or wiped by storage:///system go past the gate", d.Path(volumeSocket), info.Mode())
	default:
		d.ok("gate-volumes", "only root reaches virtstoraged past the gate")
	}
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

// checkListeners checks which process listens on the clients' socket, and for other sockets of the
// daemon.
func (d *doctor) checkListeners(layout unit.Layout, sockets []hookproto.UnixSocket, holders map[uint32][]holder) {
	const off = "systemctl status " + host.GateSocket + " " + host.GateService
	listens := false
	for _, s := range sockets {
		if !s.Listening || s.Path == "" {
			continue
		}
		for _, h := range holders[s.Inode] {
			switch public := d.isPath(s.Path, layout.Public); {
			case public && h.name == layout.Daemon:
				d.failure("gate-listens", "stopguard uninstall --gate --restart, and install it again", "%s itself listens on %s: the gate is walked around", h, s.Path)
				return
			case public && h.pid != 1 && !d.isGate(h.pid):
				d.failure("gate-listens", "find out what it is: systemctl status "+fmt.Sprint(h.pid), "%s listens on %s, and is not the gate", h, s.Path)
				return
			case public:
				listens = true
			case slices.Contains(host.DaemonNames, h.name) && h.uid == 0 && !d.isExpected(layout, s.Path):
				d.failure("gate-listens", "find out why, and take it away", "%s listens on %s too, where no gate is", h, s.Path)
				return
			}
		}
	}
	if !listens {
		d.failure("gate-listens", off, "nobody listens on %s: clients are refused", d.Path(layout.Public))
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

// isExpected reports whether a socket of the daemon is the moved one, or one on which no call stops
// a domain.
func (d *doctor) isExpected(layout unit.Layout, path string) bool {
	return slices.ContainsFunc(append([]string{layout.Upstream}, layout.Harmless...), func(name string) bool { return d.isPath(path, name) })
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

// guides are libvirt's daemons that connect, as root, wherever a client's URI leads them.
var guides = []string{"virtproxyd", "virtnetworkd", "virtstoraged", "virtnodedevd", "virtnwfilterd", "virtsecretd", "virtinterfaced",
	"virtlxcd", "virtxend", "virtvboxd", "virtbhyved", "virtvzd", "virtchd", "libvirtd", "virtqemud"}

// guideCure returns what to do about such a daemon that is connected past the gate.
func guideCure(layout unit.Layout, daemon string) string {
	find := fmt.Sprintf("find that client: virt-admin -c %s:///system client-list", daemon)
	switch daemon {
	case layout.Proxy:
		return find + "; and: systemctl try-restart " + daemon
	case "libvirtd", "virtqemud":
		return find
	}
	return find + "; and " + onlyRoot(daemon)
}

// onlyRoot returns how to let only root connect to a daemon, as virtqemud does for its own clients.
func onlyRoot(daemon string) string {
	return fmt.Sprintf("let only root connect: systemctl edit %s.socket, with SocketMode=0600 below [Socket], and systemctl restart %[1]s.socket; qemu:///system works as before", daemon)
}

// checkPeers checks which other processes are connected to the daemon's moved socket and to QEMU's
// monitors, which the gate guards.
func (d *doctor) checkPeers(layout unit.Layout, sockets []hookproto.UnixSocket, holders map[uint32][]holder) {
	upstream, monitors := "", ""
	cure := "have it use qemu:///system without a socket of its own"
	for _, s := range sockets {
		if s.Listening || s.Peer == 0 {
			continue
		}
		for _, h := range holders[s.Peer] {
			switch {
			case d.isPath(s.Path, layout.Upstream) && !d.isGate(h.pid) && h.pid != 1:
				upstream = fmt.Sprintf("%s is connected to %s past the gate", h, s.Path)
				if slices.Contains(guides, h.name) && h.uid == 0 {
					upstream += ": a client was led there by it"
					cure = guideCure(layout, h.name)
				}
			case strings.HasPrefix(s.Path, d.Path(monitorFolder)+"/") && filepath.Base(s.Path) == "monitor.sock" && !slices.Contains(host.DaemonNames, h.name):
				monitors = fmt.Sprintf("%s is connected to %s: it can stop that guest past the gate", h, s.Path)
			}
		}
	}
	if upstream != "" {
		d.failure("gate-peers", cure, "%s", upstream)
	} else {
		d.ok("gate-peers", "nobody but the gate is connected to the moved socket")
	}
	if monitors != "" {
		d.failure("gate-monitor-peers", "find out who started it, and why", "%s", monitors)
	} else {
		d.ok("gate-monitor-peers", "nobody but libvirt's daemon is connected to a guest's monitor")
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
