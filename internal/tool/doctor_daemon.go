package tool

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/policy/record"
)

// daemonNames are the daemons that run the hooks of QEMU domains.
var daemonNames = []string{"libvirtd", "virtqemud"}

// ticksPerSecond is what Linux counts a process's start in, on every architecture that libvirt runs on.
const ticksPerSecond = 100

// processes is what runs on the host, as far as it matters here.
type processes struct {
	known    bool
	daemons  []process // of the host
	sessions []process // of its users
	names    map[string]bool
}

type process struct {
	pid   int
	name  string
	uid   int
	start time.Time // zero if unknown
}

func (d *doctor) readProcesses() processes {
	p := processes{names: map[string]bool{}}
	entries, err := os.ReadDir(d.path("/proc"))
	if err != nil {
		return p
	}
	booted := d.bootTime()
	p.known = !booted.IsZero()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name := d.proc(pid, "comm")
		p.names[name] = true
		if !slices.Contains(daemonNames, name) {
			continue
		}
		daemon := process{pid: pid, name: name, uid: d.uid(pid), start: d.started(pid, booted)}
		if daemon.uid == 0 {
			p.daemons = append(p.daemons, daemon)
		} else if daemon.uid > 0 {
			p.sessions = append(p.sessions, daemon)
		}
	}
	return p
}

func (d *doctor) proc(pid int, file string) string {
	content, _ := os.ReadFile(d.path(fmt.Sprintf("/proc/%d/%s", pid, file))) // a process may end at any time
	return strings.TrimSpace(string(content))
}

// uid gives the effective user of a process, or -1.
func (d *doctor) uid(pid int) int {
	for line := range strings.Lines(d.proc(pid, "status")) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			if fields := strings.Fields(ids); len(fields) > 1 {
				if uid, err := strconv.Atoi(fields[1]); err == nil {
					return uid
				}
			}
		}
	}
	return -1
}

func (d *doctor) bootTime() time.Time {
	content, _ := os.ReadFile(d.path("/proc/stat"))
	for line := range strings.Lines(string(content)) {
		if seconds, ok := strings.CutPrefix(line, "btime "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}

func (d *doctor) started(pid int, booted time.Time) time.Time {
	stat := d.proc(pid, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name before may hold anything
	if len(fields) < 20 || booted.IsZero() {
		return time.Time{}
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return booted.Add(time.Duration(ticks) * (time.Second / ticksPerSecond))
}

// clockSlack is by how much times of different origin may differ: the boot time is known to the second only.
const clockSlack = 2 * time.Second

// checkNoticed finds out whether every daemon knows that there are hooks: it looks when it starts and at SIGHUP, and is
// content with any executable one.
func (d *doctor) checkNoticed() {
	var first time.Time
	for _, h := range d.hooks {
		if h.executable && (first.IsZero() || h.came.Before(first)) {
			first = h.came
		}
	}
	switch {
	case first.IsZero():
		return // it is switched off, and that was said
	case !d.processes.known:
		d.unknown("hook-noticed", "systemctl reload libvirtd (or virtqemud)", "the host's processes cannot be seen")
		return
	case len(d.processes.daemons) == 0:
		d.ok("hook-noticed", "no daemon runs; one that starts will notice it")
		return
	}
	for _, p := range d.processes.daemons {
		since := p.start
		reloaded, known := d.reloaded(p.name)
		if reloaded.After(since) {
			since = reloaded
		}
		cure := "systemctl reload " + p.name
		switch {
		case since.After(first.Add(clockSlack)):
			continue
		case known && !p.start.IsZero() && since.After(first.Add(-clockSlack)):
			d.unknown("hook-noticed", cure, "%s (process %d) started, or was reloaded, when the hook came; which of them was first cannot be known", p.name, p.pid)
		case known && !p.start.IsZero():
			d.warning("hook-noticed", cure, "%s (process %d) started before there was a hook, and systemd has not reloaded it since: it asks nobody", p.name, p.pid)
		default:
			d.unknown("hook-noticed", cure, "%s (process %d) started before the hook came or was changed; whether it was reloaded since cannot be known", p.name, p.pid)
		}
		return
	}
	d.ok("hook-noticed", "the daemon started or was reloaded after there was a hook")
}

// reloaded gives when systemd last started or reloaded a daemon.
func (d *doctor) reloaded(name string) (at time.Time, known bool) {
	if d.systemctl == nil {
		return time.Time{}, false
	}
	text, err := d.systemctl("show", "--property=StateChangeTimestamp", "--value", name+".service")
	if err != nil {
		return time.Time{}, false
	}
	at, err = time.Parse("Mon 2006-01-02 15:04:05 UTC", text)
	return at, err == nil
}

func (d *doctor) inactive(unit string) bool {
	state := d.show("ActiveState", unit)
	return state == "inactive" || state == "failed"
}

// show gives what systemd says of a unit, or "".
func (d *doctor) show(property, unit string) string {
	if d.systemctl == nil {
		return ""
	}
	value, _ := d.systemctl("show", "--property="+property, "--value", unit) // a failure says nothing
	return value
}

// checkSessions tells about daemons that run the hook too, and that it does not answer.
func (d *doctor) checkSessions() {
	if len(d.processes.sessions) == 0 {
		return
	}
	var users []string
	for _, p := range d.processes.sessions {
		users = append(users, strconv.Itoa(p.uid))
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
		if d.inFront() {
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
	file, replaced := d.library()
	var operations []string
	var err error
	switch {
	case replaced:
		return "unknown", "the library that its daemon runs with was replaced since", "restart the daemon, and run this again"
	case file == "":
		why, cure = "its library, libvirt.so.0, is not found", "install libvirt, or run this on the host itself"
	default:
		operations, err = qemuOperations(file)
		why, cure = fmt.Sprintf("%s: %v", file, err), "stop a domain that does not matter, and look for it in "+d.path(record.File)
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

// library gives the file of libvirt's library: the one that the daemon runs with, else that which the next would. replaced
// is true if the daemon's is no longer there.
func (d *doctor) library() (file string, replaced bool) {
	for _, p := range d.processes.daemons {
		for line := range strings.Lines(d.proc(p.pid, "maps")) {
			at := strings.IndexByte(line, '/')
			if at < 0 || !strings.HasPrefix(filepath.Base(line[at:]), "libvirt.so.0") {
				continue
			}
			name := strings.TrimSpace(line[at:])
			if strings.HasSuffix(name, " (deleted)") {
				return "", true
			}
			return d.path(name), false
		}
	}
	for _, pattern := range []string{"/usr/lib/*/libvirt.so.0", "/usr/lib64/libvirt.so.0", "/usr/lib/libvirt.so.0", "/lib/*/libvirt.so.0", "/lib64/libvirt.so.0"} {
		files, _ := filepath.Glob(d.path(pattern)) // an error is about the pattern
		for _, file := range files {
			if programFault(file) == "" {
				return file, false
			}
		}
	}
	return "", false
}

// maxTail is how much of the record's end is looked at.
const maxTail = 4 << 20

// recordedStop finds a hook's answer to a stop in the record; of the outcomes, these two only come from one, but for those of
// requests, which a gate or another program asks about. It has to be younger than the daemons that run.
func (d *doctor) recordedStop() (at time.Time, found bool) {
	if len(d.processes.daemons) == 0 {
		return time.Time{}, false // whoever called the hook, it was no daemon that runs
	}
	f, err := os.OpenFile(d.path(record.File), os.O_RDONLY|syscall.O_NONBLOCK, 0)
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
	for _, p := range d.processes.daemons {
		found = found && at.After(p.start)
	}
	return at, found
}
