package host

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/procstat"
)

// DaemonNames are the daemons that run the hooks of QEMU domains.
var DaemonNames = []string{"libvirtd", "virtqemud"}

// TicksPerSecond is the unit of a process's start time, on every architecture that libvirt runs on.
const TicksPerSecond = 100

// Processes are the host's daemons of libvirt, and the names of all processes.
type Processes struct {
	Known    bool
	Daemons  []Process // the host's, which run as root
	Sessions []Process // those of users
	Names    map[string]bool
}

// A Process is a daemon of libvirt.
type Process struct {
	PID   int
	Name  string
	UID   int
	Start time.Time // zero if unknown
}

// Processes returns the host's daemons of libvirt, and the names of all processes.
func (h Host) Processes() Processes {
	p := Processes{Names: map[string]bool{}}
	entries, err := os.ReadDir(h.Path("/proc"))
	if err != nil {
		return p
	}
	booted := h.bootTime()
	p.Known = !booted.IsZero()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name := h.Proc(pid, "comm")
		p.Names[name] = true
		if !slices.Contains(DaemonNames, name) {
			continue
		}
		daemon := Process{PID: pid, Name: name, UID: h.UID(pid), Start: h.started(pid, booted)}
		if daemon.UID == 0 {
			p.Daemons = append(p.Daemons, daemon)
		} else if daemon.UID > 0 {
			p.Sessions = append(p.Sessions, daemon)
		}
	}
	return p
}

// maxProc bounds the bytes of a file in /proc. Any user's process may show endless memory as its
// arguments.
const maxProc = 8 << 20

// Proc returns the content of a process's file in /proc, or "" if the process has ended.
func (h Host) Proc(pid int, file string) string {
	f, err := os.Open(h.Path(fmt.Sprintf("/proc/%d/%s", pid, file)))
	if err != nil { // a process may end at any time
		return ""
	}
	defer func() { _ = f.Close() }()
	content, _ := io.ReadAll(io.LimitReader(f, maxProc))
	return strings.TrimSpace(string(content))
}

// UID returns the effective user of a process, or -1.
func (h Host) UID(pid int) int {
	for line := range strings.Lines(h.Proc(pid, "status")) {
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

func (h Host) bootTime() time.Time {
	content, _ := os.ReadFile(h.Path("/proc/stat"))
	for line := range strings.Lines(string(content)) {
		if seconds, ok := strings.CutPrefix(line, "btime "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}

func (h Host) started(pid int, booted time.Time) time.Time {
	ticks, ok := procstat.StartTime(h.Proc(pid, "stat"))
	if !ok || booted.IsZero() {
		return time.Time{}
	}
	return booted.Add(time.Duration(ticks) * (time.Second / TicksPerSecond))
}
