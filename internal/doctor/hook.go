package doctor

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/policy/record"
)

// installed returns the hook of stopguard that the other checks examine. It reports false if the
// host does not have one.
func (d *doctor) installed() (host.Hook, bool) {
	var ours, running []host.Hook
	var main *host.Hook
	for _, h := range d.hooks {
		if h.Path == host.HookFile {
			main = &h
		}
		if h.Ours && !h.Leftover {
			ours = append(ours, h)
			if h.Executable {
				running = append(running, h)
			}
		}
	}
	switch {
	case len(running) > 0 && (main == nil || !main.Executable):
		main = &running[0]
	case main == nil && len(ours) > 0:
		main = &ours[0]
	case main == nil:
		d.failure("hook-installed", d.putHook(), "there is no hook of stopguard in %s", d.Path(host.HooksFolder))
		return host.Hook{}, false
	}
	d.ok("hook-installed", "%s", d.Path(main.Path))
	if main.Executable {
		d.ok("hook-executable", "libvirt may run it")
	} else {
		d.failure("hook-executable", "chmod 0755 "+d.Path(main.Path), "the guard is switched off: %s is not executable", d.Path(main.Path))
	}
	if len(running) > 1 {
		var names []string
		for _, h := range running {
			names = append(names, d.Path(h.Path))
		}
		d.warning("hook-once", "keep one of them, and move the others out of "+d.Path(host.HooksFolder),
			"every stop is decided and recorded more than once: %s", strings.Join(names, ", "))
	} else {
		d.ok("hook-once", "no other hook of stopguard runs beside it")
	}
	return *main, true
}

var programLine = regexp.MustCompile(`(?m)^program=(/[A-Za-z0-9_.,/@+=-]+)$`)

// checkHook returns the program that the hook runs, or "" if that cannot be determined.
func (d *doctor) checkHook(ctx context.Context, h host.Hook) (program string) {
	if d.checkOwner("hook-owner", h.Path) && h.Executable && h.Ours {
		d.checkStarts(ctx, h)
	}
	if built, _ := host.BuiltWith(d.Path(h.Path)); built {
		d.warning("hook-content", "move it out of qemu.d, and then: "+d.putHook(),
			"%s is a program without the shell front: if it cannot start, running guests are killed when the daemon restarts", d.Path(h.Path))
		return h.Path
	}
	content, err := d.Beginning(h.Path)
	if err != nil {
		d.unknown("hook-content", "run it as root", "%s cannot be read: %v", d.Path(h.Path), err)
		return ""
	}
	text := string(content)
	if match := programLine.FindStringSubmatch(text); match != nil {
		program = match[1]
	}
	cure := func() string { return "move it out of qemu.d, and then: " + d.putHook() }
	switch {
	case !h.Ours:
		d.failure("hook-content", cure(), "%s is not the front of stopguard, and yet is run for every operation", d.Path(h.Path))
	case programLine.ReplaceAllString(text, "") != programLine.ReplaceAllString(hookproto.Front, ""):
		d.warning("hook-content", cure(), "%s was changed, or is of another version than this program", d.Path(h.Path))
	default:
		d.ok("hook-content", "it is this version's")
	}
	return program
}

// killsGuests is the effect of a hook file that libvirt finds and cannot start.
const killsGuests = "a daemon that restarts ends the guests that run"

// hookOff returns the command that switches a hook off.
func hookOff(file string) string { return "chmod -x " + file + " before a daemon restarts" }

// checkStarts starts the hook file as it stands, for an operation for which it has nothing to do.
func (d *doctor) checkStarts(ctx context.Context, h host.Hook) {
	file := d.Path(h.Path)
	what := d.Probe(ctx, d.patience, file)
	switch {
	case what == "":
		d.ok("hook-starts", "it does")
	case d.IsNoexec(path.Dir(h.Path)):
		d.failure("hook-starts", "mount it without noexec, or use the gate: "+host.InstallGate,
			"%s is on a file system that is mounted with noexec: libvirt does not run the hook", file)
	default:
		d.failure("hook-starts", hookOff(file)+"; correct that, and then chmod 0755 "+file, "%s, started for an operation that it has nothing to do for, %s: %s", file, what, killsGuests)
	}
}

// checkReads checks whether this libvirt looks for hooks at the hook's path.
func (d *doctor) checkReads(h host.Hook) {
	file, replaced := d.LibraryFile(d.processes.Daemons)
	if _, err := host.ReadLibrary(file); err != nil || replaced {
		return // reported already
	}
	reads, why := d.Reads(d.processes, h.Path)
	switch reads {
	case host.Yes:
		d.ok("hook-read", "%s", why)
	case host.No:
		d.failure("hook-read", "use the gate: "+host.InstallGate+"; or have the hook run from where this libvirt looks", "%s: it never runs %s", why, d.Path(h.Path))
	default:
		d.unknown("hook-read", "look for the domain's name in "+d.Path(record.File)+" after one was stopped that does not matter", "%s", why)
	}
}

// checkOwner checks whether users other than root can change a file that root runs.
func (d *doctor) checkOwner(id, name string) bool {
	resolved, err := d.resolve(name)
	if err == nil && resolved != name { // otherwise the folder's writers could redirect the link
		var folder string
		if folder, err = d.resolve(path.Dir(name)); err == nil {
			err = d.OwnersAlone(folder)
		}
	}
	if err == nil {
		_, err = hostfile.Root(d.Root).Read(resolved, host.MaxProgram)
	}
	if err != nil {
		d.addError(severityFailure, id, err)
		return false
	}
	d.ok(id, "only its owner can change it")
	return true
}

// resolve returns the path of a file after all links, below the root.
func (d *doctor) resolve(name string) (string, error) {
	root, err := filepath.EvalSymlinks(d.Path("/"))
	if err != nil {
		return "", err
	}
	to, err := filepath.EvalSymlinks(d.Path(name))
	if err != nil {
		return "", err
	}
	inside, ok := strings.CutPrefix(to, strings.TrimSuffix(root, "/"))
	if !ok || !strings.HasPrefix(inside, "/") {
		return "", fmt.Errorf("%s leads out of %s; put the file itself there", d.Path(name), d.Path("/"))
	}
	return inside, nil
}

// reinstallHint returns the command that reinstalls a file's package, or otherwise.
func (d *doctor) reinstallHint(path, otherwise string) string {
	if b, ok := d.BroughtBy(path); ok {
		return b.Again
	}
	return otherwise
}

// putHook returns the command that installs the hook file. Packages do not contain that file, so
// that a deleted one stays deleted.
func (d *doctor) putHook() string {
	if _, ok := d.BroughtBy(host.HookProgram); ok {
		return "install -m 0755 " + host.PackagedFront + " " + host.HookFile
	}
	return "stopguard install"
}

func (d *doctor) checkLeftovers() {
	var leftovers []string
	for _, h := range d.hooks {
		if h.Leftover && h.Executable {
			leftovers = append(leftovers, d.Path(h.Path))
		}
	}
	if len(leftovers) == 0 {
		d.ok("hook-twins", "no left-over version of a hook runs")
		return
	}
	d.warning("hook-twins", "remove it, or move it out of qemu.d; or: chmod -x "+terminal.ShellWord(leftovers[0]),
		"libvirt runs every executable in qemu.d, and so this left-over too: %s", strings.Join(leftovers, ", "))
}

// checkOtherHooks reports other hooks: they may refuse a stop or take long, and the operator would
// blame stopguard.
func (d *doctor) checkOtherHooks() {
	var others []string
	for _, h := range d.hooks {
		if h.Executable && !h.Ours && !h.Leftover && h.Path != host.HookFile {
			others = append(others, d.Path(h.Path))
		}
	}
	if len(others) == 0 {
		d.ok("other-hooks", "there are none")
		return
	}
	d.ok("other-hooks", "these run as well, whatever stopguard answers: %s", strings.Join(others, ", "))
}
