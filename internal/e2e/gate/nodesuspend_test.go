//go:build e2e

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// libvirt 9.0.0 suspends a host in this way (util/virnodesuspend.c): it queries logind over D-Bus
// for the supported ways, runs rtcwake, answers, and ten seconds later runs one of pm-utils'
// programs. Here each of them is a stand-in that only records its arguments: the machine of the
// test must not sleep.
const (
	standIn     = "/run/stand-in"
	standInNote = "/run/stand-in.called"

	standInProgram = "#!/bin/sh\necho \"${0##*/} $*\" >>" + standInNote + "\n"
)

var sleepers = []string{"rtcwake", "pm-is-supported", "pm-suspend", "pm-hibernate", "pm-suspend-hybrid"}

// keepAwake puts the stand-ins in place, makes /sys read-only, and ends the host unless all of that
// is so.
func (h *host) keepAwake() {
	h.Doing = "the machine is kept awake"
	h.File(standIn, standInProgram, 0o755)
	h.File(standInNote, "", 0o600)
	must := func(err error) {
		if err != nil {
			h.Fatalf("%v", err)
		}
	}
	must(syscall.Mount("", "/sys", "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	if _, err := os.Stat("/sys/power"); err == nil {
		must(syscall.Mount("none", "/sys/power", "tmpfs", syscall.MS_RDONLY, ""))
	}

	var path []string
	for _, variable := range h.Environment() {
		if list, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = filepath.SplitList(list)
		}
	}
	var places []string
	for _, dir := range path {
		for _, name := range sleepers {
			place := filepath.Join(dir, name)
			if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) && dir == "/usr/sbin" {
				h.File(place, "", 0o755)
			} else if err != nil {
				continue
			}
			must(syscall.Mount(standIn, place, "", syscall.MS_BIND, ""))
			places = append(places, place)
		}
	}

	for _, place := range places {
		if h.Read(place) != standInProgram {
			h.Fatalf("%s is no stand-in", place)
		}
	}
	for _, name := range sleepers {
		if got := h.Command("", h.Environment(), "sh", "-c", "command -v "+name); got.Exit != 0 {
			h.Fatalf("%s would not be found", name)
		}
	}
	for _, name := range []string{"/sys/power/state", "/sys/power/disk", "/sys/power/autosleep", "/sys/class/rtc/rtc0/wakealarm"} {
		if f, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			f.Close()
			h.Fatalf("%s can be written to", name)
		}
	}
	var sys syscall.Statfs_t
	must(syscall.Statfs("/sys", &sys))
	if sys.Flags&syscall.MS_RDONLY == 0 {
		h.Fatalf("/sys can be written to")
	}
}

// startLogind starts a stand-in for logind, which reports every way of suspending as supported and
// does nothing.
func (h *host) startLogind() {
	cmd := exec.Command(python, "-m", "dbusmock", "--system", "--template", "logind")
	cmd.Dir, cmd.Env = "/", h.Environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.Fatalf("%v", err)
	}
	h.Until("logind's stand-in answers", func() bool {
		got := h.Command("", h.Environment(), "busctl", "--system", "call",
			"org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "CanSuspend")
		return got.Stdout == "s \"yes\"\n"
	})
}

// calls are those of the stand-ins, a line each.
func (h *host) calls() []string {
	calls := strings.Split(h.Read(standInNote), "\n")
	return calls[:len(calls)-1]
}

func (h *host) nodeSuspend() {
	h.keepAwake()
	h.prepare("")
	h.startLogind()
	h.StartGate()
	h.StartDaemon()
	for _, g := range []e2ehost.Guest{guarded, free} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
	}
	h.Remind(guarded)
	note := func(name string, s step) {
		s.Name, s.State = name, h.State(guarded)+", "+h.State(free)
		s.Records = h.calls()
		h.File(standInNote, "", 0o600)
		h.seen = append(h.seen, s)
	}
	for _, target := range []string{"mem", "disk", "hybrid"} {
		h.Doing = target
		note("a protected guest runs, "+target, step{Through: h.Virsh("nodesuspend", target, "60"), Memory: h.Ask(guarded)})
	}

	h.DirectOK("destroy", guarded.Name)
	h.Doing = "it is off"
	note("it is off, and the time is too short", step{Through: h.Virsh("nodesuspend", "mem", "59"), Direct: h.OnDirect("nodesuspend", "mem", "59")})
	through := h.Virsh("nodesuspend", "mem", "60")
	h.Until("the host is told to suspend", func() bool { return len(h.calls()) == 2 })
	note("it is off", step{Through: through})
	s := &h.seen[len(h.seen)-1]
	h.Until("another suspension is not under way", func() bool {
		s.Direct = h.OnDirect("nodesuspend", "mem", "60")
		return !strings.Contains(s.Direct.Stderr, "already in progress")
	})
}

func TestAHostIsNotSuspendedWhileAProtectedGuestRuns(t *testing.T) {
	const (
		failed   = "error: The host was not suspended\n"
		tooShort = failed + "error: invalid argument: Suspend duration is too short, must be at least 60 seconds\n"

		bothRun = "running (booted), running (booted)"
		oneRuns = "shut off (destroyed), running (booted)"
	)
	vetoed := e2ehost.Answer{Exit: 1, Stdout: "\n", Stderr: failed + veto("protected-01") + "\n"}
	refused := e2ehost.Answer{Exit: 1, Stdout: "\n", Stderr: tooShort}
	done := e2ehost.Answer{Stdout: "\n"}
	if diff := cmp.Diff([]step{
		{Name: "a protected guest runs, mem", Through: vetoed, State: bothRun, Memory: e2ehost.Kept},
		{Name: "a protected guest runs, disk", Through: vetoed, State: bothRun, Memory: e2ehost.Kept},
		{Name: "a protected guest runs, hybrid", Through: vetoed, State: bothRun, Memory: e2ehost.Kept},
		{Name: "it is off, and the time is too short", Through: refused, Direct: refused, State: oneRuns},
		{Name: "it is off", Through: done, Direct: done, State: oneRuns, Records: []string{"rtcwake -m no -s 60", "pm-suspend "}},
	}, on(t, "asleep"), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}
