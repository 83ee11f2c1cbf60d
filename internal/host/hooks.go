package host

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	HooksFolder = "/etc/libvirt/hooks"
	Module      = "github.com/stopguard/stopguard"
	maxFront    = 1 << 20

	PackagedFront    = "/usr/share/stopguard/50-stopguard"
	PackagedHookFile = "/usr/share/stopguard/hook-file" // the script of the package that places the hook
)

// A Hook is a file that libvirt runs for QEMU domains, or would if it were executable.
type Hook struct {
	Path       string
	Executable bool
	Ours       bool
	Leftover   bool // a copy that a package manager or an editor left beside a file
	Came       time.Time
}

// readHooks reads the files in the order in which libvirt runs them.
func (h Host) Hooks() []Hook {
	names := []string{HooksFolder + "/qemu"}
	entries, _ := os.ReadDir(h.Path(HooksFolder + "/qemu.d")) // no folder, no hooks
	for _, e := range entries {
		names = append(names, HooksFolder+"/qemu.d/"+e.Name())
	}
	var hooks []Hook
	for _, name := range names {
		info, err := os.Stat(h.Path(name)) // libvirt follows links
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		came := Changed(info)
		if link, err := os.Lstat(h.Path(name)); err == nil && Changed(link).After(came) {
			came = Changed(link)
		}
		hooks = append(hooks, Hook{
			Path:       name,
			Executable: info.Mode()&0o111 != 0,
			Ours:       h.isOurs(name),
			Leftover:   isLeftover(path.Base(name)),
			Came:       came,
		})
	}
	return hooks
}

func Changed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}

// isOurs recognises the front, of any version, and a program made with this library.
func (h Host) isOurs(name string) bool {
	if text, err := h.Beginning(name); err == nil && bytes.Contains(text, []byte("'stopguard: fault: ")) {
		return true
	}
	built, _ := BuiltWith(h.Path(name))
	return built
}

func (h Host) Beginning(name string) ([]byte, error) {
	f, err := os.Open(h.Path(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxFront))
}

// leftoverEndings are the endings that package managers, editors and people use for a file's other
// versions.
var leftoverEndings = []string{
	".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp", ".ucf-new", ".ucf-old", ".ucf-dist",
	".rpmnew", ".rpmsave", ".rpmorig", ".pacnew", ".pacsave", ".apk-new",
	"~", ".bak", ".old", ".orig", ".save", ".swp",
}

func isLeftover(name string) bool {
	return slices.ContainsFunc(leftoverEndings, func(ending string) bool { return strings.HasSuffix(name, ending) })
}
