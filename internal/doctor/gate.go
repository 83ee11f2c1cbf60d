package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/terminal"
)

// A gate decides only about calls that pass through it. These checks look for ways around it that
// show on the host.

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

const gateAgain = "stopguard install --restart --gate FILE" // docs/gate.md explains FILE

func (d *doctor) checkGateUnits(layout unit.Layout) {
	for _, file := range append([]unit.File{
		{Path: host.UnitFolder + "/" + host.GateSocket, Content: unit.Socket},
		{Path: host.UnitFolder + "/" + host.GateService, Content: unit.Service},
		layout.Gate,
	}, layout.Moves...) {
		content, err := os.ReadFile(d.Path(file.Path))
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(file.Path) == host.UnitFolder { // a package has it elsewhere
			content, err = os.ReadFile(d.Path(host.PackagedUnits + "/" + filepath.Base(file.Path)))
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
		if string(content) != file.Content {
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

// gateCheckTime bounds the check of a gate, which may load a large policy on a busy host. Clients
// do not wait for it.
const gateCheckTime = time.Minute

// checkGateStarts checks whether the installed gate would start with its options, at the next boot
// or now.
func (d *doctor) checkGateStarts(ctx context.Context) {
	// Otherwise root would run a program that others can change.
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

// checkUpstream checks whether only root can reach the moved socket.
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

// checkListeners checks the process that listens on the clients' socket, and looks for other
// sockets of the daemon.
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

// isExpected reports whether a socket of the daemon is the moved one, or a harmless one of the
// layout.
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
