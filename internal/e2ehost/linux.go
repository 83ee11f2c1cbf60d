//go:build e2e

package e2ehost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// linuxVariable is the variable with the folder in which .ci/e2e has unpacked a kernel, busybox and
// QEMU's guest agent.
const linuxVariable = "STOPGUARD_E2E_LINUX"

// The files that Linux guests boot. All guests of a host share them.
const (
	linuxKernel = GuestDir + "/linux.kernel"
	linuxRAM    = GuestDir + "/linux.initramfs"

	linuxLogs   = "/var/log/libvirt/qemu"
	linuxMemory = 128 // MiB

	linuxPatience = 4 * Patience // Booting takes five seconds of processor time, which others share.
)

// linuxBoot is the XML that boots the files. The kernel does not write to the guest's first serial
// port, which the tests use.
const linuxBoot = "<kernel>" + linuxKernel + "</kernel><initrd>" + linuxRAM + "</initrd>" +
	"<cmdline>console=ttyS1 loglevel=4 panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable</cmdline>"

// linuxDevices returns a Linux guest's further devices: a console whose log a failure shows, and
// the agent's channel.
func linuxDevices(g Guest) string {
	return fmt.Sprintf(`
    <serial type='file'><source path='%s/%s-console.log'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>`, linuxLogs, escaped(g.Name))
}

// linuxModules are kernel modules, each after those that it depends on.
var linuxModules = []string{
	"virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev", "virtio/virtio_pci_modern_dev", "virtio/virtio_pci",
	"char/virtio_console", "block/virtio_blk", "input/evdev", "acpi/button",
}

// linuxInit is the first process of a Linux guest. It answers over the serial port as bootSector
// does, but for the panic. When it answers for the first time, the agent has been started and the
// disk is mounted, so that there is a file system to be frozen. The power button ends it, as does
// the agent, which calls shutdown.
const linuxInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
for module in /modules/*; do insmod $module; done
mount -t ext4 /dev/vda /mnt
button=$(grep -l "Power Button" /sys/class/input/event*/device/name | cut -d/ -f5)
{ head -c 1 /dev/input/$button >/dev/null; poweroff -f; } &
port=$(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name | cut -d/ -f5)
qemu-ga -p /dev/$port -t /run -l /run/qemu-ga.log &
exec 3<>/dev/ttyS0
stty -F /dev/ttyS0 raw -echo
memory=b
while true; do
  IFS= read -r -n 1 byte <&3
  case $byte in
  '?') printf %s $memory >&3 ;;
  o) poweroff -f ;;
  *) memory=$byte ;;
  esac
done
`

// The agent runs these commands, which busybox lacks or has in another form.
const (
	linuxShutdown = `#!/bin/sh
case $2 in
-r) reboot -f ;;
*) poweroff -f ;;
esac
`
	linuxPassword = `#!/bin/sh
IFS=: read -r user password
sed -i "s|^$user:[^:]*|$user:$(mkpasswd "$password")|" /etc/shadow
`
)

// AwaitAgent waits until the agent of a Linux guest answers. libvirt notices the agent a little
// after its start, and again after a suspension.
func (h *Host) AwaitAgent(g Guest) {
	if !h.Within(linuxPatience, func() bool {
		return h.Virsh("qemu-agent-command", g.Name, `{"execute":"guest-ping"}`).Exit == 0
	}) {
		h.Fatalf("the agent of %s does not answer", g.Name)
	}
}

// NeedLinux fails the test unless the parts of Linux guests are there.
func NeedLinux(t *testing.T) {
	t.Helper()
	if kernels, _ := filepath.Glob(linuxPart("boot/vmlinuz-*")); len(kernels) != 1 {
		t.Fatalf("%s names no folder with a kernel; run .ci/e2e", linuxVariable)
	}
}

func linuxPart(name string) string { return filepath.Join(os.Getenv(linuxVariable), name) }

// writeLinux puts the files that Linux guests boot in place, once, and a file system on the guest's
// disk.
func (h *Host) writeLinux(g Guest) {
	h.Run(h.part("bin/busybox"), "mke2fs", "-F", g.Disk())
	if _, err := os.Stat(linuxRAM); err == nil {
		return
	}
	if err := os.MkdirAll(linuxLogs, 0o755); err != nil {
		h.Fatalf("%v", err)
	}
	h.File(linuxKernel, h.Read(h.part("boot/vmlinuz-*")), 0o644)

	var a initramfs
	for _, dir := range []string{"bin", "dev", "etc", "lib", "lib64", "mnt", "modules", "proc", "root", "run", "sbin", "sys"} {
		a.dir(dir)
	}
	a.file("init", linuxInit, 0o755)
	a.file("sbin/shutdown", linuxShutdown, 0o755)
	a.file("sbin/chpasswd", linuxPassword, 0o755)
	a.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	a.file("etc/shadow", "root:*:19000:0:99999:7:::\n", 0o600)
	a.file("bin/busybox", h.Read(h.part("bin/busybox")), 0o755)
	agent := h.part("usr/sbin/qemu-ga")
	a.file("sbin/qemu-ga", h.Read(agent), 0o755)
	libraries, err := libraries(agent)
	if err != nil {
		h.Fatalf("the guest agent's libraries: %v", err)
	}
	for name, path := range libraries {
		a.file(strings.TrimPrefix(name, "/"), h.Read(path), 0o755)
	}
	for i, module := range linuxModules {
		a.file(fmt.Sprintf("modules/%02d", i), h.Read(h.part("lib/modules/*/kernel/drivers/"+module+".ko")), 0o644)
	}
	h.File(linuxRAM, a.done(), 0o644)
}

// part returns the one file that matches the pattern, among the files of Linux guests.
func (h *Host) part(pattern string) string {
	found, err := filepath.Glob(linuxPart(pattern))
	if err != nil || len(found) != 1 {
		h.Fatalf("%s has %d files %s, want one; run .ci/e2e", os.Getenv(linuxVariable), len(found), pattern)
	}
	return found[0]
}
