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
// ".service"; "" if it belongs to none. /proc/PID/exe would tell more, but cannot be read with the
// capabilities that the gate has.
func service(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	return serviceIn(string(data))
}

// serviceIn finds it in the text of /proc/PID/cgroup, which has lines such as
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

// unitIn finds the systemd unit in the text of /proc/PID/cgroup: the outermost one, for the names
// of the units within a user's are the user's own.
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

// program returns the systemd unit and the executable of a process, as far as they can be read, and
// makes sure afterwards that the PID still is the process.
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
