package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/terminal"
)

const monitorFolder = "/var/lib/libvirt/qemu"

// monitorOptions are options of QEMU that let processes other than libvirt control the guest.
var monitorOptions = []string{"qmp", "qmp-pretty", "monitor", "mon", "gdb", "s"}

// extraMonitor returns the first such option with its value that does not come from libvirt, or "".
func extraMonitor(args []string) string {
	for i, arg := range args {
		option := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
		if option == arg || !slices.Contains(monitorOptions, option) {
			continue
		}
		value := ""
		if i+1 < len(args) && option != "s" {
			value = args[i+1]
		}
		if option == "mon" && strings.HasPrefix(value, "chardev=charmonitor,") || option != "mon" && value == "none" {
			continue
		}
		return strings.TrimSpace(arg + " " + value)
	}
	return ""
}

func (d *doctor) checkMonitors() {
	files, _ := filepath.Glob(d.Path(monitorFolder + "/domain-*/monitor.sock")) // an error is about the pattern
	for _, file := range files {
		if d.isOpen(file) {
			d.failure("gate-monitors", "chmod o= "+terminal.ShellWord(filepath.Dir(file)), "everybody can connect to %s, and stop that guest past the gate", file)
			return
		}
	}
	folders, _ := filepath.Glob(d.Path("/proc/[0-9]*"))
	for _, folder := range folders {
		pid, _ := strconv.Atoi(filepath.Base(folder))
		content := d.Proc(pid, "cmdline")
		program, _, _ := strings.Cut(content, "\x00")
		if !strings.HasPrefix(filepath.Base(program), "qemu-") && filepath.Base(program) != "kvm" {
			continue
		}
		args := strings.Split(strings.TrimSuffix(content, "\x00"), "\x00")
		if extra := extraMonitor(args[1:]); extra != "" {
			d.failure("gate-monitors", "take it out of <qemu:commandline>, and start the guest anew when it may stop",
				"process %d runs with %q, a way to stop its guest past the gate", pid, extra)
			return
		}
	}
	var unread []error
	for _, one := range d.defined {
		args, err := commandLine(one.Domain)
		if err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", terminal.Clean(one.Name), err))
		}
		if extra := extraMonitor(args); extra != "" {
			d.failure("gate-monitors", "virsh edit it, and take that out of <qemu:commandline>", "the domain %s has %q, a way to stop the guest past the gate", terminal.Clean(one.Name), extra)
			return
		}
	}
	if len(unread) > 0 {
		d.warning("gate-monitors", "look at the domain with virsh dumpxml --inactive", "what its definition adds to QEMU's arguments cannot be read: %s", shown(unread))
		return
	}
	if members := d.members("libvirt-qemu", "qemu", "kvm"); len(members) > 0 {
		d.warning("gate-monitors", "gpasswd -d USER GROUP, unless it is meant", "%s: these users may reach the monitors and disks of guests", strings.Join(members, ", "))
		return
	}
	d.ok("gate-monitors", "nobody but root and QEMU's user reaches them, and there is none that libvirt has not made")
}

// isOpen reports whether every user can connect to a socket.
func (d *doctor) isOpen(file string) bool {
	info, err := os.Lstat(file)
	open := err == nil && info.Mode().Perm()&0o002 != 0
	for dir := filepath.Dir(file); open && len(dir) > len(d.Path("/")); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		open = err == nil && info.Mode().Perm()&0o001 != 0
	}
	return open
}

// commandLine returns the arguments that a domain's definition adds to QEMU's command line.
func commandLine(domain *domainxml.Domain) ([]string, error) {
	whole, err := domain.Libvirt()
	if err != nil || whole.QEMUCommandline == nil {
		return nil, err
	}
	var args []string
	for _, arg := range whole.QEMUCommandline.Args {
		args = append(args, arg.Value)
	}
	return args, nil
}

// members returns the members of QEMU's groups, as "USER in GROUP", without QEMU's own users.
func (d *doctor) members(groups ...string) []string {
	var found []string
	for line := range strings.Lines(d.text("/etc/group")) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 4 || !slices.Contains(groups, f[0]) {
			continue
		}
		for _, user := range strings.Split(f[3], ",") {
			if user != "" && user != "root" && !slices.Contains(groups, user) {
				found = append(found, user+" in "+f[0])
			}
		}
	}
	return found
}
