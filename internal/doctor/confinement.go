package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/host"
)

// hookLabel is the SELinux type of hook files that libvirt's daemon may run.
const hookLabel = "virt_hook_t"

// unconfinedFolders are the folders from which every version of AppArmor's profile lets libvirt's
// daemon run any program. A profile names /usr/libexec only if libvirt's own helpers are there,
// which they are not on Debian and Ubuntu.
var unconfinedFolders = []string{"/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", host.HooksFolder + "/"}

// checkAppArmor checks whether AppArmor lets libvirt's daemon run the hook and its programs.
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
