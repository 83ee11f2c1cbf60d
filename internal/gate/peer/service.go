package peer

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// daemonUnit matches the systemd units of libvirt's daemons.
var daemonUnit = regexp.MustCompile(`\A(libvirtd|virt[a-z]+d)\.service\z`)

// service returns the daemon of libvirt's that a process belongs to by its control group, without
// ".service"; "" if it does not belong to one. /proc/PID/exe would be more precise, but the gate's
// capabilities do not suffice to read it.
func service(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	return serviceIn(string(data))
}

// serviceIn returns the daemon in the text of /proc/PID/cgroup, which has lines such as
// "0::/system.slice/virtproxyd.service".
func serviceIn(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), ":/")
		for element := range strings.SplitSeq(path, "/") {
			if daemonUnit.MatchString(element) {
				return strings.TrimSuffix(element, ".service")
			}
		}
	}
	return ""
}

// unitName matches the units that hold processes.
var unitName = regexp.MustCompile(`\A[^/]+\.(service|scope|socket|mount|swap)\z`)

// unitIn returns the outermost systemd unit in the text of /proc/PID/cgroup. The user chooses the
// names of the units within a user's unit.
func unitIn(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		number, path, _ := strings.Cut(strings.TrimSpace(line), ":/")
		if number != "0:" && !strings.HasSuffix(number, ":name=systemd") {
			continue
		}
		for element := range strings.SplitSeq(path, "/") {
			if unitName.MatchString(element) {
				return element
			}
		}
	}
	return ""
}

// program returns the systemd unit and the executable of a process, if they can be read. It checks
// afterwards that the PID still belongs to the process.
func program(pid int, isSame func() bool) (unit, executable string) {
	if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err == nil {
		unit = unitIn(string(data))
	}
	if path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
		executable = strings.ToValidUTF8(path, "\uFFFD")
	}
	if !isSame() {
		return "", ""
	}
	return unit, executable
}
