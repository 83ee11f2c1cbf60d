package host

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
)

const (
	HooksFolder = "/etc/libvirt/hooks"
	Module      = "github.com/stopguard/stopguard"
	maxFront    = 1 << 20

	PackagedFront    = "/usr/share/stopguard/50-stopguard"
	PackagedHookFile = "/usr/share/stopguard/hook-file" // the package's script that installs the hook file

	// HookSince is a file with two times in seconds since 1970. The first is when libvirt could
	// first run the hook file, or a hook file that this one replaced atomically. The second is the
	// last change of the file. libvirt's daemon looks for hooks only when it starts. If it has
	// noticed the former file, it runs the new one, too.
	HookSince = "/var/lib/stopguard/hook-since"
)

// A Hook is a file that libvirt runs for QEMU domains, or would run if it were executable.
type Hook struct {
	Path       string
	Executable bool
	Ours       bool
	Leftover   bool      // a copy that a package manager or an editor left beside a file
	Came       time.Time // when libvirt could first run it, or the hook that it replaced
}

// Hooks returns the hooks in the order in which libvirt runs them.
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
		if name == HookFile {
			came = h.hookSince(came)
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

// hookSince returns the first time in HookSince if the second one is the last change of the hook
// file. Otherwise it returns changed.
func (h Host) hookSince(changed time.Time) time.Time {
	text, _ := os.ReadFile(h.Path(HookSince)) // a missing file is not an error
	var since, noted int64
	if _, err := fmt.Sscan(string(text), &since, &noted); err != nil || noted != changed.Unix() {
		return changed
	}
	return time.Unix(since+1, -1) // the end of that second
}

// RunningHook returns the hook file if libvirt can run it.
func (h Host) RunningHook() (Hook, bool) {
	hooks := h.Hooks()
	i := slices.IndexFunc(hooks, func(hook Hook) bool { return hook.Path == HookFile && hook.Executable })
	if i < 0 {
		return Hook{}, false
	}
	return hooks[i], true
}

// NoteReplaced writes HookSince if the hook file has replaced another one atomically. former is the
// hook before.
func (h Host) NoteReplaced(former Hook) error {
	if now, ok := h.RunningHook(); !ok || now.Came.Equal(former.Came) {
		return nil
	}
	info, err := os.Stat(h.Path(HookFile))
	if err != nil {
		return err
	}
	text := fmt.Sprintln(former.Came.Unix(), Changed(info).Unix())
	return hostfile.Replace(h.Path(HookSince), []byte(text), 0o644)
}

// Changed returns the time of a file's last change (ctime).
func Changed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}

// isOurs reports whether a file is the front of any version, or a program made with this library.
func (h Host) isOurs(name string) bool {
	if text, err := h.Beginning(name); err == nil && bytes.Contains(text, []byte("'stopguard: fault: ")) {
		return true
	}
	built, _ := BuiltWith(h.Path(name))
	return built
}

// Beginning returns the first bytes of a file, at most maxFront.
func (h Host) Beginning(name string) ([]byte, error) {
	f, err := os.Open(h.Path(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxFront))
}

// leftoverEndings are the endings of other versions of a file, as package managers, editors and
// people name them.
var leftoverEndings = []string{
	".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp", ".ucf-new", ".ucf-old", ".ucf-dist",
	".rpmnew", ".rpmsave", ".rpmorig", ".pacnew", ".pacsave", ".apk-new",
	"~", ".bak", ".old", ".orig", ".save", ".swp",
}

func isLeftover(name string) bool {
	return slices.ContainsFunc(leftoverEndings, func(ending string) bool { return strings.HasSuffix(name, ending) })
}
