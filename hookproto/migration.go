package hookproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// judgeGuest returns a living process as gone if its guest is gone for good. A veto there could
// only wedge the domain. Every other state is for the policy to judge.
func (h Host) judgeGuest(p Process, s statusFile) Process {
	switch {
	case s.State == "shutdown" && !s.fakeReboot:
		return p.gone(onGuest, "the guest is shut off (state shutdown)")
	case s.State == "paused" && s.Reason == "shutdown" && !s.fakeReboot:
		// libvirt 11.10 keeps the process of a guest that has shut down until its backup is
		// complete (VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN), and ends it then.
		return p.gone(onGuest, "the guest is shut off, and its process is kept for a backup (state paused, reason shutdown)")
	case s.State == "crashed" && s.Reason == "panicked":
		return p.gone(onGuest, "the guest has panicked (state crashed)")
	case s.State == "paused" && s.Reason == "migration":
		return h.judgeMigration(p, s)
	}
	return p
}

// judgeMigration judges a guest in the state paused (migration). A destination is in it until the
// guest has arrived: if the migration fails, only a stop cleans up. A source is in it, too, when
// its client or its daemon died before the end: then it may be the only copy, and virsh resume
// brings it back. libvirt clears the job of both.
func (h Host) judgeMigration(p Process, s statusFile) Process {
	const state = "(state paused, reason migration)"
	switch {
	case s.Job == "start": // a start from saved memory looks like that
		return p
	case s.Job == "migration in", s.Job == "" && h.isUnstartedDestination(s):
		return p.gone(onGuest, "the guest is an incoming migration that failed "+state)
	}
	return p.doubtful("the guest is paused (migration) and may be the only copy; virsh resume lets it go on")
}

// idleTime is more processor time than the threads of a QEMU that waits for an incoming guest take
// for each virtual CPU, and less than an idle guest takes within a minute.
const idleTime = 20 * time.Millisecond

// isUnstartedDestination reports whether the process was started to receive a guest that has never
// run in it. A guest that once came by migration keeps the argument -incoming for good.
func (h Host) isUnstartedDestination(s statusFile) bool {
	args, err := commandLine(s.pid)
	if err != nil || !slices.Contains(args, "-incoming") || !hasArgument(args, s.UUID) {
		return false
	}
	wasSource, isKnown := h.wasMigrationSource(s.Name)
	return isKnown && !wasSource && !hasRun(s)
}

// hasRun reports whether a virtual CPU has taken more processor time than it takes to start one.
func hasRun(s statusFile) bool {
	for _, thread := range s.vcpus {
		if used, err := threadTime(s.pid, thread); err != nil || used > idleTime {
			return true
		}
	}
	return false
}

// threadTime returns the processor time of a thread (the first field of its schedstat, in
// nanoseconds).
func threadTime(pid, thread int) (time.Duration, error) {
	var data [128]byte
	n, err := readAtOnce(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, thread), data[:])
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(data[:n]), " ")
	nanos, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(nanos), err
}

// logDir has a log for each domain, to which QEMU and libvirt append.
const logDir = "/var/log/libvirt/qemu/"

// maxLog bounds the end of a log that is read, in bytes.
const maxLog = 256 << 10

// wasMigrationSource reports whether libvirt has begun to migrate the guest away since its start.
// It appends "initiating migration" to the domain's log then. isKnown is false if the log does not
// have the start.
func (h Host) wasMigrationSource(name string) (wasSource, isKnown bool) {
	fd, err := syscall.Open(h.path(logDir+name+".log"), syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil || strings.Contains(name, "/") {
		return false, false
	}
	f := os.NewFile(uintptr(fd), "log")
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false, false
	}
	data := make([]byte, min(info.Size(), maxLog))
	n, err := f.ReadAt(data, info.Size()-int64(len(data)))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, false
	}
	start := bytes.LastIndex(data[:n], []byte(": starting up libvirt version"))
	if start < 0 {
		return false, false
	}
	return bytes.Contains(data[start:n], []byte(": initiating migration")), true
}
