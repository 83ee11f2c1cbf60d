//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	hookFile    = "/etc/libvirt/hooks/qemu.d/50-stopguard"
	programFile = "/usr/libexec/stopguard-hook"
	configFile  = "/etc/libvirt/libvirtd.conf"
	daemonPID   = "/run/libvirtd.pid"
	daemonLog   = "/var/log/libvirt/libvirtd.log"

	patience = 40 * time.Second // for anything to happen: the machine may be slow, and the test may not fail for it
	tick     = 20 * time.Millisecond
)

// A host is a daemon of its own, in namespaces of its own, and what is observed there. Its methods end the process when
// something that is not under test fails.
type host struct {
	seen  []observation
	doing string // what is being done, for a failure's message
	log   int64  // how much of the daemon's log is of earlier steps

	record int // how much of the decision record is of earlier steps
}

// mountHost hides the machine: nothing that happens afterwards stays on it. Folders that a machine may lack, and to which
// nothing may be added, get a writable layer.
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
	for _, dir := range []string{"/etc", "/usr/libexec", "/var/cache", "/var/lib", "/var/log"} {
		layer := "/run/e2e-layers/" + strings.ReplaceAll(dir[1:], "/", "-")
		if err := errors.Join(os.MkdirAll(layer+"/upper", 0o755), os.Mkdir(layer+"/work", 0o755)); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", dir, layer, layer)
		if err := syscall.Mount("overlay", dir, "overlay", 0, options); err != nil {
			return fmt.Errorf("mount a layer on %s: %w", dir, err)
		}
	}
	// The guests need no KVM, and where the daemon can use /dev/kvm and QEMU's user cannot, it asks QEMU for its abilities
	// again and again.
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

// prepare writes what the daemons read, and starts those that libvirtd wants to find.
func (h *host) prepare() {
	h.doing = "the host is prepared"
	h.file("/etc/libvirt/qemu.conf", `
# No control groups, labels or device nodes: they would be made outside of the namespaces.
cgroup_controllers = []
security_driver = "none"
namespaces = []
`, 0o600)
	// The daemon says which hooks it runs where it says which programs it runs.
	h.file(configFile, fmt.Sprintf("log_filters = \"1:util.command\"\nlog_outputs = \"1:file:%s\"\n", daemonLog), 0o644)
	for _, dir := range []string{"/run/dbus", guestDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			h.fatalf("%v", err)
		}
	}
	h.run("dbus-daemon", "--system", "--fork")
	h.run("virtlogd", "-d")
}

// install puts the hook in place, with a site whose policy protects some domains and works.
func (h *host) install() {
	h.file(hookFile, h.read(os.Getenv(frontVariable)), 0o755)
	h.file(programFile, h.read(os.Getenv(programVariable)), 0o755)
	h.file(listFile, "# domains that nobody stops\nlisted-*\n", 0o644)
	h.file(ruleFile, "package stopguard.rules.site\n\nveto contains \"frozen by its title\" if input.domain.title == \"frozen\"\n", 0o644)
}

func (h *host) startDaemon() {
	h.run("libvirtd", "-d", "-f", configFile)
	h.until("libvirtd answers", func() bool { return h.virsh("uri").Exit == 0 })
}

// endDaemon ends libvirtd, and only it: guests live on.
func (h *host) endDaemon(signal syscall.Signal) {
	pid := h.pid(daemonPID)
	h.signal(pid, signal)
	h.until("libvirtd ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// freeze stops a process from running.
func (h *host) freeze(pid int) {
	h.signal(pid, syscall.SIGSTOP)
	h.until(fmt.Sprintf("process %d is frozen", pid), func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		return err == nil && bytes.Contains(status, []byte("State:\tT"))
	})
}

func (h *host) thaw(pid int) { h.signal(pid, syscall.SIGCONT) }

func (h *host) signal(pid int, signal syscall.Signal) {
	if err := syscall.Kill(pid, signal); err != nil {
		h.fatalf("process %d cannot be sent %v: %v", pid, signal, err)
	}
}

func (h *host) pid(path string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(h.read(path)))
	if err != nil || pid <= 1 {
		h.fatalf("%s holds no process id", path)
	}
	return pid
}

func (h *host) file(path, content string, mode os.FileMode) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.fatalf("%v", err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		h.fatalf("%v", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		h.fatalf("%v", err)
	}
}

func (h *host) read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		h.fatalf("%v", err)
	}
	return string(data)
}

// answer is what a program ended with and said.
type answer struct {
	Exit           int
	Stdout, Stderr string
}

// command runs a program as the root of a machine would. Its output goes to files: a daemon that keeps a pipe open would
// be waited for.
func (h *host) command(stdin string, env []string, name string, args ...string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
			h.fatalf("%v", err)
		}
		defer os.Remove(f.Name())
		defer f.Close()
		files[i] = f
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	err := cmd.Run()
	if ctx.Err() != nil {
		h.fatalf("%s %q does not end within %v", name, args, patience)
	}
	if cmd.ProcessState == nil {
		h.fatalf("%s: %v", name, err)
	}
	return answer{cmd.ProcessState.ExitCode(), h.read(files[0].Name()), h.read(files[1].Name())}
}

func (h *host) run(name string, args ...string) {
	if got := h.command("", h.environment(), name, args...); got.Exit != 0 {
		h.fatalf("%s %q: exit status %d: %s%s", name, args, got.Exit, got.Stdout, got.Stderr)
	}
}

func (h *host) virsh(args ...string) answer {
	return h.command("", h.environment(), "virsh", append([]string{"-c", "qemu:///system"}, args...)...)
}

// environment is all that libvirt gives to a hook.
func (h *host) environment() []string {
	return []string{"LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
}

// stop calls the hook as a libvirt with the stop operation would.
func (h *host) stop(name, xml string) answer {
	return h.command(xml, h.environment(), hookFile, name, "stop", "begin", "-")
}

// liveXML is asked for by the UUID, as the state is: virsh would take some names for something else.
func (h *host) liveXML(g guest) string {
	got := h.virsh("dumpxml", g.uuid)
	if got.Exit != 0 || !strings.Contains(got.Stdout, " id='") {
		h.fatalf("%s has no live XML: %+v", g.name, got)
	}
	return strings.TrimSpace(got.Stdout) + "\n"
}

func (h *host) state(g guest) string {
	got := h.virsh("domstate", "--reason", g.uuid)
	if got.Exit != 0 {
		return "none"
	}
	return strings.TrimSpace(got.Stdout)
}

func (h *host) until(what string, done func() bool) {
	if !h.within(patience, done) {
		h.fatalf("it is in vain waited for that %s", what)
	}
}

func (h *host) within(time_ time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(time_); ; time.Sleep(tick) {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

var hookCall = regexp.MustCompile(`About to run .*` + regexp.QuoteMeta(hookFile) + ` (\S+) (\S+) (\S+) (\S+)\n`)

// calls returns the operations for which the daemon has run the hook since the last step.
func (h *host) calls() string {
	data := h.read(daemonLog)
	var operations []string
	for _, call := range hookCall.FindAllStringSubmatch(data[min(h.log, int64(len(data))):], -1) {
		operations = append(operations, call[2])
	}
	return strings.Join(operations, " ")
}

// nextStep makes calls forget what was called so far.
func (h *host) nextStep(doing string) {
	h.doing = doing
	h.log = 0
	if info, err := os.Stat(daemonLog); err == nil {
		h.log = info.Size()
	}
}

// fatalf ends the host: with the process that began it, the kernel ends all others.
func (h *host) fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "when %s: %s\n", h.doing, fmt.Sprintf(format, args...))
	logs, _ := filepath.Glob("/var/log/libvirt/qemu/*.log")
	for _, log := range append(logs, daemonLog) {
		fmt.Fprintf(os.Stderr, "\n-- the end of %s:\n%s", log, lastLines(log, 3000))
	}
	os.Exit(1)
}

// report hands over what was observed.
func (h *host) report() {
	if err := json.NewEncoder(os.Stdout).Encode(h.seen); err != nil {
		h.fatalf("%v", err)
	}
}
