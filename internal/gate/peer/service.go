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
