package hookproto

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"
)

// execTime is how long a process may seem to have no command line because it is in an exec. That takes microseconds, and more
// on a host under load.
const execTime = 50 * time.Millisecond

// Host is where libvirt keeps its state. The zero value is this host. Its methods may be used
// by several goroutines at once.
type Host struct {
	Root string // Root is put before libvirt's paths, for tests; /proc is never moved.
}

// Liveness is what is known of a domain's process and guest.
type Liveness int

const (
	Unknown Liveness = iota // Unknown: it cannot be told; the domain counts as alive.
	Alive                   // Alive: the process is there, and nothing says that its guest is not.
	Gone                    // Gone: the process is gone or leaving, or lives on without its guest.
)

// String returns "unknown", "alive" or "gone".
func (l Liveness) String() string {
	switch l {
	case Alive:
		return "alive"
	case Gone:
		return "gone"
	}
	return "unknown"
}

// Process is what [Host.Process] and [Host.Identify] found out. The zero value is a
// process of which nothing is known.
type Process struct {
	Liveness Liveness // Liveness is the judgement.
	Evidence string   // Evidence says what the judgement rests on, in one line without secrets or text of a guest's owner.
	PID      int      // PID is what the pid file says; 0 if nothing.
	Start    uint64   // Start is when the process began, in clock ticks since boot (field 22 of /proc/PID/stat): with PID it names one incarnation. 0 if unknown.
	Status   Status   // Status is what the status file says; zero where it cannot be trusted or the process is gone.
}

// Gone reports whether there is nothing left that a refused stop would protect. Refusing it
// would wedge the domain: libvirt does not ask again, and keeps a dead domain as running.
func (p Process) Gone() bool { return p.Liveness == Gone }

// Process looks at the domain's pid file, its process and its status file, without needing
// its XML. It changes nothing, follows no links and blocks on nothing. A domain without a pid
// file is gone only where libvirt's state directory is there; all else that cannot be read
// makes it unknown. It holds for QEMU and KVM domains.
func (h Host) Process(name string) Process {
	dir, err := h.openState()
	if err != nil {
		return Process{Evidence: "libvirt's state directory cannot be opened: " + reason(err)}
	}
	defer dir.close()
	p, _, _ := dir.process(name)
	return p
}

// Identify looks closer at a process that is alive so far, with what the domain's XML says:
// its UUID and its id, 0 if it has none. The process is gone if its command line is another
// domain's, which happens when a PID is reused, or if nothing is connected to its monitor
// although the daemon's own socket can be seen: QEMU closes the monitor before it exits. It
// returns p with what it learnt. A status file that names another UUID is not trusted.
func (h Host) Identify(p Process, uuid string, id int) Process {
	p = p.identify(uuid)
	if p.Liveness != Alive || id <= 0 {
		return p
	}
	if connected, known := h.monitor(p.Status.Monitor, id); !known || connected {
		return p
	}
	// A process that ended while the table was read says more than a missing connection does.
	if p = p.again(); p.Liveness != Alive {
		return p
	}
	return p.gone("process %d has no monitor connection left", p.PID)
}

// process returns the status file too, or why it is not to be had; neither if the process
// is gone.
func (d stateDir) process(name string) (Process, statusFile, error) {
	pid, err := d.pid(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Process{Liveness: Gone, Evidence: "there is no pid file"}, statusFile{}, nil
	}
	if err != nil {
		err = fmt.Errorf("the pid file cannot be read: %s", reason(err))
		return Process{Evidence: err.Error()}, statusFile{}, err
	}
	p := Process{PID: pid}.again()
	if p.Gone() {
		return p, statusFile{}, nil
	}
	status, err := d.status(name, pid)
	if err != nil {
		return p, statusFile{}, err
	}
	p.Status = status.Status
	if what := p.Status.guestGone(); what != "" {
		p = p.gone("%s", what)
	}
	return p, status, nil
}

func (p Process) identify(uuid string) Process {
	if p.Liveness != Alive || p.PID <= 0 {
		return p
	}
	if uuid != "" && !strings.EqualFold(p.Status.UUID, uuid) {
		p.Status = Status{}
	}
	if p = p.again(); p.Liveness != Alive || uuid == "" {
		return p
	}
	args, err := commandLine(p.PID)
	for end := time.Now().Add(execTime); err == nil && len(args) == 0 && time.Now().Before(end); args, err = commandLine(p.PID) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return p.again()
	}
	// Whose command line it was is sure only if the process is the same as before.
	if p = p.again(); p.Liveness != Alive || hasArgument(args, uuid) {
		return p
	}
	if len(args) == 0 {
		return p.gone("process %d has no command line left", p.PID)
	}
	return p.gone("process %d is not this domain's", p.PID)
}

// again reads the process's state, for the first time or to find out whether it changed.
func (p Process) again() Process {
	stat, err := readStat(p.PID)
	switch {
	case errors.Is(err, errNoProcess):
		return p.gone("process %d is gone", p.PID)
	case err != nil:
		p.Liveness, p.Evidence = Unknown, fmt.Sprintf("process %d cannot be looked at: %s", p.PID, reason(err))
		return p
	case p.Start != 0 && p.Start != stat.start:
		return p.gone("process %d is gone, and its PID is another's now", p.PID)
	}
	p.Start = stat.start
	if how := stat.ending(); how != "" {
		return p.gone("process %d %s", p.PID, how)
	}
	p.Liveness, p.Evidence = Alive, fmt.Sprintf("process %d is alive", p.PID)
	return p
}

func (p Process) gone(format string, args ...any) Process {
	p.Liveness, p.Evidence = Gone, fmt.Sprintf(format, args...)
	return p
}

// reason leaves out the path that an fs.PathError repeats: it holds the domain's name.
func reason(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
