package hosttest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/testhost"
)

// Booted is the boot time of a fixture's host, as in its /proc/stat.
var Booted = time.Unix(1700000000, 0)

// A Fixture is a host in a folder.
type Fixture struct {
	T *testing.T
	host.Host
	rollback *rollback // nil if changes stay
}

const DaemonPID = 4711

// DaemonLater is the time from the creation of the host to the start of its daemon. A hook that a
// subtest adds later is older than the daemon, too.
const DaemonLater = 30 * time.Minute

const LibraryPath = "/usr/lib/x86_64-linux-gnu/libvirt.so.0"

// DebianProfile is a part of Debian 12's profile of libvirtd: its rules about programs.
const DebianProfile = "  /usr/bin/* PUx,\n  /usr/sbin/* PUx,\n  /usr/{lib,lib64,lib/qemu,libexec}/virtiofsd PUx,\n  /usr/lib/libvirt/* PUxr,\n  /etc/libvirt/hooks/** rmix,\n"

// Healthy returns a host on which doctor finds no fault.
func Healthy(t *testing.T) *Fixture {
	t.Helper()
	p := &Fixture{T: t, Host: host.Host{Root: t.TempDir()}}
	p.Folder("/", "/etc/stopguard/policy", "/var/log/stopguard", "/run/libvirt/qemu", "/usr/libexec", "/etc/libvirt/hooks/qemu.d")
	p.Put(host.HookFile, hookproto.Front, 0o755)
	p.Program(host.HookProgram)
	p.Link("../sbin/stopguard-hook", host.HookLink)
	p.Put("/etc/libvirt/protected-domains", "pg-primary-01\n", 0o644)
	p.Put("/usr/lib/systemd/systemd", "", 0o755)
	p.Put(host.UnitFolder+"/"+host.ShutdownUnit, host.ShutdownUnitText, 0o644)
	p.Link("../"+host.ShutdownUnit, host.UnitFolder+"/multi-user.target.wants/"+host.ShutdownUnit)
	p.Library(PatchedOperations)
	p.Put("/sys/kernel/security/apparmor/profiles", "libvirtd (enforce)\nlibvirtd//qemu_bridge_helper (enforce)\n", 0o444)
	p.Put("/etc/apparmor.d/usr.sbin.libvirtd", "profile libvirtd /usr/sbin/libvirtd {\n  /usr/sbin/* PUx,\n  /usr/libexec/* PUxr,\n}\n", 0o644)
	p.Put("/proc/stat", "cpu 1 2 3\nbtime 1700000000\n", 0o444)
	p.Process(DaemonPID, "libvirtd", 0, time.Now().Add(DaemonLater))
	p.Put(fmt.Sprintf("/proc/%d/maps", DaemonPID), "7f00-7f01 r-xp 00000000 08:01 42   "+LibraryPath+"\n", 0o444)
	p.Process(1, "systemd", 0, time.Unix(1700000000, 0))
	return p
}

// Bare returns a host with systemd and libvirt, and without stopguard.
func Bare(t *testing.T) *Fixture {
	t.Helper()
	p := &Fixture{T: t, Host: host.Host{Root: t.TempDir()}}
	p.Folder("/", "/etc/libvirt/hooks", "/usr/libexec", "/run/libvirt/qemu")
	p.Put("/usr/lib/systemd/systemd", "", 0o755)
	p.Program("/home/stopguard-hook")
	return p
}

func (p *Fixture) Must(err error) {
	p.T.Helper()
	if err != nil {
		p.T.Fatal(err)
	}
}

// Folder creates folders that only their owner may write, whatever the umask is. Existing folders
// stay as they are.
func (p *Fixture) Folder(names ...string) {
	p.T.Helper()
	for _, name := range names {
		p.Must(p.folder(p.Path(name)))
	}
}

func (p *Fixture) folder(path string) error {
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err = p.folder(filepath.Dir(path)); err == nil {
			err = os.Mkdir(path, 0o755)
		}
	}
	if err == nil {
		p.rollback.created(path)
		return os.Chmod(path, 0o755)
	}
	if info, missing := os.Stat(path); missing == nil && info.IsDir() {
		return nil
	}
	return err
}

// Put writes a file, in place of an existing one.
func (p *Fixture) Put(name, content string, mode fs.FileMode) {
	p.T.Helper()
	p.place(name, func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString(content)
		return errors.Join(err, f.Chmod(mode), f.Close())
	})
}

// place calls create for a file that must not exist. It removes an existing file and creates a
// missing folder first.
func (p *Fixture) place(name string, create func(path string) error) {
	p.T.Helper()
	err := create(p.Path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Folder(filepath.Dir(name))
		err = create(p.Path(name))
	case errors.Is(err, fs.ErrExist):
		p.Remove(name)
		err = create(p.Path(name))
	}
	p.Must(err)
	p.rollback.created(p.Path(name))
}

func (p *Fixture) Link(to, name string) {
	p.T.Helper()
	p.place(name, func(path string) error { return os.Symlink(to, path) })
}

func (p *Fixture) Remove(name string) { p.T.Helper(); p.Must(p.rollback.remove(p.Path(name))) }

func (p *Fixture) Chmod(name string, mode fs.FileMode) {
	p.T.Helper()
	var info unix.Stat_t
	if p.Must(unix.Stat(p.Path(name), &info)); info.Mode&unix.S_IFMT == unix.S_IFREG && info.Nlink > 1 {
		p.T.Fatalf("%s is one file with other hosts' programs; use Copied", name)
	}
	p.Must(p.rollback.chmod(p.Path(name), mode))
}

// Program adds a working hook program.
func (p *Fixture) Program(name string) {
	p.T.Helper()
	hook, err := playedHook()
	p.Must(err)
	p.place(name, func(path string) error {
		err := os.Link(hook, path)
		if errors.Is(err, syscall.EXDEV) { // the fixture is on another file system
			p.Copied(name)
			return nil
		}
		return err
	})
}

// Copied adds a working hook program as a separate file.
func (p *Fixture) Copied(name string) {
	p.T.Helper()
	hook, err := playedHook()
	p.Must(err)
	p.Put(name, ReadFileText(p.T, hook), 0o755)
}

// Another adds another version of a working hook program.
func (p *Fixture) Another(name string) string {
	p.T.Helper()
	p.Copied(name)
	p.Put(name, p.Content(name)+"another version", 0o755)
	return p.Path(name)
}

// Thin installs the thin program too.
func (p *Fixture) Thin() {
	p.T.Helper()
	p.Program(host.ThinProgram)
	p.Link("../sbin/stopguard-hook-thin", host.ThinLink)
}

// Packaged makes the hook a package's.
func (p *Fixture) Packaged() {
	p.Packages = func(path string) (host.Brought, bool) {
		switch path {
		case host.HookProgram, host.HookLink, host.ThinProgram, host.ThinLink:
			return host.Brought{Name: "stopguard", Again: "apt-get install --reinstall stopguard"}, true
		}
		return host.Brought{}, false
	}
}

// ProgramIs makes the front run another program.
func (p *Fixture) ProgramIs(name string) {
	p.T.Helper()
	p.Put(host.HookFile, strings.Replace(hookproto.Front, "\nprogram="+host.HookLink+"\n", "\nprogram="+name+"\n", 1), 0o755)
}

func (p *Fixture) Library(words []string) {
	p.T.Helper()
	p.Put(LibraryPath, string(LibraryHere(words).Bytes()), 0o644)
}

func (p *Fixture) Process(pid int, name string, uid int, start time.Time) {
	p.T.Helper()
	folder := fmt.Sprintf("/proc/%d/", pid)
	p.Put(folder+"comm", name+"\n", 0o444)
	p.Put(folder+"status", fmt.Sprintf("Name:\t%s\nUid:\t1\t%d\t1\t1\n", name, uid), 0o444)
	ticks := start.Sub(time.Unix(1700000000, 0)) / (time.Second / host.TicksPerSecond)
	p.Put(folder+"stat", fmt.Sprintf("%d (a) b) S%s %d 0\n", pid, strings.Repeat(" 0", 18), ticks), 0o444)
}

// DaemonStarted sets the daemon's start to some time after now.
func (p *Fixture) DaemonStarted(after time.Duration) {
	p.T.Helper()
	p.Process(DaemonPID, "libvirtd", 0, time.Now().Add(after))
}

// HookSince writes the file HookSince. came is the time of the former hook file, relative to now.
// changed is the difference between the noted change and the present file's last change.
func (p *Fixture) HookSince(came, changed time.Duration) {
	p.T.Helper()
	info, err := os.Stat(p.Path(host.HookFile))
	p.Must(err)
	p.Put(host.HookSince, fmt.Sprintln(time.Now().Add(came).Unix(), host.Changed(info).Add(changed).Unix()), 0o644)
}

// Systemd sets the answers of the host's systemctl.
func (p *Fixture) Systemd(answers map[string]string) {
	p.Host.Systemctl = func(args ...string) (string, error) {
		for key, answer := range answers {
			if strings.Contains(strings.Join(args, " "), key) {
				return answer, nil
			}
		}
		return "", nil
	}
}

// SystemdStarted has systemd start and reload the daemon some times after the hook came. Without a
// reload the last change of the daemon's state is that it became ready.
func (p *Fixture) SystemdStarted(started, ready, reloaded time.Duration) {
	p.T.Helper()
	info, err := os.Stat(p.Path(host.HookFile))
	p.Must(err)
	at := func(d time.Duration) string {
		return host.Changed(info).Add(d).UTC().Format("Mon 2006-01-02 15:04:05.000000 UTC")
	}
	p.Process(DaemonPID, "libvirtd", 0, host.Changed(info).Add(started))
	p.Systemd(map[string]string{"StateChangeTimestamp libvirtd.service": fmt.Sprintf("MainPID=%d\nExecMainStartTimestamp=%s\nStateChangeTimestamp=%s\nActiveEnterTimestamp=%s",
		DaemonPID, at(started), at(max(ready, reloaded)), at(ready))})
}

func (p *Fixture) NoLibrary() {
	p.T.Helper()
	p.Remove("/usr/lib/x86_64-linux-gnu")
	p.Remove(fmt.Sprintf("/proc/%d/maps", DaemonPID))
}

func (p *Fixture) Recorded(outcome string, after time.Duration) {
	p.T.Helper()
	p.Put("/var/log/stopguard/decisions.jsonl", fmt.Sprintf("torn\n{\"result\": {\"outcome\": %q}, \"timestamp\": %q}\n", outcome,
		time.Now().Add(after).UTC().Format(time.RFC3339Nano)), 0o600)
}

func (p *Fixture) Settings(json string) {
	p.T.Helper()
	p.Put(hostpath.Policy+"/data.json", json, 0o644)
}

// Tree returns all files below a folder, with their modes and sizes.
func Tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			all[strings.TrimPrefix(path, root)] = info.Mode().String()
			if !e.IsDir() {
				all[strings.TrimPrefix(path, root)] += fmt.Sprint(" ", info.Size(), " ", info.ModTime().UnixNano())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (p *Fixture) Content(name string) string {
	p.T.Helper()
	content, err := os.ReadFile(p.Path(name))
	p.Must(err)
	return string(content)
}

func ReadFileText(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// ShortFolder returns a short name for a folder, because a socket cannot be bound to a long one.
func ShortFolder(t *testing.T, folder string) string {
	t.Helper()
	short := filepath.Join(testhost.SocketDir(t), "r")
	if err := os.Rename(folder, short); err != nil {
		t.Fatal(err)
	}
	return short
}

// Noexec mounts a file system with noexec at a folder. The test has to run as root.
func (p *Fixture) Noexec(name string) {
	p.T.Helper()
	p.Folder(name)
	if err := unix.Mount("tmpfs", p.Path(name), "tmpfs", unix.MS_NOEXEC, "size=64m,mode=0755"); err != nil {
		p.T.Skipf("only root may mount a file system: %v", err)
	}
	p.T.Cleanup(func() { _ = unix.Unmount(p.Path(name), unix.MNT_DETACH) })
}

// permissions are the bits of SELinux's permissions in the fixture's policy.
var permissions = []string{"read", "open", "execute", "execute_no_trans", "transition", "entrypoint"}

// SELinux sets a policy in which a daemon has permissions for files of one type. The target is the
// type or, if a program of that type runs in its own domain, TYPE -> DOMAIN. A kernel without
// SELinux cannot answer, so the fixture answers.
func (p *Fixture) SELinux(daemon, target string, allowed ...string) {
	p.T.Helper()
	const folder = "/sys/fs/selinux/"
	label := func(kind, name string) string { return "system_u:" + kind + ":" + name + ":s0" }
	p.Put(folder+"enforce", "1", 0o444)
	p.Put(folder+"class/file/index", "6", 0o444)
	p.Put(folder+"class/process/index", "2", 0o444)
	mask := 0
	for i, permission := range permissions {
		class := map[bool]string{true: "process", false: "file"}[permission == "transition"]
		p.Put(folder+"class/"+class+"/perms/"+permission, fmt.Sprint(i+1), 0o444)
		if slices.Contains(allowed, permission) {
			mask |= 1 << i
		}
	}
	source := label("system_r", daemon)
	p.Put(fmt.Sprintf("/proc/%d/attr/current", DaemonPID), source+"\x00", 0o444)
	kind, domain, _ := strings.Cut(target, " -> ")
	p.Label = func(string) (string, error) { return label("object_r", kind), nil }
	p.AskSELinux = func(name, question string) (string, error) {
		switch words := strings.Fields(question); {
		case len(words) != 3:
			return "", syscall.EINVAL
		case name == "create" && domain != "":
			return label("system_r", domain), nil
		case name == "create":
			return source, nil
		}
		permissive := map[bool]int{true: 1}[daemon == "permissive_t"]
		return fmt.Sprintf("%x ffffffff 0 ffffffff 1 %x", mask, permissive), nil
	}
}

// Husk adds a domain, with a process that has these arguments.
func (p *Fixture) Husk(pid int, name, state, reason, job string, args ...string) {
	p.T.Helper()
	p.Put("/run/libvirt/qemu/"+name+".xml", fmt.Sprintf("<domstatus state='%s' reason='%s' pid='%d'>\n  %s\n  <domain type='kvm' id='3'>\n    <name>%s</name>\n    <uuid>44444444-2b11-40de-a128-75e3f4a5fe44</uuid>\n  </domain>\n</domstatus>\n",
		state, reason, pid, job, name), 0o600)
	p.Put(fmt.Sprintf("/proc/%d/cmdline", pid), strings.Join(append([]string{"/usr/bin/qemu-system-x86_64"}, args...), "\x00")+"\x00", 0o444)
}
