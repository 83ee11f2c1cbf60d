package tool

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
	"runtime"
	"slices"
	"time"
)

// checkProgram looks at a program that the hook runs. The findings begin with id. otherwise is the cure where the program
// is no package's.
func (d *doctor) checkProgram(ctx context.Context, id, program, otherwise string) {
	file := d.path(program)
	cure := func() string { return d.again(program, otherwise) }
	severity, effect := severityFailure, "every stop is refused"
	if id == "thin" { // the front runs the other one then
		severity, effect = severityWarning, "it is not used"
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.unknown(id, "run it as root", "%s cannot be looked at", file)
		return
	case err != nil:
		if to, err := os.Readlink(file); err == nil {
			d.add(severity, id, cure(), "%s leads to %s, which is missing: %s", file, to, effect)
			return
		}
		d.add(severity, id, cure(), "%s is missing: %s", file, effect)
		return
	case !info.Mode().IsRegular():
		d.add(severity, id, cure(), "%s is not a regular file: %s", file, effect)
		return
	case info.Size() == 0:
		d.add(severity, id, cure(), "%s is empty: %s", file, effect)
		return
	case info.Mode()&0o111 == 0:
		d.add(severity, id, "chmod 0755 "+file, "%s is not executable: %s", file, effect)
		return
	}
	d.ok(id, "%s", file)
	d.checkPlace(id+"-place", program, otherwise)
	begins, err := d.beginning(program)
	if err != nil {
		d.unknown(id+"-machine", "run it as root", "%v", err)
		return
	}
	if script := bytes.HasPrefix(begins, []byte("#!")); !script { // the front runs those too
		if what := programFault(file); what != "" {
			d.failure(id+"-machine", cure(), "%s %s: every stop is refused", file, what)
			return
		}
	}
	d.ok(id+"-machine", "this machine can run it")
	switch built, known := builtWith(file); {
	case built:
		d.ok(id+"-library", "it is made with stopguard")
	case known:
		d.failure(id+"-library", cure(), "%s is not made with stopguard: what it does is not known here", file)
	default:
		d.unknown(id+"-library", "ask who installed it", "what %s is made with cannot be told", file)
	}
	// A program that others can change is not run as root.
	if !d.checkOwner(id+"-owner", program) {
		return
	}
	if what := d.probe(ctx, file); what != "" {
		d.failure(id+"-starts", cure(), "%s, run for an operation that it has nothing to do for, %s", file, what)
		return
	}
	d.ok(id+"-starts", "it does")
}

// installedAt are the programs that install, and the package, put behind a link. A program elsewhere is the site's affair.
var installedAt = map[string]string{hookLink: hookProgram, thinLink: thinProgram}

// checkPlace finds out whether what is installed is what runs.
func (d *doctor) checkPlace(id, program, otherwise string) {
	target := installedAt[program]
	cure := func() string { return d.again(program, "move it away, and then: "+otherwise) }
	link, linked := os.Readlink(d.path(program))
	there, err := os.Stat(d.path(program))
	installed, missing := os.Stat(d.path(target))
	switch {
	case target == "":
		d.ok(id, "it is the site's own")
	case err == nil && missing == nil && os.SameFile(there, installed):
		d.ok(id, "it is in %s", d.path(path.Dir(target)))
	case linked == nil:
		d.warning(id, cure(), "%s leads to %s, and not to %s, where it is installed", d.path(program), link, d.path(target))
	case missing == nil:
		d.warning(id, cure(), "%s is a file, and not a link to %s: what is installed there does not run", d.path(program), d.path(target))
	default:
		d.ok(id, "it is where older versions installed it")
	}
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
		if beginsAsELF(file) {
			return "is not whole"
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

func beginsAsELF(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	begins := make([]byte, len(elf.ELFMAG))
	_, err = io.ReadFull(f, begins)
	return err == nil && string(begins) == elf.ELFMAG
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

// probe runs the program as libvirt runs a hook before a domain starts.
func (d *doctor) probe(ctx context.Context, file string) string {
	return d.fails(ctx, file, "stopguard-doctor", "prepare", "begin", "-")
}

// fails runs a program that has to say nothing, and to succeed. It says what went wrong, or "".
func (d *doctor) fails(ctx context.Context, file string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin", "HOME=/root"}
	if d.root != "" {
		cmd.Env = append(cmd.Env, "STOPGUARD_ROOT="+d.root)
	}
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
