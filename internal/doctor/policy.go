package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

const (
	hookLabel = "virt_hook_t"
	minFree   = 16 << 20
	loadTime  = 10 * time.Second
)

// unconfinedFolders are the folders from which every version of AppArmor's profile lets libvirt's
// daemon run any program. A profile names /usr/libexec only if libvirt's own helpers are there,
// which is not so on Debian and Ubuntu.
var unconfinedFolders = []string{"/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", host.HooksFolder + "/"}

func (d *doctor) checkAppArmor(h host.Hook, program string) {
	profiles, err := os.ReadFile(d.Path("/sys/kernel/security/apparmor/profiles"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.ok("apparmor", "it is not in use")
		return
	case err != nil:
		d.unknown("apparmor", "run it as root", "which profiles are loaded cannot be read")
		return
	}
	var enforced []string
	for line := range strings.Lines(string(profiles)) {
		name, ok := strings.CutSuffix(strings.TrimSpace(line), " (enforce)")
		if ok && slices.Contains(host.DaemonNames, path.Base(name)) {
			enforced = append(enforced, path.Base(name))
		}
	}
	if len(enforced) == 0 {
		d.ok("apparmor", "it does not confine libvirt's daemon")
		return
	}
	for _, name := range []string{h.Path, program, program + "-thin"} {
		resolved, err := d.resolve(name)
		if err != nil || slices.ContainsFunc(unconfinedFolders, func(folder string) bool { return strings.HasPrefix(resolved, folder) }) {
			continue // a missing file is reported already
		}
		if slices.ContainsFunc(enforced, func(profile string) bool { return d.allowedBy(profile, resolved) }) {
			continue
		}
		cure := "move it to /usr/sbin, with a link to it in its old place"
		if installedAt[name] != "" {
			cure = d.reinstallHint(name, "stopguard install --hook FILE, which puts it in /usr/sbin")
		}
		d.failure("apparmor", cure+"; or allow it in /etc/apparmor.d/local/usr.sbin."+enforced[0],
			"the profile of %s does not let it run %s", enforced[0], d.Path(resolved))
		return
	}
	d.ok("apparmor", "the profile of %s lets it run the hook and its program", enforced[0])
}

// allowedBy reports whether a profile, or the site's addition to it, has a rule for a program or
// for its folder.
func (d *doctor) allowedBy(profile, program string) bool {
	for _, file := range []string{"usr.sbin." + profile, "local/usr.sbin." + profile} {
		rules, _ := os.ReadFile(d.Path("/etc/apparmor.d/" + file))
		for line := range strings.Lines(string(rules)) {
			rule := strings.TrimSpace(line)
			if strings.HasPrefix(rule, program+" ") || strings.HasPrefix(rule, path.Dir(program)+"/* ") {
				return true
			}
		}
	}
	return false
}

// checkSELinux checks whether SELinux lets libvirt's daemon start the hook. If SELinux does not
// answer, the label decides.
func (d *doctor) checkSELinux(h host.Hook) {
	enforces, err := d.SELinuxEnforces()
	switch {
	case err != nil:
		d.unknown("selinux", "run it as root", "whether it is enforced cannot be read")
		return
	case !enforces && d.Exists("/sys/fs/selinux/enforce"):
		d.ok("selinux", "it enforces nothing")
		return
	case !enforces:
		d.ok("selinux", "it is not in use")
		return
	}
	cure := "restorecon -v " + d.Path(h.Path)
	switch answer, why := d.SELinuxLetsStart(d.processes.Daemons, h.Path); answer {
	case host.Yes:
		d.ok("selinux", "%s", why)
		return
	case host.No:
		d.failure("selinux", hookOff(d.Path(h.Path))+"; then "+cure+", or have the policy allow it, or use the gate: "+host.InstallGate,
			"%s: the guard is never asked, and %s", why, killsGuests)
		return
	}
	label, err := d.FileLabel(d.Path(h.Path))
	switch {
	case err != nil:
		d.unknown("selinux", cure, "it is enforced, and the label of %s cannot be read: %v", d.Path(h.Path), err)
	case !slices.Contains(strings.Split(label, ":"), hookLabel):
		d.warning("selinux", cure, "%s is labelled %s and not %s: libvirt may not be let run it", d.Path(h.Path), label, hookLabel)
	default:
		d.ok("selinux", "the hook is labelled %s", hookLabel)
	}
}

// checkPolicy loads the files that the hook would load: an error in any of them refuses every stop.
// It starts with the files that the others depend on, because an error hides those that follow. It
// returns nil if there is an error.
func (d *doctor) checkPolicy(ctx context.Context) *policy.Engine {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	d.checkUnread()
	list, err := hostfile.Root(d.Root).Read(hostpath.List, 16<<20)
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil {
		_, err = policy.New(ctx, policy.Config{List: list, ListName: hostpath.List})
	}
	if err != nil && !missing {
		d.policyError("list", err)
		return nil
	}
	if missing {
		d.ok("list", "there is none: %s", d.Path(hostpath.List))
	} else {
		d.ok("list", "%s", d.Path(hostpath.List))
		d.checkEntries()
	}
	config, err := hostpolicy.Load(d.Root)
	if err != nil {
		d.policyError("policy", err)
		return nil
	}
	engine, err := policy.New(ctx, config)
	if err != nil {
		if strings.Contains(err.Error(), "data.site") {
			d.ok("policy", "its files can be read")
			d.policyError("settings", err)
		} else {
			d.policyError("policy", err)
		}
		return nil
	}
	var warnings, broad []error
	for _, warning := range engine.Warnings() {
		if errors.Is(warning, policy.ErrEveryOperation) {
			broad = append(broad, warning)
		} else {
			warnings = append(warnings, warning)
		}
	}
	// Without a gate only stops are asked about.
	if len(broad) > 0 && d.Host.Enforcement(policy.OperationReset).Enforced {
		d.warning("operations", "compare input.operation with the operations that each is for", "%s", shown(broad))
	}
	if len(warnings) > 0 {
		d.warning("policy", cureOf(warnings, "write "+policy.OperationModify+", "+policy.OperationDelete+" or both"), "%s", shown(warnings))
	} else if len(config.Sites) == 0 {
		d.ok("policy", "there is none of the site's own: %s", d.Path(hostpath.Policy))
	} else {
		d.ok("policy", "it can be loaded")
	}
	settings, err := policy.ReadSettings(config.Sites)
	if err != nil {
		d.policyError("settings", err)
		return nil
	}
	d.checkSettings(settings)
	d.checkDeletes(ctx, engine)
	d.checkNotify(engine.Notify())
	return engine
}

func (d *doctor) policyError(id string, err error) {
	d.addError(severityFailure, id, fmt.Errorf("every stop is refused: %w", err))
}

func (d *doctor) checkSettings(site map[string]any) {
	switch monitored := monitoredOperations(site); {
	case slices.Contains(monitored, "*"):
		d.warning("settings", `take "*" out of data.site.monitor`, "no rule is enforced: every one is only monitored")
	case len(monitored) > 0:
		d.warning("settings", fmt.Sprintf("take %q out of data.site.monitor", "*/"+monitored[0]), "no rule is enforced against a %s: every one is only monitored", strings.Join(monitored, ", "))
	default:
		d.ok("settings", "nothing is wrong with them")
	}
	managers := d.clusterManagers()
	_, set := site["cluster_managed"]
	switch {
	case len(managers) == 0:
		d.ok("cluster", "no cluster manager is seen")
	case set:
		d.ok("cluster", "%s runs here, and data.site.cluster_managed is set", strings.Join(managers, ", "))
	default:
		d.warning("cluster", "list the domains that it may stop in data.site.cluster_managed; [] if there are none",
			"%s runs here: a stop that is refused to it may get this host fenced, or two copies run on one disk", strings.Join(managers, ", "))
	}
}

// clusterSigns are the processes and files of cluster managers that stop domains by themselves.
// Files of a package that may be unused are not listed.
var clusterSigns = []struct {
	name      string
	processes []string
	files     []string
}{
	{"Pacemaker", []string{"pacemakerd", "corosync"}, []string{"/var/lib/pacemaker/cib/cib.xml"}},
	{"oVirt", []string{"vdsmd"}, []string{"/etc/vdsm/vdsm.id"}},
	{"OpenStack Nova", []string{"nova-compute"}, nil},
	{"Proxmox", []string{"pve-ha-lrm", "pve-ha-crm", "pmxcfs"}, nil},
	{"KubeVirt", []string{"virt-launcher", "virt-handler"}, nil},
	{"CloudStack", nil, []string{"/etc/cloudstack/agent/agent.properties"}},
	{"OpenNebula", nil, []string{"/var/tmp/one/im/run_probes"}},
}

func (d *doctor) clusterManagers() []string {
	var found []string
	for _, sign := range clusterSigns {
		runs := slices.ContainsFunc(sign.processes, func(name string) bool { return d.processes.Names[name] })
		if runs || slices.ContainsFunc(sign.files, d.Exists) {
			found = append(found, sign.name)
		}
	}
	return found
}

func (d *doctor) checkTickets() {
	_, reports := ticket.Store{Root: d.Root}.List(time.Now())
	if len(reports) == 0 {
		d.ok("tickets", "each can be read")
		return
	}
	more := ""
	if len(reports) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(reports)-1)
	}
	d.addError(severityWarning, "tickets", fmt.Errorf("what cannot be read lifts nothing%s: %w", more, reports[0]))
}

func (d *doctor) checkRecords() {
	folder := path.Dir(record.File)
	err := hostfile.Root(d.Root).Judge(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.addError(severityWarning, "record", fmt.Errorf("decisions may be lost or forged: %w", err))
		return
	}
	if err := d.recordFault(); err != nil {
		d.addError(severityWarning, "record", err)
		return
	}
	d.ok("record", "%s", d.Path(record.File))
	there := d.Path(folder)
	for !isFolder(there) {
		there = filepath.Dir(there)
	}
	switch free, err := d.free(there); {
	case err != nil:
		d.unknown("record-space", "look at its disk", "how much room %s has cannot be told: %v", there, err)
	case free < minFree:
		d.warning("record-space", "make room there", "%s has room for %d KiB only", there, free>>10)
	default:
		d.ok("record-space", "%d MiB", free>>20)
	}
}

// recordFault returns why a record could not be written.
func (d *doctor) recordFault() error {
	const cure = "; correct this, for stops are decided and not recorded"
	file := d.Path(record.File)
	info, err := os.Lstat(file)
	switch {
	case err == nil && info.Mode().Type() == fs.ModeSymlink:
		return errors.New(file + " is a link, and links are not followed" + cure)
	case err == nil && !info.Mode().IsRegular():
		return errors.New(file + " is not a regular file" + cure)
	case err == nil:
		if err := unix.Access(file, unix.W_OK); err != nil {
			return fmt.Errorf("%s cannot be written: %w"+cure, file, err)
		}
	}
	// The folder has to be writable too, for a file that is too large is set aside; where it is
	// missing, the one above it.
	for folder := filepath.Dir(file); ; folder = filepath.Dir(folder) {
		err := unix.Access(folder, unix.W_OK|unix.X_OK)
		if err == unix.ENOENT && folder != "/" {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s cannot be written: %w"+cure, folder, err)
		}
		return nil
	}
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return name == "/" || err == nil && info.IsDir()
}

// checkState checks whether the hook can detect that a domain is gone. Otherwise a veto would wedge
// such a domain.
func (d *doctor) checkState() {
	for _, folder := range []string{"/run/libvirt/qemu", "/var/run/libvirt/qemu"} {
		_, err := os.ReadDir(d.Path(folder))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			d.failure("state", "make it a folder that root can read; restarting the daemon creates it where it is missing",
				"whether a domain is dead already cannot be told, and a refused stop would wedge it: %v", err)
		default:
			d.ok("state", "%s", d.Path(folder))
		}
		return
	}
	if len(d.processes.Daemons) > 0 {
		d.failure("state", "restart the daemon",
			"a daemon runs, and %s is missing: whether a domain is dead already cannot be told, and a refused stop would wedge it", d.Path("/run/libvirt/qemu"))
		return
	}
	d.ok("state", "%s is not there yet; the daemon creates it", d.Path("/run/libvirt/qemu"))
}

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

// checkShuttingDown looks for a flag that was left over: while it is there, nothing is enforced.
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
