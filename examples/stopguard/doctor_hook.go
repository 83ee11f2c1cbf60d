package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
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
		d.failure("hook-installed", "stopguard install", "there is no hook of stopguard in %s", d.path(hooksFolder))
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
		d.warning("hook-content", "stopguard install, after moving this file away",
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
	const cure = "move it out of qemu.d, and then: stopguard install"
	switch {
	case !h.ours:
		d.failure("hook-content", cure, "%s is not the front of stopguard, and yet is run for every operation", d.path(h.path))
	case programLine.ReplaceAllString(text, "") != programLine.ReplaceAllString(hookproto.Front, ""):
		d.warning("hook-content", cure, "%s was changed, or is of another version than this program", d.path(h.path))
	default:
		d.ok("hook-content", "it is this version's")
	}
	return program
}

// checkOwner finds out whether others than root can change what root runs.
func (d *doctor) checkOwner(id, name string) bool {
	resolved, err := d.resolve(name)
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

// checkProgram looks at a program that the hook runs. The findings begin with id.
func (d *doctor) checkProgram(ctx context.Context, id, program, cure string) {
	file := d.path(program)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.unknown(id, "run it as root", "%s cannot be looked at", file)
		return
	case err != nil:
		d.failure(id, cure, "%s is missing: every stop is refused", file)
		return
	case !info.Mode().IsRegular():
		d.failure(id, cure, "%s is not a regular file: every stop is refused", file)
		return
	case info.Size() == 0:
		d.failure(id, cure, "%s is empty: every stop is refused", file)
		return
	case info.Mode()&0o111 == 0:
		d.failure(id, "chmod 0755 "+file, "%s is not executable: every stop is refused", file)
		return
	}
	d.ok(id, "%s", file)
	begins, err := d.beginning(program)
	if err != nil {
		d.unknown(id+"-machine", "run it as root", "%v", err)
		return
	}
	if script := bytes.HasPrefix(begins, []byte("#!")); !script { // the front runs those too
		if what := programFault(file); what != "" {
			d.failure(id+"-machine", cure, "%s %s: every stop is refused", file, what)
			return
		}
	}
	d.ok(id+"-machine", "this machine can run it")
	switch built, known := builtWith(file); {
	case built:
		d.ok(id+"-library", "it is made with stopguard")
	case known:
		d.failure(id+"-library", cure, "%s is not made with stopguard: what it does is not known here", file)
	default:
		d.unknown(id+"-library", "ask who installed it", "what %s is made with cannot be told", file)
	}
	// A program that others can change is not run as root.
	if !d.checkOwner(id+"-owner", program) {
		return
	}
	if what := d.probe(ctx, file); what != "" {
		d.failure(id+"-starts", cure, "%s, run for an operation that it has nothing to do for, %s", file, what)
		return
	}
	d.ok(id+"-starts", "it does")
}

// machines are the ELF machines that run this program's own architecture.
var machines = map[string][]elf.Machine{
	"386":     {elf.EM_386},
	"amd64":   {elf.EM_X86_64, elf.EM_386},
	"arm":     {elf.EM_ARM},
	"arm64":   {elf.EM_AARCH64, elf.EM_ARM},
	"loong64": {elf.EM_LOONGARCH},
	"ppc64":   {elf.EM_PPC64},
	"ppc64le": {elf.EM_PPC64},
	"riscv64": {elf.EM_RISCV},
	"s390x":   {elf.EM_S390},
}

// programFault says why a file is no program of this machine, or "".
func programFault(file string) string {
	f, err := elf.Open(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return "cannot be opened"
		}
		return "is not an ELF program"
	}
	defer func() { _ = f.Close() }()
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return "is not an ELF program"
	}
	if known := machines[runtime.GOARCH]; known != nil && !slices.Contains(known, f.Machine) {
		return fmt.Sprintf("is for another machine (%v)", f.Machine)
	}
	info, err := os.Stat(file)
	if err != nil {
		return "cannot be opened"
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && (p.Filesz > uint64(info.Size()) || p.Off > uint64(info.Size())-p.Filesz) {
			return "is not whole"
		}
	}
	return ""
}

// builtWith reports whether a program is a Go program that has this library in it. known is false where a file does not
// say what it is made of.
func builtWith(file string) (built, known bool) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return false, false
	}
	if info.Main.Path == module {
		return true, true
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return true, true
		}
	}
	return false, info.Main.Path != ""
}

// probe runs the program as libvirt runs a hook before a domain starts: it has to say nothing, and to succeed. It says
// what went wrong, or "".
func (d *doctor) probe(ctx context.Context, file string) string {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "stopguard-doctor", "prepare", "begin", "-")
	cmd.Env = []string{"LC_ALL=C", "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin", "HOME=/root"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	exit, exited := errors.AsType[*exec.ExitError](err)
	said := ""
	if len(out) > 0 {
		said = fmt.Sprintf(", saying: %.200s", bytes.TrimSpace(out))
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Sprintf("did not end within %v%s", d.patience, said)
	case exited:
		return fmt.Sprintf("ended with %v%s", exit, said)
	case err != nil:
		return fmt.Sprintf("cannot be started: %v", err)
	case said != "":
		return "was not silent" + said
	}
	return ""
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
