package tool

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
)

const (
	hooksFolder = "/etc/libvirt/hooks"
	module      = "github.com/stopguard/stopguard"
	maxFront    = 1 << 20

	packagedFront = "/usr/share/stopguard/50-stopguard"
)

// A hook is a file that libvirt runs for QEMU domains, or would if it were executable.
type hook struct {
	path       string
	executable bool
	ours       bool
	twin       bool // what a package manager or an editor left beside a file
	came       time.Time
}

// readHooks reads the files in the order in which libvirt runs them.
func (d *doctor) readHooks() []hook {
	names := []string{hooksFolder + "/qemu"}
	entries, _ := os.ReadDir(d.path(hooksFolder + "/qemu.d")) // no folder, no hooks
	for _, e := range entries {
		names = append(names, hooksFolder+"/qemu.d/"+e.Name())
	}
	var hooks []hook
	for _, name := range names {
		info, err := os.Stat(d.path(name)) // libvirt follows links
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		came := changed(info)
		if link, err := os.Lstat(d.path(name)); err == nil && changed(link).After(came) {
			came = changed(link)
		}
		hooks = append(hooks, hook{
			path:       name,
			executable: info.Mode()&0o111 != 0,
			ours:       d.isOurs(name),
			twin:       isTwin(path.Base(name)),
			came:       came,
		})
	}
	return hooks
}

func changed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}

// isOurs recognises the front, of any version, and a program made with this library.
func (d *doctor) isOurs(name string) bool {
	if text, err := d.beginning(name); err == nil && bytes.Contains(text, []byte("'stopguard: fault: ")) {
		return true
	}
	built, _ := builtWith(d.path(name))
	return built
}

func (d *doctor) beginning(name string) ([]byte, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxFront))
}

// twinEndings are those that package managers, editors and people give to a file's other versions.
var twinEndings = []string{
	".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp", ".ucf-new", ".ucf-old", ".ucf-dist",
	".rpmnew", ".rpmsave", ".rpmorig", ".pacnew", ".pacsave", ".apk-new",
	"~", ".bak", ".old", ".orig", ".save", ".swp",
}

func isTwin(name string) bool {
	return slices.ContainsFunc(twinEndings, func(ending string) bool { return strings.HasSuffix(name, ending) })
}

// installed finds the hook of ours that the other checks are about.
func (d *doctor) installed() (hook, bool) {
	var ours, running []hook
	var main *hook
	for _, h := range d.hooks {
		if h.path == hookFile {
			main = &h
		}
		if h.ours && !h.twin {
			ours = append(ours, h)
			if h.executable {
				running = append(running, h)
			}
		}
	}
	switch {
	case len(running) > 0 && (main == nil || !main.executable):
		main = &running[0]
	case main == nil && len(ours) > 0:
		main = &ours[0]
	case main == nil:
		d.failure("hook-installed", d.putHook(), "there is no hook of stopguard in %s", d.path(hooksFolder))
		return hook{}, false
	}
	d.ok("hook-installed", "%s", d.path(main.path))
	if main.executable {
		d.ok("hook-executable", "libvirt may run it")
	} else {
		d.failure("hook-executable", "chmod 0755 "+d.path(main.path), "the guard is switched off: %s is not executable", d.path(main.path))
	}
	if len(running) > 1 {
		var names []string
		for _, h := range running {
			names = append(names, d.path(h.path))
		}
		d.warning("hook-once", "keep one of them, and move the others out of "+d.path(hooksFolder),
			"every stop is decided and recorded more than once: %s", strings.Join(names, ", "))
	} else {
		d.ok("hook-once", "no other hook of stopguard runs beside it")
	}
	return *main, true
}

var programLine = regexp.MustCompile(`(?m)^program=(/[A-Za-z0-9_.,/@+=-]+)$`)

// checkHook gives the program that the hook runs, or "" where that cannot be told.
func (d *doctor) checkHook(h hook) (program string) {
	d.checkOwner("hook-owner", h.path)
	if built, _ := builtWith(d.path(h.path)); built {
		d.warning("hook-content", "move it out of qemu.d, and then: "+d.putHook(),
			"%s is a program without the shell front: if it cannot start, running guests are killed when the daemon restarts", d.path(h.path))
		return h.path
	}
	content, err := d.beginning(h.path)
	if err != nil {
		d.unknown("hook-content", "run it as root", "%s cannot be read: %v", d.path(h.path), err)
		return ""
	}
	text := string(content)
	if match := programLine.FindStringSubmatch(text); match != nil {
		program = match[1]
	}
	cure := func() string { return "move it out of qemu.d, and then: " + d.putHook() }
	switch {
	case !h.ours:
		d.failure("hook-content", cure(), "%s is not the front of stopguard, and yet is run for every operation", d.path(h.path))
	case programLine.ReplaceAllString(text, "") != programLine.ReplaceAllString(hookproto.Front, ""):
		d.warning("hook-content", cure(), "%s was changed, or is of another version than this program", d.path(h.path))
	default:
		d.ok("hook-content", "it is this version's")
	}
	return program
}

// checkOwner finds out whether others than root can change what root runs.
func (d *doctor) checkOwner(id, name string) bool {
	resolved, err := d.resolve(name)
	if err == nil && resolved != name { // who may change the folder of a link could have it lead elsewhere
		var folder string
		if folder, err = d.resolve(path.Dir(name)); err == nil {
			err = d.ownersAlone(folder)
		}
	}
	if err == nil {
		_, err = hostfile.Root(d.root).Read(resolved, maxProgram)
	}
	if err != nil {
		d.addError(severityFailure, id, err)
		return false
	}
	d.ok(id, "only its owner can change it")
	return true
}

// resolve follows links, below the root.
func (d *doctor) resolve(name string) (string, error) {
	root, err := filepath.EvalSymlinks(d.path("/"))
	if err != nil {
		return "", err
	}
	to, err := filepath.EvalSymlinks(d.path(name))
	if err != nil {
		return "", err
	}
	inside, ok := strings.CutPrefix(to, strings.TrimSuffix(root, "/"))
	if !ok || !strings.HasPrefix(inside, "/") {
		return "", fmt.Errorf("%s leads out of %s; put the file itself there", d.path(name), d.path("/"))
	}
	return inside, nil
}

// again is how to have a file as the package has brought it, or what to do otherwise.
func (d *doctor) again(path, otherwise string) string {
	if b, ok := d.broughtBy(path); ok {
		return b.again
	}
	return otherwise
}

// putHook is how the hook file comes to its place, which is no file of a package, so that one that was deleted stays so.
func (d *doctor) putHook() string {
	if _, ok := d.broughtBy(hookProgram); ok {
		return "install -m 0755 " + packagedFront + " " + hookFile
	}
	return "stopguard install"
}

func (d *doctor) checkTwins() {
	var twins []string
	for _, h := range d.hooks {
		if h.twin && h.executable {
			twins = append(twins, d.path(h.path))
		}
	}
	if len(twins) == 0 {
		d.ok("hook-twins", "no left-over version of a hook runs")
		return
	}
	d.warning("hook-twins", "remove it, or move it out of qemu.d; or: chmod -x "+shellWord(twins[0]),
		"libvirt runs every executable in qemu.d, and so this left-over too: %s", strings.Join(twins, ", "))
}

// checkOtherHooks tells what else runs: it may refuse, or take long, and the answer would be taken for ours.
func (d *doctor) checkOtherHooks() {
	var others []string
	for _, h := range d.hooks {
		if h.executable && !h.ours && !h.twin && h.path != hookFile {
			others = append(others, d.path(h.path))
		}
	}
	if len(others) == 0 {
		d.ok("other-hooks", "there are none")
		return
	}
	d.ok("other-hooks", "these run as well, whatever stopguard answers: %s", strings.Join(others, ", "))
}
