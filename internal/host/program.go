package host

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
	"runtime"
	"slices"
	"time"
)

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

// ProgramFault returns the reason for which a file is not a program for this machine, or "".
func ProgramFault(file string) string {
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

// BuiltWith reports whether a program is a Go program that contains this library. known is false if
// the file does not have build information.
func BuiltWith(file string) (built, known bool) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return false, false
	}
	if info.Main.Path == Module {
		return true, true
	}
	for _, dep := range info.Deps {
		if dep.Path == Module {
			return true, true
		}
	}
	return false, info.Main.Path != ""
}

// Probe runs the program as libvirt runs a hook before a domain starts.
func (h Host) Probe(ctx context.Context, patience time.Duration, file string) string {
	return h.Fails(ctx, patience, file, "stopguard-doctor", "prepare", "begin", "-")
}

// Fails runs a program that must succeed without output. It returns the failure as a predicate,
// such as "cannot be started", or "".
func (h Host) Fails(ctx context.Context, patience time.Duration, file string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin", "HOME=/root"}
	if h.Root != "" {
		cmd.Env = append(cmd.Env, "STOPGUARD_ROOT="+h.Root)
	}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	exit, exited := errors.AsType[*exec.ExitError](err)
	quoted := ""
	if len(out) > 0 {
		quoted = fmt.Sprintf(", saying: %.200s", bytes.TrimSpace(out))
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Sprintf("did not end within %v%s", patience, quoted)
	case exited:
		return fmt.Sprintf("ended with %v%s", exit, quoted)
	case err != nil:
		return fmt.Sprintf("cannot be started: %v", err)
	case quoted != "":
		return "was not silent" + quoted
	}
	return ""
}
