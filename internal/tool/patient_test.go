package tool

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostpath"
)

// A patient is a healthy host, to be made ill.
type patient struct {
	t *testing.T
	doctor
}

const daemonPID = 4711

const libraryPath = "/usr/lib/x86_64-linux-gnu/libvirt.so.0"

// debianProfile is what Debian 12's profile of libvirtd says about programs, in part.
const debianProfile = "  /usr/bin/* PUx,\n  /usr/sbin/* PUx,\n  /usr/{lib,lib64,lib/qemu,libexec}/virtiofsd PUx,\n  /usr/lib/libvirt/* PUxr,\n  /etc/libvirt/hooks/** rmix,\n"

func healthy(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, doctor: doctor{
		host:     host{root: t.TempDir()},
		free:     func(string) (uint64, error) { return 1 << 30, nil },
		label:    func(string) (string, error) { return "", syscall.ENODATA },
		patience: time.Minute,
	}}
	p.folder("/", "/etc/stopguard/policy", "/var/log/stopguard", "/run/libvirt/qemu", "/usr/libexec", "/etc/libvirt/hooks/qemu.d")
	p.put(hookFile, hookproto.Front, 0o755)
	p.program(hookProgram)
	p.link("../sbin/stopguard-hook", hookLink)
	p.put("/etc/libvirt/protected-domains", "pg-primary-01\n", 0o644)
	p.put("/usr/lib/systemd/systemd", "", 0o755)
	p.put(unitFolder+"/"+shutdownUnit, shutdownUnitText, 0o644)
	p.link("../"+shutdownUnit, unitFolder+"/multi-user.target.wants/"+shutdownUnit)
	p.library(patchedOperations)
	p.put("/sys/kernel/security/apparmor/profiles", "libvirtd (enforce)\nlibvirtd//qemu_bridge_helper (enforce)\n", 0o444)
	p.put("/etc/apparmor.d/usr.sbin.libvirtd", "profile libvirtd /usr/sbin/libvirtd {\n  /usr/sbin/* PUx,\n  /usr/libexec/* PUxr,\n}\n", 0o644)
	p.put("/proc/stat", "cpu 1 2 3\nbtime 1700000000\n", 0o444)
	p.process(daemonPID, "libvirtd", 0, time.Now().Add(time.Minute))
	p.put(fmt.Sprintf("/proc/%d/maps", daemonPID), "7f00-7f01 r-xp 00000000 08:01 42   "+libraryPath+"\n", 0o444)
	p.process(1, "systemd", 0, time.Unix(1700000000, 0))
	return p
}

// bare is a host with systemd and libvirt on which nothing of ours is.
func bare(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, doctor: doctor{host: host{root: t.TempDir()}}}
	p.folder("/", "/etc/libvirt/hooks", "/usr/libexec", "/run/libvirt/qemu")
	p.put("/usr/lib/systemd/systemd", "", 0o755)
	p.program("/home/stopguard-hook")
	return p
}

func (p *patient) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// folder makes folders that nobody else may write to, whatever the umask is.
func (p *patient) folder(names ...string) {
	p.t.Helper()
	for _, name := range names {
		path := "/"
		for element := range strings.SplitSeq(name[1:], "/") {
			path = filepath.Join(path, element)
			p.must(os.MkdirAll(p.path(path), 0o755))
			p.must(os.Chmod(p.path(path), 0o755))
		}
	}
}

func (p *patient) put(name, content string, mode fs.FileMode) {
	p.t.Helper()
	p.folder(filepath.Dir(name))
	p.remove(name) // never write into what may be linked to something else
	p.must(os.WriteFile(p.path(name), []byte(content), 0o600))
	p.must(os.Chmod(p.path(name), mode))
}

func (p *patient) link(to, name string) {
	p.t.Helper()
	p.folder(filepath.Dir(name))
	p.remove(name)
	p.must(os.Symlink(to, p.path(name)))
}

func (p *patient) remove(name string) { p.t.Helper(); p.must(os.RemoveAll(p.path(name))) }

func (p *patient) chmod(name string, mode fs.FileMode) {
	p.t.Helper()
	p.must(os.Chmod(p.path(name), mode))
}

// program puts a working hook program there.
func (p *patient) program(name string) {
	p.t.Helper()
	p.folder(filepath.Dir(name))
	p.remove(name)
	hook, err := playedHook()
	p.must(err)
	if os.Link(hook, p.path(name)) != nil {
		p.copied(name)
	}
}

// copied puts a working hook program there that is a file of its own.
func (p *patient) copied(name string) {
	p.t.Helper()
	hook, err := playedHook()
	p.must(err)
	p.put(name, readFileText(p.t, hook), 0o755)
}

// another puts another version of a working hook program there.
func (p *patient) another(name string) string {
	p.t.Helper()
	p.copied(name)
	p.put(name, p.content(name)+"another version", 0o755)
	return p.path(name)
}

// thin installs the thin program too.
func (p *patient) thin() {
	p.t.Helper()
	p.program(thinProgram)
	p.link("../sbin/stopguard-hook-thin", thinLink)
}

// packaged has a package have brought the hook.
func (p *patient) packaged() {
	p.packages = func(path string) (brought, bool) {
		switch path {
		case hookProgram, hookLink, thinProgram, thinLink:
			return brought{"stopguard", "apt-get install --reinstall stopguard"}, true
		}
		return brought{}, false
	}
}

// programIs has the front run another program.
func (p *patient) programIs(name string) {
	p.t.Helper()
	p.put(hookFile, strings.Replace(hookproto.Front, "\nprogram="+hookLink+"\n", "\nprogram="+name+"\n", 1), 0o755)
}

func (p *patient) library(words []string) {
	p.t.Helper()
	p.put(libraryPath, string(libraryHere(words).bytes()), 0o644)
}

func (p *patient) process(pid int, name string, uid int, start time.Time) {
	p.t.Helper()
	folder := fmt.Sprintf("/proc/%d/", pid)
	p.put(folder+"comm", name+"\n", 0o444)
	p.put(folder+"status", fmt.Sprintf("Name:\t%s\nUid:\t1\t%d\t1\t1\n", name, uid), 0o444)
	ticks := start.Sub(time.Unix(1700000000, 0)) / (time.Second / ticksPerSecond)
	p.put(folder+"stat", fmt.Sprintf("%d (a) b) S%s %d 0\n", pid, strings.Repeat(" 0", 18), ticks), 0o444)
}

// daemonStarted has the daemon start before or after the hook came.
func (p *patient) daemonStarted(after time.Duration) {
	p.t.Helper()
	p.process(daemonPID, "libvirtd", 0, time.Now().Add(after))
}

// systemd answers for the host's.
func (p *patient) systemd(answers map[string]string) {
	p.doctor.systemctl = func(args ...string) (string, error) {
		for key, answer := range answers {
			if strings.Contains(strings.Join(args, " "), key) {
				return answer, nil
			}
		}
		return "", nil
	}
}

func at(t time.Time) string { return t.UTC().Format("Mon 2006-01-02 15:04:05 UTC") }

func (p *patient) noLibrary() {
	p.t.Helper()
	p.remove("/usr/lib/x86_64-linux-gnu")
	p.remove(fmt.Sprintf("/proc/%d/maps", daemonPID))
}

func (p *patient) recorded(outcome string, after time.Duration) {
	p.t.Helper()
	p.put("/var/log/stopguard/decisions.jsonl", fmt.Sprintf("torn\n{\"result\": {\"outcome\": %q}, \"timestamp\": %q}\n", outcome,
		time.Now().Add(after).UTC().Format(time.RFC3339Nano)), 0o600)
}

func (p *patient) settings(json string) {
	p.t.Helper()
	p.put(hostpath.Policy+"/data.json", json, 0o644)
}

// tree gives all files below a folder, with their modes and sizes.
func tree(t *testing.T, root string) map[string]string {
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

// do runs a command on the host.
func (p *patient) do(cmd *cobra.Command, args ...string) (string, error) {
	p.t.Helper()
	p.t.Setenv("STOPGUARD_ROOT", p.root)
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func (p *patient) install() string {
	p.t.Helper()
	out, err := p.do(newInstall(), "--hook", p.path("/home/stopguard-hook"))
	p.must(err)
	return out
}

func (p *patient) content(name string) string {
	p.t.Helper()
	content, err := os.ReadFile(p.path(name))
	p.must(err)
	return string(content)
}

// older has the host be as versions left it that put the programs where the links are now.
func (p *patient) older() {
	p.t.Helper()
	p.put(hookLink, p.content("/home/stopguard-hook"), 0o755)
	p.put(thinLink, p.content("/home/stopguard-hook"), 0o755)
	p.put(hookFile, hookproto.Front, 0o755)
	sum := []string{sumOf([]byte(p.content(hookLink)))}
	files := map[string][]string{hookLink: sum, thinLink: sum, hookFile: {sumOf([]byte(hookproto.Front))}}
	p.folder(filepath.Dir(receiptFile))
	p.must(p.keep(receipt{Files: files, Folders: []string{}}))
}
