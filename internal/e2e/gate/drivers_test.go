//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
)

// These tests run the gate with domains of other drivers than QEMU's: containers (LXC), and
// libvirt's own test driver, whose domains do not have processes.

// container returns a domain whose init ends on a shutdown request.
func container(g e2ehost.Guest) string {
	return `<domain type='lxc'>
  <name>` + g.Name + `</name>
  <uuid>` + g.UUID + `</uuid>
  <metadata>` + g.Metadata + `</metadata>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type>exe</type><init>/bin/sh</init><initarg>-c</initarg>
    <initarg>trap 'exit 0' TERM INT; trap : USR1; while :; do sleep 0.1; done</initarg></os>
  <devices><console type='pty'/></devices>
</domain>
`
}

const (
	containers = "lxc:///system"
	testDriver = "test+unix:///default"

	cgroupVariable = "STOPGUARD_E2E_CGROUP" // the control group of the host; the test removes it
)

// daemonInGroup starts libvirtd where the top of every hierarchy of control groups is a group of
// ours, so that containers get theirs below it. libvirt cannot make a container where both versions
// of control groups are.
var daemonInGroup = `set -e
v1=$(awk '$3 == "cgroup" {print $2}' /proc/mounts)
v2=$(awk '$3 == "cgroup2" {print $2}' /proc/mounts)
if [ -n "$v1" ]; then
	for dir in $v2; do umount "$dir"; done
	v2=
fi
cat >/run/enter.sh <<'END'
mkdir "$1/$2"
for file in cpuset.cpus cpuset.mems; do
	[ ! -e "$1/$file" ] || cat "$1/$file" >"$1/$2/$file"
done
echo $$ >"$1/$2/cgroup.procs"
END
for dir in $v1 $v2; do
	set -- "$dir" "$` + cgroupVariable + `"
	. /run/enter.sh
	mount --bind "$dir/$` + cgroupVariable + `" "$dir"
done
cat >/run/daemon.sh <<'END'
set -e
for dir; do
	set -- "$dir" self
	. /run/enter.sh
done
exec libvirtd -d -f ` + e2ehost.ConfigFile + `
END
exec unshare -C sh /run/daemon.sh $v1 $v2
`

// driverCases are commands for a container; DOM stands for it.
var driverCases = []virshCase{
	{name: "DESTROY", args: "destroy DOM", after: destroyed},
	{name: "DESTROY_FLAGS", args: "destroy DOM --graceful"}, // LXC has no such thing
	{name: "SHUTDOWN_FLAGS, over a pipe that its init does not have", args: "shutdown DOM --mode initctl"},
	{name: "SHUTDOWN_FLAGS", args: "shutdown DOM --mode signal", after: ended},
	{name: "REBOOT", args: "reboot DOM --mode signal"},
	{name: "SUSPEND", args: "suspend DOM", after: paused},
	{name: "SEND_PROCESS_SIGNAL", args: "send-process-signal DOM 1 SIGUSR1"},
	{name: "MANAGED_SAVE", args: "managedsave DOM"},
	{name: "MONITOR_COMMAND", args: `qemu-monitor-command DOM {"execute":"quit"}`},
	{name: "SET_METADATA", args: "metadata DOM --uri urn:stopguard:protection:1 --remove --live"},
	{name: "SET_AUTOSTART", args: "autostart DOM --disable"},
	{name: "DEFINE_XML, without the mark", args: "define /run/DOM-bare.xml"},
	{name: "UNDEFINE", args: "undefine DOM", resting: true},
	{name: "DESTROY, of one that is off", args: "destroy DOM", resting: true},

	{name: "list", args: "list --all --name", passes: true},
	{name: "RESUME", args: "resume DOM", passes: true},
	{name: "LXC_DOMAIN_OPEN_NAMESPACE", args: "lxc-enter-namespace DOM --noseclabel -- /bin/echo inside", passes: true},
}

func (h *host) drivers() {
	h.URI = containers
	h.prepare("")
	h.StartGate()
	if got := h.Command("", append(h.Environment(), cgroupVariable+"="+os.Getenv(cgroupVariable)), "sh", "-c", daemonInGroup); got.Exit != 0 {
		h.Fatalf("libvirtd: %+v", got)
	}
	h.Until("libvirtd answers", func() bool { return h.Virsh("uri").Exit == 0 })
	for _, g := range []e2ehost.Guest{guarded, free, control, resting} {
		h.Doing = g.Name + " is started"
		h.File("/run/"+g.Name+".xml", container(g), 0o600)
		h.File("/run/"+g.Name+"-bare.xml", strings.Replace(container(g), mark, "", 1), 0o600)
		h.VirshOK("define", "/run/"+g.Name+".xml")
		if g != resting {
			h.VirshOK("start", g.Name)
		}
	}
	run := h.run(guarded)
	// virsh enters a container's control group too, whose name it has to see as libvirtd does.
	virsh := func(uri string, args []string) e2ehost.Answer {
		return h.Command("", h.Environment(), "nsenter", append([]string{"-t", fmt.Sprint(h.PID(e2ehost.DaemonPID)), "-C", "virsh", "-c", uri}, args...)...)
	}
	through := func(args []string) e2ehost.Answer { return virsh(containers, args) }
	past := func(args []string) e2ehost.Answer {
		return virsh(containers+"?socket="+pastSocket, args)
	}
	for _, c := range driverCases {
		h.Doing = c.name
		target := guarded
		if c.resting {
			target = resting
		}
		s := step{Name: c.name, Through: through(c.on(target.Name)), State: h.State(target), Memory: e2ehost.Fresh}
		if h.run(guarded) == run {
			s.Memory = e2ehost.Kept
		}
		h.seen = append(h.seen, s)

		if c.resting {
			h.VirshOK("destroy", free.Name)
			h.VirshOK("destroy", control.Name)
		}
		s = step{Name: c.name, Through: through(c.on(free.Name)), Direct: past(c.on(control.Name))}
		h.Within(e2ehost.Patience/2, func() bool { s.State = h.State(free); return c.reached(s.State) })
		h.seen = append(h.seen, s)
		for _, g := range []e2ehost.Guest{free, control} {
			h.Within(e2ehost.Patience/2, func() bool { s.State = h.State(g); return g != control || c.reached(s.State) })
			switch {
			case strings.HasPrefix(s.State, "paused"):
				h.VirshOK("resume", g.Name)
			case !strings.HasPrefix(s.State, "running"):
				h.VirshOK("define", "/run/"+g.Name+".xml")
				h.VirshOK("start", g.Name)
			}
		}
	}

	h.Doing = "the test driver"
	h.File("/run/test.xml", "<domain type='test'><name>protected-x</name><memory unit='MiB'>8</memory><os><type>hvm</type></os></domain>", 0o600)
	for _, commands := range []string{
		// The driver's domains vanish with the last connection, so one connection runs all
		// commands.
		"define /run/test.xml; start protected-x; destroy protected-x; suspend protected-x; domstate protected-x",
		"suspend test; domstate test; destroy test; domstate test",
	} {
		h.note(testDriver, h.Command("", h.Environment(), "virsh", "-q", "-c", testDriver, commands))
	}
}

// run returns an ID that differs for each run of a container.
func (h *host) run(g e2ehost.Guest) string { return h.Virsh("domid", g.Name).Stdout }

func TestDomainsOfOtherDriversAreDecidedToo(t *testing.T) {
	group := fmt.Sprint("stopguard-e2e-", os.Getpid())
	t.Setenv(cgroupVariable, group)
	t.Cleanup(func() { removeGroups(t, group) })
	seen := on(t, "drivers")
	if len(seen) != 2*len(driverCases)+2 {
		t.Fatalf("%d steps", len(seen))
	}
	for i, c := range driverCases {
		onProtected, onFree := seen[2*i], seen[2*i+1]
		t.Run(c.name, func(t *testing.T) {
			target, state := guarded, "running"
			if c.resting {
				target, state = resting, "shut off"
			}
			c.compare(t, onProtected, onFree, target, state)
		})
	}
	t.Run("the test driver", func(t *testing.T) {
		guardedDomain, other := seen[len(seen)-2].Through, seen[len(seen)-1].Through
		for _, failed := range []string{"destroy", "suspend"} {
			if want := "error: Failed to " + failed + " domain 'protected-x'\n" + veto("protected-x") + "\n"; !strings.Contains(guardedDomain.Stderr, want) {
				t.Errorf("%q is not in %q", want, guardedDomain.Stderr)
			}
		}
		if !strings.HasSuffix(strings.TrimSpace(guardedDomain.Stdout), "running") {
			t.Errorf("%+v", guardedDomain)
		}
		if strings.Join(strings.Fields(other.Stdout), " ") != "paused shut off" || other.Stderr != "" {
			t.Errorf("%+v", other)
		}
	})
}

// removeGroups removes the control groups that were made for containers, as soon as they are empty.
func removeGroups(t *testing.T, group string) {
	var err error
	for deadline := time.Now().Add(e2ehost.Patience); time.Now().Before(deadline); time.Sleep(e2ehost.Tick) {
		var dirs []string
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			tops, _ := filepath.Glob(pattern + group)
			for _, top := range tops {
				_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
					if err == nil && d.IsDir() {
						dirs = append(dirs, path)
					}
					return nil
				})
			}
		}
		if len(dirs) == 0 {
			return
		}
		for i := range dirs { // deeper folders follow
			err = os.Remove(dirs[len(dirs)-1-i])
		}
	}
	t.Error(err)
}
