//go:build e2e

// Package e2e puts the gate in front of a real libvirtd, with a real systemd, and removes it: see
// .ci/e2e.
//
// A host is a systemd that runs as the first process of its own namespaces, on an overlay of the
// machine's files. A unit runs this same binary there, which acts as an operator and writes its
// observations to a file. The test compares.
package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	toolVariable   = "STOPGUARD_E2E_TOOL"    // the built cmd/stopguard
	hookVariable   = "STOPGUARD_E2E_PROGRAM" // the built cmd/stopguard-hook
	gateVariable   = "STOPGUARD_E2E_GATE"    // the built cmd/stopguard-gate
	agentVariable  = "STOPGUARD_E2E_AGENT"   // the built cmd/stopguard-agent
	folderVariable = "STOPGUARD_E2E_FOLDER"  // the folder of a host that is to boot: its files between two boots
	scriptVariable = "STOPGUARD_E2E_SCRIPT"  // the name of the host's script

	shared   = "/mnt" // the folder as the host sees it
	bootTime = 600 * time.Second
)

// masked are units that the host must not start: it does not have devices, and the machine's own
// services do not concern it.
var masked = []string{
	"apparmor.service", "dev-hugepages.mount", "dev-mqueue.mount", "kmod-static-nodes.service", "proc-sys-fs-binfmt_misc.automount",
	"sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
	"systemd-binfmt.service", "systemd-firstboot.service", "systemd-journal-flush.service", "systemd-logind.service",
	"systemd-machined.service", "systemd-modules-load.service", "systemd-remount-fs.service", "systemd-resolved.service",
	"systemd-sysctl.service", "systemd-sysusers.service", "systemd-timesyncd.service", "systemd-tmpfiles-setup-dev.service",
	"systemd-tmpfiles-setup.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-udevd.service", "systemd-update-utmp.service",
}

// units are the host's own. sysinit and the sockets come with the target.
var units = map[string]string{
	"test.target": `[Unit]
Requires=basic.target
After=basic.target
Wants=multi-user.target script.service
AllowIsolate=yes
`,
	"script.service": `[Unit]
DefaultDependencies=no
After=multi-user.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=file:` + shared + `/script.log
StandardError=file:` + shared + `/script.log
PassEnvironment=` + scriptVariable + `
ExecStart=` + shared + `/e2e.test
TimeoutStartSec=infinity
KillMode=process
SendSIGKILL=no
`,
	"dbus.service": `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
`,
}

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(folderVariable) != "":
		fmt.Fprintln(os.Stderr, boot(os.Getenv(folderVariable)))
		os.Exit(1)
	case os.Getenv(scriptVariable) != "":
		h := &host{}
		scripts[os.Getenv(scriptVariable)](h)
		h.finish()
	default:
		os.Exit(m.Run())
	}
}

// boot makes the host's file system and becomes its systemd.
func boot(folder string) error {
	runtime.LockOSThread() // namespaces are a thread's
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare the control groups: %w", err)
	}
	root := folder + "/root"
	var err error
	mount := func(source, on, kind string, flags uintptr, data string) {
		if err == nil {
			if err = syscall.Mount(source, on, kind, flags, data); err != nil {
				err = fmt.Errorf("mount %s on %s: %w", source, on, err)
			}
		}
	}
	mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", folder, folder))
	mount("proc", root+"/proc", "proc", 0, "")
	mount("sysfs", root+"/sys", "sysfs", syscall.MS_RDONLY, "")
	mount("cgroup2", root+"/sys/fs/cgroup", "cgroup2", 0, "")
	for _, dir := range []string{"/run", "/dev", "/tmp"} {
		mount("tmpfs", root+dir, "tmpfs", 0, "mode=755")
	}
	// D-Bus does not start services for a message: they are masked.
	mount("tmpfs", root+"/usr/share/dbus-1/system-services", "tmpfs", 0, "mode=755")
	mount(folder, root+shared, "", syscall.MS_BIND, "")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err == nil {
			err = os.WriteFile(root+"/dev/"+name, nil, 0o666)
		}
		mount("/dev/"+name, root+"/dev/"+name, "", syscall.MS_BIND, "")
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm"} {
		if err == nil {
			err = os.Mkdir(root+dir, 0o755)
		}
	}
	mount("devpts", root+"/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666")
	if err == nil {
		err = errors.Join(os.Symlink("pts/ptmx", root+"/dev/ptmx"), os.Symlink("/proc/self/fd", root+"/dev/fd"))
	}
	if err == nil {
		// This is not a chroot: /proc would show the machine's path of a process's program.
		if err = os.Chdir(root); err == nil {
			err = syscall.PivotRoot(".", ".")
		}
		if err == nil {
			err = errors.Join(syscall.Unmount(".", syscall.MNT_DETACH), os.Chdir("/"))
		}
	}
	if err != nil {
		return err
	}
	return syscall.Exec("/lib/systemd/systemd", []string{"systemd", "--system", "--unit=test.target"}, []string{
		"container=test", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", scriptVariable + "=" + os.Getenv(scriptVariable),
	})
}

// A machine is the part of a host that survives a reboot.
type machine struct {
	t      *testing.T
	folder string
}

// newMachine returns a machine with the built programs in its folder, none of them installed.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := newBareMachine(t)
	for from, to := range map[string]string{
		os.Getenv(toolVariable): "stopguard", os.Getenv(hookVariable): "stopguard-hook", os.Getenv(gateVariable): "stopguard-gate",
	} {
		m.copy(from, to)
	}
	return m
}

// newBareMachine returns a machine that knows nothing of stopguard.
func newBareMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t, t.TempDir()}
	upper := m.folder + "/upper"
	must(t, os.Chmod(m.folder, 0o755))
	for _, dir := range []string{"/root", "/work", "/upper/etc/systemd/system", "/upper/etc/libvirt", "/upper/var/lib/libvirt",
		"/upper/var/log/libvirt", "/upper/var/cache/libvirt", "/upper/etc/stopguard", "/upper/var/lib/stopguard", "/upper/var/log/stopguard"} {
		must(t, os.MkdirAll(m.folder+dir, 0o755))
	}
	for _, dir := range []string{"/etc/systemd/system", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt",
		"/etc/stopguard", "/var/lib/stopguard", "/var/log/stopguard"} {
		// The machine's own content of the folder is hidden.
		must(t, syscall.Setxattr(upper+dir, "trusted.overlay.opaque", []byte("y"), 0))
	}
	for _, name := range masked {
		must(t, os.Symlink("/dev/null", upper+"/etc/systemd/system/"+name))
	}
	for name, content := range units {
		must(t, os.WriteFile(upper+"/etc/systemd/system/"+name, []byte(content), 0o644))
	}
	for _, unit := range []string{"libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "virtlogd.socket", "virtlockd.socket"} {
		m.enable("sockets.target", unit)
	}
	for _, unit := range []string{"libvirtd.service", "libvirt-guests.service"} {
		m.enable("multi-user.target", unit)
	}
	must(t, os.WriteFile(upper+"/etc/fstab", nil, 0o644))
	// The guest is saved at shutdown: it has no system that could shut down.
	must(t, os.MkdirAll(upper+"/etc/default", 0o755))
	must(t, os.WriteFile(upper+"/etc/default/libvirt-guests", []byte("ON_SHUTDOWN=suspend\nON_BOOT=start\n"), 0o644))
	must(t, os.WriteFile(upper+"/etc/libvirt/qemu.conf", []byte("cgroup_controllers = []\nsecurity_driver = \"none\"\nnamespaces = []\n"), 0o600))
	m.copy("/proc/self/exe", "e2e.test")
	return m
}

// copy copies a file into the machine's folder, as a program.
func (m *machine) copy(from, to string) {
	m.t.Helper()
	content, err := os.ReadFile(from)
	must(m.t, err)
	must(m.t, os.MkdirAll(filepath.Dir(filepath.Join(m.folder, to)), 0o755))
	must(m.t, os.WriteFile(filepath.Join(m.folder, to), content, 0o755))
}

func (m *machine) enable(target, unit string) {
	folder := m.folder + "/upper/etc/systemd/system/" + target + ".wants"
	must(m.t, os.MkdirAll(folder, 0o755))
	must(m.t, os.Symlink("/lib/systemd/system/"+unit, folder+"/"+unit))
}

// run boots the machine, has it do something and waits until it is off.
func (m *machine) run(script string) []observation {
	t := m.t
	t.Helper()
	group := newGroup(t)
	defer group.remove()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), folderVariable+"="+m.folder, scriptVariable+"="+script)
	console, err := os.Create(m.folder + "/console.log")
	must(t, err)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:   syscall.SIGKILL,
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
	}
	runtime.LockOSThread() // the signal comes when the thread that started it ends
	defer runtime.UnlockOSThread()
	must(t, cmd.Start())
	late := time.AfterFunc(bootTime, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	onTime := late.Stop()
	_ = console.Close()
	_ = os.RemoveAll(m.folder + "/work/work") // whiteouts are left in there
	read := func(name string) string {
		content, _ := os.ReadFile(filepath.Join(m.folder, name))
		return string(content)
	}
	var seen []observation
	if bad := json.Unmarshal([]byte(read(script+".json")), &seen); bad != nil || !onTime {
		t.Fatalf("the host: %v, in time: %v, %v\nconsole:\n%s\nscript:\n%s", err, onTime, bad, read("console.log"), read("script.log"))
	}
	if t.Failed() || testing.Verbose() {
		t.Logf("script:\n%s", read("script.log"))
	}
	return seen
}

// A group is a control group that a systemd takes for the whole tree.
type group struct{ *os.File }

func newGroup(t *testing.T) group {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			name := fmt.Sprintf("%s/stopguard-e2e-%d", fields[1], os.Getpid())
			if err := os.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			f, err := os.Open(name)
			must(t, err)
			return group{f}
		}
	}
	t.Fatal("no cgroup2 is mounted, and systemd needs one; mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	return group{}
}

func (g group) remove() {
	defer func() { _ = g.Close() }()
	for range 100 {
		var folders []string
		_ = filepath.WalkDir(g.Name(), func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				folders = append(folders, path)
			}
			return nil
		})
		for _, folder := range slices.Backward(folders) {
			_ = syscall.Rmdir(folder)
		}
		if _, err := os.Stat(g.Name()); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // the last process is not quite gone
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
