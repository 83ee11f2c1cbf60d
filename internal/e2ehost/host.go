//go:build e2e

package e2ehost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/gate/unit"
)

// Modular is the folder of virtqemud and its companions, which .ci/modular-daemons prints. It is ""
// if hosts run libvirtd.
var Modular = os.Getenv("STOPGUARD_E2E_MODULAR")

// Layout is the layout of the hosts' daemons.
var Layout = map[bool]unit.Layout{false: unit.Monolithic, true: unit.Modular}[Modular != ""]

// The daemon's files that the tests read.
var (
	ConfigFile = Layout.Config()
	DaemonPID  = "/run/" + Layout.Daemon + ".pid"
	DaemonLog  = "/var/log/libvirt/" + Layout.Daemon + ".log"
)

// The files of virtproxyd, which serves libvirtd's sockets, and TCP without authentication.
const (
	proxyConfig = "/etc/libvirt/virtproxyd.conf"
	proxyPID    = "/run/virtproxyd.pid"
	proxyLog    = "/var/log/libvirt/virtproxyd.log"

	proxySettings = `
log_outputs = "1:file:` + proxyLog + `"
auth_unix_rw = "none"
unix_sock_rw_perms = "0777"
listen_tls = 0
listen_tcp = 1
listen_addr = "127.0.0.1"
auth_tcp = "none"
`
)

const (
	Patience = 40 * time.Second      // Patience bounds every wait. It is long, so that a slow machine does not fail a test.
	Tick     = 20 * time.Millisecond // Tick is the time between two checks of a condition.
)

// A Host is a daemon in its own namespaces. Its methods end the process if something fails that is
// not under test.
type Host struct {
	Doing  string // Doing is the current action, for a failure's message.
	Config string // Config is appended to the daemon's configuration.
	URI    string // URI is the URI that virsh connects to; "" means qemu:///system.
	Prefix string // Prefix is the folder of another libvirt; "" means the machine's own.
}

// mountHost hides the machine, so that later changes do not stay on it. Folders that a machine may
// not have, or that are read-only, get a writable layer.
func mountHost() error {
	fresh := func(dir string) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755,size=512m")
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := fresh("/run"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, dir := range []string{"/etc", "/usr/libexec", "/usr/sbin", "/var/cache", "/var/lib", "/var/log"} {
		layer := "/run/e2e-layers/" + strings.ReplaceAll(dir[1:], "/", "-")
		if err := errors.Join(os.MkdirAll(layer+"/upper", 0o755), os.Mkdir(layer+"/work", 0o755)); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", dir, layer, layer)
		if err := syscall.Mount("overlay", dir, "overlay", 0, options); err != nil {
			return fmt.Errorf("mount a layer on %s: %w", dir, err)
		}
	}
	// The guests do not need KVM. If the daemon can use /dev/kvm and QEMU's user cannot, the daemon
	// asks QEMU for its capabilities again and again.
	if _, err := os.Stat("/dev/kvm"); err == nil {
		const nothing = "/run/e2e-layers/no-kvm"
		if err := os.WriteFile(nothing, nil, 0); err != nil {
			return err
		}
		if err := syscall.Mount(nothing, "/dev/kvm", "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("hide /dev/kvm: %w", err)
		}
	}
	for _, dir := range []string{"/etc/libvirt", "/etc/stopguard", "/var/cache/libvirt", "/var/lib/libvirt", "/var/lib/stopguard", "/var/log/libvirt", "/var/log/stopguard"} {
		if err := fresh(dir); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

// Prepare writes the daemons' configuration and starts the daemons that libvirtd needs.
func (h *Host) Prepare() {
	h.Doing = "the host is prepared"
	for _, setting := range h.Environment() {
		name, value, _ := strings.Cut(setting, "=")
		if err := os.Setenv(name, value); err != nil { // programs are looked up by this process's PATH
			h.Fatalf("%v", err)
		}
	}
	h.File("/etc/libvirt/qemu.conf", `
# No control groups, labels or device nodes: they would be made outside of the namespaces.
cgroup_controllers = []
security_driver = "none"
namespaces = []
`, 0o600)
	// The daemon logs the hooks that it runs with the other programs that it runs.
	h.File(ConfigFile, fmt.Sprintf("log_filters = \"1:util.command\"\nlog_outputs = \"1:file:%s\"\n%s\n", DaemonLog, h.Config), 0o644)
	for _, dir := range []string{"/run/dbus", GuestDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			h.Fatalf("%v", err)
		}
	}
	h.Run("dbus-daemon", "--system", "--fork")
	h.Run("virtlogd", "-d")
}

// StartDaemon starts libvirt's daemon, and returns when it answers. In the modular layout its
// companions are started with it, and stay when it ends.
func (h *Host) StartDaemon() {
	h.Run(Layout.Daemon, "-d", "-f", ConfigFile)
	if _, err := os.Stat(proxyPID); Layout.Proxy != "" && err != nil {
		h.File(proxyConfig, proxySettings, 0o644)
		h.Run("ip", "link", "set", "lo", "up") // for TCP
		h.Run(Layout.Proxy, "-d", "-f", proxyConfig)
		h.Run("virtstoraged", "-d")
	}
	h.Until(Layout.Daemon+" answers", func() bool { return h.Virsh("uri").Exit == 0 })
}

// EndDaemon ends libvirt's daemon only; guests run on.
func (h *Host) EndDaemon(signal syscall.Signal) {
	pid := h.PID(DaemonPID)
	h.Signal(pid, signal)
	h.Until(Layout.Daemon+" ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// Freeze stops a process from running.
func (h *Host) Freeze(pid int) {
	h.Signal(pid, syscall.SIGSTOP)
	h.Until(fmt.Sprintf("process %d is frozen", pid), func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && bytes.Contains(status, []byte("State:\tT"))
	})
}

// Thaw lets a frozen process run again.
func (h *Host) Thaw(pid int) { h.Signal(pid, syscall.SIGCONT) }

// Signal sends a signal to a process.
func (h *Host) Signal(pid int, signal syscall.Signal) {
	if err := syscall.Kill(pid, signal); err != nil {
		h.Fatalf("process %d cannot be sent %v: %v", pid, signal, err)
	}
}

// PID reads a process id from a file.
func (h *Host) PID(path string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(h.Read(path)))
	if err != nil || pid <= 1 {
		h.Fatalf("%s holds no process id", path)
	}
	return pid
}

// File writes a file, and makes its folder.
func (h *Host) File(path, content string, mode os.FileMode) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.Fatalf("%v", err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		h.Fatalf("%v", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		h.Fatalf("%v", err)
	}
}

// Read reads a file.
func (h *Host) Read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		h.Fatalf("%v", err)
	}
	return string(data)
}

// An Answer is the result of a program: exit code and output.
type Answer struct {
	Exit           int
	Stdout, Stderr string
}

// Command runs a program as root. Its output goes to files. Otherwise Command would wait for a
// daemon that keeps a pipe open.
func (h *Host) Command(stdin string, env []string, name string, args ...string) Answer {
	return h.CommandWithin(Patience, stdin, env, name, args...)
}

// CommandWithin is Command for a program that may take longer.
func (h *Host) CommandWithin(time_ time.Duration, stdin string, env []string, name string, args ...string) Answer {
	ctx, cancel := context.WithTimeout(context.Background(), time_)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = "/", env
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	files := [2]*os.File{}
	for i := range files {
		f, err := os.CreateTemp("/run", "output")
		if err != nil {
			h.Fatalf("%v", err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		files[i] = f
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	err := cmd.Run()
	if ctx.Err() != nil {
		h.Fatalf("%s %q does not end within %v", name, args, time_)
	}
	if cmd.ProcessState == nil {
		h.Fatalf("%s: %v", name, err)
	}
	return Answer{cmd.ProcessState.ExitCode(), h.Read(files[0].Name()), h.Read(files[1].Name())}
}

// Run runs a program that must succeed.
func (h *Host) Run(name string, args ...string) {
	if got := h.Command("", h.Environment(), name, args...); got.Exit != 0 {
		h.Fatalf("%s %q: exit status %d: %s%s", name, args, got.Exit, got.Stdout, got.Stderr)
	}
}

// Virsh runs virsh.
func (h *Host) Virsh(args ...string) Answer {
	uri := h.URI
	if uri == "" {
		uri = "qemu:///system"
	}
	return h.Command("", h.Environment(), "virsh", append([]string{"-c", uri}, args...)...)
}

// Environment returns the environment that libvirt gives to a hook.
func (h *Host) Environment() []string {
	const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	switch {
	case Modular != "":
		return []string{"LC_ALL=C", "PATH=" + Modular + ":" + path, "HOME=/root"}
	case h.Prefix == "":
		return []string{"LC_ALL=C", "PATH=" + path, "HOME=/root"}
	}
	libraries, err := filepath.Glob(h.Prefix + "/lib/*-linux-gnu")
	if err != nil || len(libraries) != 1 {
		h.Fatalf("%s holds no libraries: %v", h.Prefix, err)
	}
	return []string{"LC_ALL=C", "PATH=" + h.Prefix + "/sbin:" + h.Prefix + "/bin:" + path, "HOME=/root", "LD_LIBRARY_PATH=" + libraries[0]}
}

// LiveXML returns a guest's XML, by its UUID: virsh would take some names for an ID or an option.
func (h *Host) LiveXML(g Guest) string {
	got := h.Virsh("dumpxml", g.UUID)
	if got.Exit != 0 || !strings.Contains(got.Stdout, " id='") {
		h.Fatalf("%s has no live XML: %+v", g.Name, got)
	}
	return strings.TrimSpace(got.Stdout) + "\n"
}

// State returns the state of a guest and its reason, as virsh domstate does, by its UUID; "none" if
// the domain does not exist.
func (h *Host) State(g Guest) string {
	got := h.Virsh("domstate", "--reason", g.UUID)
	if got.Exit != 0 {
		return "none"
	}
	return strings.TrimSpace(got.Stdout)
}

// Until waits until a condition holds. It ends the host if the condition does not hold in time.
func (h *Host) Until(condition string, done func() bool) {
	if !h.Within(Patience, done) {
		h.Fatalf("it is in vain waited for that %s", condition)
	}
}

// Within reports whether a condition holds before the time is over.
func (h *Host) Within(time_ time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(time_); ; time.Sleep(Tick) {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// Fatalf ends the host: when its first process ends, the kernel ends all others.
func (h *Host) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "when %s: %s\n", h.Doing, fmt.Sprintf(format, args...))
	logs, _ := filepath.Glob("/var/log/libvirt/qemu/*.log")
	for _, log := range append(logs, proxyLog, DaemonLog) {
		fmt.Fprintf(os.Stderr, "\n-- the end of %s:\n%s", log, LastLines(log, 3000))
	}
	os.Exit(1)
}

// Report passes the observations to [On].
func (h *Host) Report(observations any) {
	if err := json.NewEncoder(os.Stdout).Encode(observations); err != nil {
		h.Fatalf("%v", err)
	}
}

// VirshOK runs virsh, which must succeed.
func (h *Host) VirshOK(args ...string) {
	if got := h.Virsh(args...); got.Exit != 0 {
		h.Fatalf("virsh %q: %+v", args, got)
	}
}

// Rename renames a file.
func (h *Host) Rename(from, to string) {
	if err := os.Rename(from, to); err != nil {
		h.Fatalf("%v", err)
	}
}
