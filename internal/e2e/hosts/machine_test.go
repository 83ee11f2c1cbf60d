//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Limits for a machine under TCG on a busy host. None is reached when all is well.
const (
	bootLimit    = 15 * time.Minute
	commandLimit = 10 * time.Minute
)

// A machine is a whole Debian host in QEMU, reached by SSH on loopback. Its disk is a layer over
// the image that ends with the test.
type machine struct {
	t      *testing.T
	image  string // the folder that .ci/host-image printed
	folder string // of the layer, the console's log and the SSH connections
	port   int
}

// An answer is the result of a command: its exit status and all that it printed.
type answer struct {
	exit int
	text string
}

// newMachine boots a machine with another disk, media. If STOPGUARD_HOSTS_PORT is set, it connects
// to that port instead, where a machine runs already.
func newMachine(t *testing.T, image, media string) *machine {
	t.Helper()
	folder, err := os.MkdirTemp("", "host") // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, image: image, folder: folder}
	t.Cleanup(func() {
		if t.Failed() {
			console, _ := os.ReadFile(m.console())
			t.Logf("the console's last lines:\n%s", console[max(0, len(console)-4000):])
		}
		_ = os.RemoveAll(folder)
	})
	if port := os.Getenv("STOPGUARD_HOSTS_PORT"); port != "" {
		if m.port, err = strconv.Atoi(port); err != nil {
			t.Fatal("STOPGUARD_HOSTS_PORT is not a number:", err)
		}
		t.Cleanup(m.hangUp)
		return m
	}
	m.port = freePort(t)
	disk := filepath.Join(folder, "disk.qcow2")
	m.local("qemu-img", "create", "-q", "-f", "qcow2", "-b", filepath.Join(image, "disk.ext4"), "-F", "raw", disk)

	// Debian's kernels do not boot on every KVM that a machine for CI offers, and TCG is the same
	// everywhere. Nehalem has what they need, and little that TCG is slow at.
	//
	// If the disk has not appeared within 30 seconds, Debian's initramfs ends in panic: the machine
	// boots again.
	qemu := exec.Command("qemu-system-x86_64", "-name", "stopguard-host", "-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "Nehalem", "-smp", "1", "-m", "3072",
		"-kernel", filepath.Join(image, "vmlinuz"), "-initrd", filepath.Join(image, "initrd"),
		"-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=1 apparmor=1 security=apparmor systemd.service_watchdogs=off",
		"-drive", "file="+disk+",if=virtio,cache=unsafe", "-drive", "file="+media+",if=virtio,format=raw,readonly=on", "-serial", "file:"+m.console(),
		"-netdev", "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:"+strconv.Itoa(m.port)+"-:22",
		"-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci")
	var said bytes.Buffer
	qemu.Stderr = &said
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.hangUp()
		_ = qemu.Process.Kill()
		_ = qemu.Wait()
		if said.Len() > 0 {
			t.Logf("QEMU said: %s", said.String())
		}
	})
	m.wait("")
	return m
}

func (m *machine) console() string { return filepath.Join(m.folder, "console.log") }

// wait waits until the machine has booted. before is the former boot, "" for the first.
func (m *machine) wait(before string) {
	m.t.Helper()
	var last answer
	for end := time.Now().Add(bootLimit); time.Now().Before(end); time.Sleep(time.Second) {
		last = m.ssh("root", "cat /proc/sys/kernel/random/boot_id && systemctl is-system-running --wait")
		boot, state, _ := strings.Cut(last.text, "\n")
		if booted := strings.TrimSpace(state) == "running" || strings.TrimSpace(state) == "degraded"; booted && boot != before {
			return
		}
	}
	m.t.Fatalf("the machine has not booted within %v: %+v", bootLimit, last)
}

// reboot reboots the machine, and returns when it is up again.
func (m *machine) reboot() {
	m.t.Helper()
	before, _, _ := strings.Cut(m.ssh("root", "cat /proc/sys/kernel/random/boot_id").text, "\n")
	m.ssh("root", "systemctl reboot")
	m.hangUp()
	m.wait(before)
}

// ssh runs a command in a user's shell.
func (m *machine) ssh(user, command string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ssh", append(m.options(), user+"@127.0.0.1", command)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return answer{exit.ExitCode(), string(out)}
	case err != nil:
		return answer{-1, string(out) + err.Error()}
	}
	return answer{0, string(out)}
}

// options are those of ssh. One connection for each user serves all commands, for a login
// takes a second under TCG.
func (m *machine) options() []string {
	return []string{"-F", "none", "-i", filepath.Join(m.image, "key"), "-o", "Port=" + strconv.Itoa(m.port), "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=120",
		"-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", "ControlPath=" + filepath.Join(m.folder, "%r")}
}

// hangUp ends the connections that serve several commands.
func (m *machine) hangUp() {
	for _, user := range []string{"root", "alice", "bob"} {
		_ = exec.Command("ssh", append(m.options(), "-O", "exit", user+"@127.0.0.1")...).Run()
	}
}

// local runs a program on this machine.
func (m *machine) local(name string, args ...string) {
	m.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", name, err, cmp.Or(string(out), "it said nothing"))
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
