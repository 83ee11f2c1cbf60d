// Package host describes a host to the operator's tool: its paths, systemd, packages, processes,
// hooks and libvirt.
package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
)

// A Host is the host that install, uninstall and doctor work on.
type Host struct {
	Root string // absolute; "" is the host itself

	// Systemctl runs systemctl. It is nil if systemctl would describe another host than this one,
	// or is missing. Times in its output are in UTC. An error names the command.
	Systemctl func(args ...string) (string, error)

	// Packages returns the package that contains a file. It is nil if the package manager would
	// describe another host than this one.
	Packages func(path string) (Brought, bool)

	// Label returns the SELinux label of a file. If it is nil, the file's attribute is read.
	Label func(path string) (string, error)

	// AskSELinux writes a question to a file of selinuxfs, which only a kernel with SELinux can
	// answer. nil uses the host's selinuxfs.
	AskSELinux func(name, question string) (string, error)
}

// This is the host that STOPGUARD_ROOT names.
func This() (Host, error) {
	if root := os.Getenv("STOPGUARD_ROOT"); root != "" {
		root, err := filepath.Abs(root)
		return Host{Root: strings.TrimSuffix(root, "/")}, err
	}
	return Host{Systemctl: systemctl(), Packages: packages}, nil
}

// Path returns where a file of the host is.
func (h Host) Path(name string) string { return filepath.Join("/", h.Root, name) }

// Exists also returns true for a dangling link.
func (h Host) Exists(name string) bool {
	_, err := os.Lstat(h.Path(name))
	return err == nil
}

// HasSystemd reports whether the host is, or will be, started by systemd.
func (h Host) HasSystemd() bool {
	return h.Exists("/run/systemd/system") || h.Exists("/usr/lib/systemd/systemd") || h.Exists("/lib/systemd/systemd")
}

// MustBeRoot returns an error if the caller may not change the host.
func (h Host) MustBeRoot() error {
	if h.Root == "" && os.Geteuid() != 0 {
		return errors.New("only root may change what libvirt runs; run it as root")
	}
	return nil
}

// Read returns the content of a file that only its owner can change.
func (h Host) Read(name string) ([]byte, error) {
	if base, ok := strings.CutPrefix(name, "/usr/sbin/"); ok {
		if to, err := os.Readlink(h.Path("/usr/sbin")); err == nil && to == "bin" { // as on Fedora
			name = "/usr/bin/" + base
		}
	}
	return hostfile.Root(h.Root).Read(name, MaxProgram)
}

// MaxProgram is more than any hook program; it is held in memory.
const MaxProgram = 512 << 20

// OwnersAlone returns an error if users other than its owner can change the content of a folder.
func (h Host) OwnersAlone(folder string) error {
	err := hostfile.Root(h.Root).Judge(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// OwnersOnly reports whether only its owner can change a program that is not installed yet, so that
// root may run it.
func (h Host) OwnersOnly(file string) bool {
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	root := hostfile.Root("")
	if inside, ok := strings.CutPrefix(resolved, h.Root+"/"); ok && h.Root != "" {
		root, resolved = hostfile.Root(h.Root), "/"+inside
	}
	_, err = root.Read(resolved, MaxProgram)
	return err == nil
}

// The paths of the hook's files.
const (
	HookFile     = hostpath.Hook
	HookProgram  = "/usr/sbin/stopguard-hook"    // where AppArmor lets libvirt's daemon run it
	HookLink     = "/usr/libexec/stopguard-hook" // where the front looks for it
	ThinProgram  = HookProgram + "-thin"
	PreviousHook = HookProgram + ".previous" // the version before, which the package keeps while the new one refuses the policy
	ThinLink     = HookLink + "-thin"
	ShutdownUnit = "stopguard-shutdown.service"
	UnitFolder   = unit.Folder
)

// The paths of the gate's files. Those that differ with the layout are in package unit.
const (
	GateProgram  = "/usr/sbin/stopguard-gate"
	GateSocket   = unit.GateSocket
	GateService  = unit.GateService
	GateAccess   = UnitFolder + "/" + GateSocket + ".d/50-access.conf" // who may connect, as at the daemon's socket before
	GateOff      = hostpath.GateOff                                    // while it is there, the gate refuses nothing
	GateManifest = "/var/lib/stopguard/gate.json"

	PackagedUnits = "/usr/lib/systemd/system"
)

// UnixSockDir is the setting that moves a daemon's sockets where it makes them itself.
var UnixSockDir = regexp.MustCompile(`(?m)^[ \t]*unix_sock_dir[ \t]*=[ \t]*["']?([^"'\n]*)`)
