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

	// Systemctl runs systemctl. It is nil if systemctl is missing or would describe another host.
	// Times in its output are in UTC. An error names the command.
	Systemctl func(args ...string) (string, error)

	// Packages returns the package that contains a file. It is nil if the package manager would
	// describe another host.
	Packages func(path string) (Brought, bool)

	// Label returns the SELinux label of a file. If it is nil, FileLabel reads the file's
	// attribute.
	Label func(path string) (string, error)

	// AskSELinux writes a question to a file of selinuxfs and returns the kernel's answer. nil uses
	// the host's selinuxfs.
	AskSELinux func(name, question string) (string, error)
}

// This returns the host that STOPGUARD_ROOT names, or else the running one.
func This() (Host, error) {
	if root := os.Getenv("STOPGUARD_ROOT"); root != "" {
		root, err := filepath.Abs(root)
		return Host{Root: strings.TrimSuffix(root, "/")}, err
	}
	return Host{Systemctl: systemctl(), Packages: packages}, nil
}

// Path returns the path of a host's file below the root.
func (h Host) Path(name string) string { return filepath.Join("/", h.Root, name) }

// Exists reports whether a file exists. A dangling link exists.
func (h Host) Exists(name string) bool {
	_, err := os.Lstat(h.Path(name))
	return err == nil
}

// HasSystemd reports whether systemd starts the host, or is installed to do so.
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

// MaxProgram bounds the bytes of a program, which is held in memory. It is more than any hook
// program has.
const MaxProgram = 512 << 20

// OwnersAlone returns an error if users other than the owner can change the content of a folder.
func (h Host) OwnersAlone(folder string) error {
	err := hostfile.Root(h.Root).Judge(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// OwnersOnly reports whether only its owner can change a program that is not installed yet.
// Otherwise root must not run it.
func (h Host) OwnersOnly(file string) bool {
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	root := hostfile.Root("")
	if relative, ok := strings.CutPrefix(resolved, h.Root+"/"); ok && h.Root != "" {
		root, resolved = hostfile.Root(h.Root), "/"+relative
	}
	_, err = root.Read(resolved, MaxProgram)
	return err == nil
}

// The paths of the hook's files.
const (
	HookFile     = hostpath.Hook
	HookProgram  = "/usr/sbin/stopguard-hook"    // AppArmor lets libvirt's daemon run it there
	HookLink     = "/usr/libexec/stopguard-hook" // the front looks for it there
	ThinProgram  = HookProgram + "-thin"
	PreviousHook = HookProgram + ".previous" // the previous version, which the package keeps while the new one refuses the policy
	ThinLink     = HookLink + "-thin"
	ShutdownUnit = "stopguard-shutdown.service"
	UnitFolder   = unit.Folder
)

// The paths of the gate's files. Those that differ with the layout are in package unit.
const (
	GateProgram  = "/usr/sbin/stopguard-gate"
	GateSocket   = unit.GateSocket
	GateService  = unit.GateService
	GateAccess   = UnitFolder + "/" + GateSocket + ".d/50-access.conf" // has the owner and mode that the daemon's socket had
	GateOff      = hostpath.GateOff                                    // while it exists, the gate does not refuse anything
	GateManifest = "/var/lib/stopguard/gate.json"

	PackagedUnits = "/usr/lib/systemd/system"
)

// UnixSockDir matches the setting for the folder of a daemon's sockets, which it uses if it makes
// them itself.
var UnixSockDir = regexp.MustCompile(`(?m)^[ \t]*unix_sock_dir[ \t]*=[ \t]*["']?([^"'\n]*)`)
