package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
)

func (d *doctor) checkShutdown() {
	d.checkShuttingDown()
	const danger = "a veto would hold the host's shutdown up until the power is cut"
	enable := "systemctl daemon-reload && systemctl enable --now " + host.ShutdownUnit
	if !d.HasSystemd() {
		d.warning("shutdown-unit", "have the shutdown create "+hostpath.ShuttingDown+" before guests are stopped, and the start remove it",
			"there is no systemd here, and so nothing says when the host shuts down: %s", danger)
		return
	}
	for _, folder := range []string{host.UnitFolder, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		content, err := os.ReadFile(d.Path(folder + "/" + host.ShutdownUnit))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		switch {
		case err != nil:
			d.unknown("shutdown-unit", "run it as root", "%v", err)
		case !bytes.Equal(content, []byte(host.ShutdownUnitText)):
			d.warning("shutdown-unit", d.reinstallHint(folder+"/"+host.ShutdownUnit, "move it away, and then: "+d.reinstallHint(host.HookProgram, "stopguard install")),
				"%s was changed, or is of another version than this program", d.Path(folder+"/"+host.ShutdownUnit))
		case len(d.Enabled(host.ShutdownUnit)) == 0:
			d.warning("shutdown-unit", enable, "%s is not enabled: %s", host.ShutdownUnit, danger)
		case d.inactive(host.ShutdownUnit):
			d.warning("shutdown-unit", enable, "%s is not started: %s", host.ShutdownUnit, danger)
		default:
			d.ok("shutdown-unit", "it is enabled")
		}
		return
	}
	d.warning("shutdown-unit", d.reinstallHint(host.HookProgram, "stopguard install"), "%s is not installed: %s", host.ShutdownUnit, danger)
}

// checkShuttingDown looks for a flag that is a leftover. While it exists, decisions are not
// enforced.
func (d *doctor) checkShuttingDown() {
	_, err := hostfile.Root(d.Root).Read(hostpath.ShuttingDown, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		d.ok("shutting-down", "the host does not shut down")
		return
	}
	if err == nil && d.Systemctl != nil {
		if state, _ := d.Systemctl("is-system-running"); state == "stopping" {
			d.ok("shutting-down", "the host shuts down: nothing is enforced")
			return
		}
	}
	if err != nil {
		d.addError(severityWarning, "shutting-down", fmt.Errorf("it would not be heeded that the host shuts down: %w", err))
		return
	}
	d.failure("shutting-down", "if the host does not shut down just now: rm "+d.Path(hostpath.ShuttingDown),
		"%s is there, and as long as it is nothing is enforced", d.Path(hostpath.ShuttingDown))
}
