package doctor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/policy/record"
)

// clockSlack is by how much times of different origin may differ: the boot time is known to the second only.
const clockSlack = 2 * time.Second

// checkNoticed finds out whether every daemon knows that there are hooks: it looks when it starts and at SIGHUP, and is
// content with any executable one.
func (d *doctor) checkNoticed() {
	var first time.Time
	for _, h := range d.hooks {
		if h.Executable && (first.IsZero() || h.Came.Before(first)) {
			first = h.Came
		}
	}
	switch {
	case first.IsZero():
		return // it is switched off, and that was said
	case !d.processes.Known:
		d.unknown("hook-noticed", "systemctl reload libvirtd (or virtqemud)", "the host's processes cannot be seen")
		return
	case len(d.processes.Daemons) == 0:
		d.ok("hook-noticed", "no daemon runs; one that starts will notice it")
		return
	}
	for _, p := range d.processes.Daemons {
		since := p.Start
		reloaded, known := d.reloaded(p.Name)
		if reloaded.After(since) {
			since = reloaded
		}
		cure := "systemctl reload " + p.Name
		switch {
		case since.After(first.Add(clockSlack)):
			continue
		case known && !p.Start.IsZero() && since.After(first.Add(-clockSlack)):
			d.unknown("hook-noticed", cure, "%s (process %d) started, or was reloaded, when the hook came; which of them was first cannot be known", p.Name, p.Pid)
		case known && !p.Start.IsZero():
			d.warning("hook-noticed", cure, "%s (process %d) started before there was a hook, and systemd has not reloaded it since: it asks nobody", p.Name, p.Pid)
		default:
			d.unknown("hook-noticed", cure, "%s (process %d) started before the hook came or was changed; whether it was reloaded since cannot be known", p.Name, p.Pid)
		}
		return
	}
	d.ok("hook-noticed", "the daemon started or was reloaded after there was a hook")
}

// reloaded gives when systemd last started or reloaded a daemon.
func (d *doctor) reloaded(name string) (at time.Time, known bool) {
	if d.Systemctl == nil {
		return time.Time{}, false
	}
	text, err := d.Systemctl("show", "--property=StateChangeTimestamp", "--value", name+".service")
	if err != nil {
		return time.Time{}, false
	}
	at, err = time.Parse("Mon 2006-01-02 15:04:05 UTC", text)
	return at, err == nil
}

func (d *doctor) inactive(unit string) bool {
	state := d.property(unit, "ActiveState")
	return state == "inactive" || state == "failed"
}

// property returns what systemd says of a unit, or "".
func (d *doctor) property(unit, property string) string {
	if d.Systemctl == nil {
		return ""
	}
	value, _ := d.Show(unit, property) // a failure says nothing
	return value
}

// checkSessions tells about daemons that run the hook too, and that it does not answer.
func (d *doctor) checkSessions() {
	if len(d.processes.Sessions) == 0 {
		return
	}
	var users []string
	for _, p := range d.processes.Sessions {
		users = append(users, strconv.Itoa(p.Uid))
	}
	slices.Sort(users)
	d.ok("session-daemons", "daemons of users (uid %s) run the same hook; it lets all that they do pass", strings.Join(slices.Compact(users), ", "))
}

// stopOperation tells whether this libvirt calls the hook when a domain is to be stopped, and what that rests on.
func (d *doctor) stopOperation() (calls, why string) {
	calls, why, cure := d.callsStop()
	switch calls {
	case "yes":
		d.ok("stop-operation", "this libvirt calls the stop hook")
	case "no":
		if d.InFront() {
			d.ok("stop-operation", "this libvirt does not call the stop hook; the gate asks instead")
			break
		}
		d.warning("stop-operation", cure, "this libvirt does not call the stop hook: the guard can refuse nothing, and only record what went down")
	default:
		d.unknown("stop-operation", cure, "whether this libvirt calls the stop hook is not known")
	}
	return calls, why
}

func (d *doctor) callsStop() (calls, why, cure string) {
	file, replaced := d.Library(d.processes.Daemons)
	var operations []string
	var err error
	switch {
	case replaced:
		return "unknown", "the library that its daemon runs with was replaced since", "restart the daemon, and run this again"
	case file == "":
		why, cure = "its library, libvirt.so.0, is not found", "install libvirt, or run this on the host itself"
	default:
		operations, err = host.QEMUOperations(file)
		why, cure = fmt.Sprintf("%s: %v", file, err), "stop a domain that does not matter, and look for it in "+d.Path(record.File)
	}
	switch {
	case slices.Contains(operations, "stop"):
		return "yes", file + " has it among its operations", ""
	case len(operations) > 0:
		return "no", fmt.Sprintf("%s calls its hook for other operations only (%s)", file, strings.Join(operations, " ")),
			"use a libvirt that has the stop operation"
	}
	if at, ok := d.recordedStop(); ok {
		return "yes", fmt.Sprintf("%s; but the hook recorded a stop at %s", why, utc(at)), ""
	}
	return "unknown", why + "; and no stop is recorded", cure
}

// maxTail is how much of the record's end is looked at.
const maxTail = 4 << 20

// recordedStop finds a hook's answer to a stop in the record; of the outcomes, these two only come from one, but for those of
// requests, which a gate or another program asks about. It has to be younger than the daemons that run.
func (d *doctor) recordedStop() (at time.Time, found bool) {
	if len(d.processes.Daemons) == 0 {
		return time.Time{}, false // whoever called the hook, it was no daemon that runs
	}
	f, err := os.OpenFile(d.Path(record.File), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return time.Time{}, false
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return time.Time{}, false
	} else if info.Size() > maxTail {
		if _, err := f.Seek(-maxTail, io.SeekEnd); err != nil {
			return time.Time{}, false
		}
	}
	lines := bufio.NewReader(io.LimitReader(f, maxTail))
	for {
		line, err := lines.ReadBytes('\n')
		var e struct {
			Result struct {
				Outcome string
				Request *struct{}
			}
			Timestamp time.Time
		}
		if json.Unmarshal(bytes.TrimSpace(line), &e) == nil && e.Result.Request == nil && (e.Result.Outcome == record.Veto || e.Result.Outcome == record.Moot) {
			at, found = e.Timestamp, true
		}
		if err != nil {
			break
		}
	}
	for _, p := range d.processes.Daemons {
		found = found && at.After(p.Start)
	}
	return at, found
}
