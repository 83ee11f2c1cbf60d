package doctor

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/host"
)

// The errors of the compared times. A daemon's start is computed from the boot time, in whole
// seconds, unless systemd has it. A file's time is that of the kernel's last tick.
const (
	bootError = 2 * time.Second
	tickError = 10 * time.Millisecond
)

// checkNoticed checks whether every daemon has noticed the hooks. A daemon looks for them when it
// starts and at SIGHUP, and any executable hook is enough.
func (d *doctor) checkNoticed() {
	var first time.Time
	for _, h := range d.hooks {
		if h.Executable && (first.IsZero() || h.Came.Before(first)) {
			first = h.Came
		}
	}
	switch {
	case first.IsZero():
		return // the hook is switched off, which is reported already
	case !d.processes.Known:
		d.unknown("hook-noticed", "systemctl reload libvirtd (or virtqemud)", "the host's processes cannot be seen")
		return
	case len(d.processes.Daemons) == 0:
		d.ok("hook-noticed", "no daemon runs; one that starts will notice it")
		return
	}
	for _, p := range d.processes.Daemons {
		since, inexact := p.Start, bootError
		look, known := d.lastLook(p)
		if known {
			since, inexact = look, tickError
		}
		cure := "systemctl reload " + p.Name
		switch {
		case since.After(first.Add(inexact)):
			continue
		case known && since.After(first.Add(-inexact)):
			d.unknown("hook-noticed", cure, "%s (process %d) started, or was reloaded, when the hook came; which of them was first cannot be known", p.Name, p.PID)
		case known:
			d.warning("hook-noticed", cure, "%s (process %d) started before the hook file came or was changed, and systemd has not reloaded it since: if there was no hook then, it asks nobody", p.Name, p.PID)
		default:
			d.unknown("hook-noticed", cure, "%s (process %d) started before the hook came or was changed; whether it was reloaded since cannot be known", p.Name, p.PID)
		}
		return
	}
	d.ok("hook-noticed", "the daemon started or was reloaded after there was a hook")
}

// checkSystemd reports a systemd that does not answer. The other checks do not ask it again.
func (d *doctor) checkSystemd() {
	if d.Systemctl == nil {
		return
	}
	if err := d.SystemdAnswers(); err != nil {
		d.addError(severityUnknown, "systemd", err)
		d.Systemctl = nil
	}
}

// lastLook returns the time at which a daemon last looked for hooks: when systemd started or
// reloaded it. The time is unknown for a daemon that systemd has not started. A unit changes its
// state when the daemon is ready, which may be long after the look. Only a later change is a
// reload.
func (d *doctor) lastLook(p host.Process) (at time.Time, known bool) {
	if d.Systemctl == nil {
		return time.Time{}, false
	}
	text, err := d.Systemctl("show", "--timestamp=us+utc", "--property=MainPID,ExecMainStartTimestamp,ActiveEnterTimestamp,StateChangeTimestamp", p.Name+".service")
	if err != nil {
		return time.Time{}, false
	}
	property := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		property[name] = value
	}
	if property["MainPID"] != strconv.Itoa(p.PID) {
		return time.Time{}, false
	}
	at, err = time.Parse(systemdTime, property["ExecMainStartTimestamp"])
	if changed := property["StateChangeTimestamp"]; changed != property["ActiveEnterTimestamp"] {
		if reloaded, err := time.Parse(systemdTime, changed); err == nil && reloaded.After(at) {
			at = reloaded
		}
	}
	return at, err == nil
}

// systemdTime is the layout of a time in systemctl's output. Parsing also accepts a fraction of a
// second.
const systemdTime = "Mon 2006-01-02 15:04:05 MST"

func (d *doctor) inactive(unit string) bool {
	state := d.property(unit, "ActiveState")
	return state == "inactive" || state == "failed"
}

// property returns a unit's property from systemd, or "".
func (d *doctor) property(unit, property string) string {
	if d.Systemctl == nil {
		return ""
	}
	value, _ := d.Show(unit, property) // a failure leaves the value unknown
	return value
}

// checkSessions reports session daemons. They run the same hook, which lets everything that they do
// pass.
func (d *doctor) checkSessions() {
	if len(d.processes.Sessions) == 0 {
		return
	}
	var users []string
	for _, p := range d.processes.Sessions {
		users = append(users, strconv.Itoa(p.UID))
	}
	slices.Sort(users)
	d.ok("session-daemons", "daemons of users (uid %s) run the same hook; it lets all that they do pass", strings.Join(slices.Compact(users), ", "))
}

// stopOperation returns whether this libvirt calls the hook for a stop, and the evidence.
func (d *doctor) stopOperation() (calls host.Answer, why string) {
	calls, why, cure := d.CallsStop(d.processes)
	switch calls {
	case host.Yes:
		d.ok("stop-operation", "this libvirt calls the stop hook")
	case host.No:
		if d.InFront() {
			d.ok("stop-operation", "this libvirt does not call the stop hook; the gate asks instead")
			break
		}
		d.failure("stop-operation", cure, "this libvirt does not call the stop hook: the guard can refuse nothing, and only record what went down")
	default:
		d.unknown("stop-operation", cure, "whether this libvirt calls the stop hook is not known")
	}
	return calls, why
}
