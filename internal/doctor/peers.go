package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
)

// guides are libvirt's daemons that connect, as root, to any socket that a client's URI names.
var guides = []string{"virtproxyd", "virtnetworkd", "virtstoraged", "virtnodedevd", "virtnwfilterd", "virtsecretd", "virtinterfaced",
	"virtlxcd", "virtxend", "virtvboxd", "virtbhyved", "virtvzd", "virtchd", "libvirtd", "virtqemud"}

// guideCure returns the action to take about such a daemon that is connected past the gate.
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

// onlyRoot returns the action that lets only root connect to a daemon, as virtqemud does for its
// own clients.
func onlyRoot(daemon string) string {
	return fmt.Sprintf("let only root connect: systemctl edit %s.socket, with SocketMode=0600 below [Socket], and systemctl restart %[1]s.socket; qemu:///system works as before", daemon)
}

// checkPeers looks for processes other than the gate and libvirt that are connected to the daemon's
// moved socket or to a monitor of QEMU.
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

// checkPolkit looks for rules that let a client become another user. The gate refuses such a call;
// past the gate, it would succeed.
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

// checkProxy checks whether the running virtproxyd sees the moved socket. If it does, it would
// connect to it for any client that asks.
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

// named returns the PIDs of root's processes with a name.
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

// isHidden reports whether systemd's empty folder covers a folder in a process's mountinfo.
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

// checkVolumes checks whether only root reaches virtstoraged, which wipes and deletes the volumes
// of guests past the gate. virtqemud reaches it as root, for its own clients.
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
