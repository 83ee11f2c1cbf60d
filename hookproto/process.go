package hookproto

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"
)

// execTime bounds the time for which a process in an exec seems to lack a command line. That takes
// microseconds, and more on a host under load.
const execTime = 50 * time.Millisecond

// Host is the host whose libvirt state is read. The zero value is this host. Its methods are
// safe for concurrent use.
type Host struct {
	Root string // Root is put before libvirt's paths, for tests; /proc is never moved.
}

// Liveness is the state of a domain's process and guest.
type Liveness int

const (
	Unknown Liveness = iota // Unknown: it cannot be determined; the domain counts as alive.
	Alive                   // Alive: the process exists, and its guest is not known to be gone.
	Gone                    // Gone: the process is gone or exiting, or lives on without its guest.
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

// Process is the result of [Host.Process] and [Host.Identify]. The zero value is a process with
// unknown liveness.
type Process struct {
	Liveness Liveness // Liveness is the result.
	Evidence string   // Evidence is the evidence for it: one line without secrets or text of a guest's owner.
	Doubt    string   // Doubt is evidence against a living guest that does not prove it, in the same form; "" if there is none.
	PID      int      // PID is the process ID in the pid file, or else in the status file; 0 if unknown.
	Start    uint64   // Start is when the process began, in clock ticks since boot (field 22 of /proc/PID/stat): with PID it names one incarnation. 0 if unknown.

	Status Status // Status is the content of the status file; zero if it cannot be trusted or the process is gone.

	basis basis
	other int // the process ID in the pid file, if the status file names another process
}

// basis is the source of the evidence that a process is gone.
type basis int

const (
	onGuest   basis = iota // the status file, which is true in every PID namespace
	onProcess              // /proc, which is true in the daemon's PID namespace
	onAbsence              // missing files, if no process runs the domain either
)

// Gone reports whether a refused stop would protect nothing any more. Refusing it would wedge the
// domain: libvirt does not try again, and keeps a dead domain as running.
func (p Process) Gone() bool { return p.Liveness == Gone }

// Process examines the domain's pid file, its process and its status file, without needing
// its XML. It changes nothing, follows no links and blocks on nothing. A process is gone only
// if there is evidence for it, as docs/liveness.md lists it. Process is for QEMU and KVM
// domains.
func (h Host) Process(name string) Process {
	dir, err := h.openState()
	if err != nil {
		return Process{Evidence: "libvirt's state directory cannot be opened: " + reason(err)}
	}
	defer dir.close()
	p, _, _ := h.process(dir, name)
	return p
}

// Identify examines a process more closely, with the UUID and the id of the domain's XML; the
// id is 0 if there is none. The process is gone if its command line is another domain's, which
// happens when a PID is reused, or if its monitor is closed although libvirt's daemon
// runs: QEMU closes the monitor before it exits. A status file that names another UUID
// is not trusted.
func (h Host) Identify(p Process, uuid string, id int) Process {
	switch {
	case p.Liveness == Gone && p.basis == onAbsence && uuid != "":
		return h.absent("", uuid)
	case p.Liveness == Gone || p.PID <= 0 || p.Liveness == Unknown && p.Doubt == "":
		return p
	}
	if p = p.identify(uuid); p.Liveness == Gone && p.other > 0 {
		p = Process{PID: p.other}.check().identify(uuid)
	}
	if p.Liveness == Gone {
		return h.confirm(p, uuid)
	}
	if id <= 0 || p.Liveness != Alive {
		return p
	}
	return h.identifyByMonitor(p, uuid, id)
}

// identifyByMonitor looks for a connection to the monitor of a process that is alive so far.
func (h Host) identifyByMonitor(p Process, uuid string, id int) Process {
	m := h.monitor(p.Status.Monitor, id)
	if !m.isKnown || m.isOpen {
		return p
	}
	// A process that ended while the table was read says more than a missing connection does.
	if p = p.check(); p.Liveness != Alive {
		return h.confirm(p, uuid)
	}
	switch d := h.daemon(); {
	case h.isListening(d, m.listening):
	case d.pid == 0 && p.Status.Monitor != "":
		return p.doubtful("nothing holds the monitor of process %d, and libvirt's daemon does not run here", p.PID)
	default:
		return p // the daemon may be in another network namespace
	}
	return p.gone(onProcess, "process %d has no monitor connection left", p.PID)
}

// process also returns the status file, or the error that reading it returned. It returns neither
// if the process is gone.
func (h Host) process(dir stateDir, name string) (Process, statusFile, error) {
	pid, err := dir.pid(name)
	hasPID := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the pid file cannot be read: %s", reason(err))
		return Process{}.doubtful("%s", err), statusFile{}, err
	}
	status, err := dir.status(name)
	var p Process
	switch {
	case !hasPID && errors.Is(err, fs.ErrNotExist):
		return h.absent(name, ""), statusFile{}, nil
	case !hasPID && err != nil:
		return Process{}.doubtful("there is no pid file, and %s", err), statusFile{}, err
	case !hasPID:
		if p = (Process{PID: status.pid}).check(); p.Liveness != Gone {
			p = p.doubtful("there is no pid file, but the status file names process %d", p.PID)
		}
	case err == nil && status.pid != pid && isLiving(status):
		p = Process{PID: status.pid, other: pid}.check()
		p = p.doubtful("the pid file names process %d, and the status file process %d", pid, status.pid)
	case err == nil && status.pid != pid:
		p, err = Process{PID: pid}.check(), errors.New("the status file is about another process")
	default:
		p = Process{PID: pid}.check()
	}
	if p.Liveness == Gone {
		if p = h.confirm(p, status.UUID); p.Liveness == Gone {
			return p, statusFile{}, nil
		}
	}
	if err != nil {
		return p, statusFile{}, err
	}
	p.Status = status.Status
	return h.judgeGuest(p, status), status, nil
}

// isLiving reports whether a status file names a process that is alive and runs its domain.
func isLiving(s statusFile) bool {
	p := Process{PID: s.pid}.check()
	return p.Liveness != Gone && p.identify(s.UUID).Liveness != Gone
}

// absent judges a domain without pid file and status file by its name, by its UUID, or both.
func (h Host) absent(name, uuid string) Process {
	const what = "there is no pid file"
	p := Process{}.gone(onAbsence, what)
	d := h.daemon()
	if d.pid == 0 {
		return p.doubtful("%s, and libvirt's daemon is not visible here", what)
	}
	pid, err := d.findGuest(name, uuid)
	switch {
	case err != nil:
		return p.doubtful("%s, and the processes cannot be searched: %s", what, reason(err))
	case pid > 0:
		p.PID = pid
		return p.check().doubtful("%s, but process %d runs the domain", what, pid)
	}
	return p
}

// confirm returns a process that is gone by /proc as doubtful if /proc may belong to another PID
// namespace than the daemon's, or if another process runs the domain.
func (h Host) confirm(p Process, uuid string) Process {
	if p.basis != onProcess {
		return p
	}
	d := h.daemon()
	if d.pid == 0 {
		return p.doubtful("%s, and libvirt's daemon is not visible here: this may be another PID namespace", p.Evidence)
	}
	if !p.isForeign() || uuid == "" {
		return p
	}
	const mismatch = "the pid file is another domain's"
	pid, err := d.findGuest("", uuid)
	switch {
	case err != nil:
		p.PID, p.Start = 0, 0
		return p.doubtful("%s, and the processes cannot be searched: %s", mismatch, reason(err))
	case pid > 0:
		p.PID, p.Start = pid, 0
		return p.check().doubtful("%s, and process %d runs this one", mismatch, pid)
	}
	return p
}

func (p Process) identify(uuid string) Process {
	if p.Liveness == Gone || p.PID <= 0 {
		return p
	}
	if uuid != "" && !strings.EqualFold(p.Status.UUID, uuid) {
		p.Status = Status{}
	}
	if p = p.check(); p.Liveness == Gone || p.Liveness == Unknown && p.Doubt == "" || uuid == "" {
		return p
	}
	args, err := commandLine(p.PID)
	for end := time.Now().Add(execTime); err == nil && len(args) == 0 && time.Now().Before(end); args, err = commandLine(p.PID) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return p.check()
	}
	// The command line belongs to this process only if the process has not changed since.
	if p = p.check(); p.Liveness == Gone || hasArgument(args, uuid) {
		return p
	}
	if len(args) == 0 {
		return p.gone(onProcess, "process %d has no command line left", p.PID)
	}
	return p.gone(onProcess, foreign, p.PID)
}

const foreign = "process %d is not this domain's"

func (p Process) isForeign() bool { return p.Evidence == fmt.Sprintf(foreign, p.PID) }

// check reads the process's state. It does not remove a doubt about a process that exists.
func (p Process) check() Process {
	stat, err := readStat(p.PID)
	switch {
	case errors.Is(err, errNoProcess):
		return p.gone(onProcess, "process %d is gone", p.PID)
	case err != nil:
		p.Liveness, p.Evidence = Unknown, fmt.Sprintf("process %d cannot be looked at: %s", p.PID, reason(err))
		return p
	case p.Start != 0 && p.Start != stat.start:
		return p.gone(onProcess, "process %d is gone, and its PID is another's now", p.PID)
	}
	p.Start = stat.start
	if how := stat.ending(); how != "" {
		return p.gone(onProcess, "process %d %s", p.PID, how)
	}
	if p.Doubt == "" {
		p.Liveness, p.Evidence = Alive, fmt.Sprintf("process %d is alive", p.PID)
	}
	return p
}

func (p Process) gone(on basis, format string, args ...any) Process {
	p.Liveness, p.Evidence, p.Doubt, p.basis = Gone, fmt.Sprintf(format, args...), "", on
	return p
}

// doubtful returns the process with unknown liveness and the given doubt.
func (p Process) doubtful(format string, args ...any) Process {
	p.Liveness, p.Evidence = Unknown, fmt.Sprintf(format, args...)
	p.Doubt = p.Evidence
	return p
}

// reason returns an error without the path that an fs.PathError repeats: it holds the
// domain's name.
func reason(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
