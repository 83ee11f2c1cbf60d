package install

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
)

// A part is a file or a link that install writes.
type part struct {
	path    string
	content []byte
	mode    fs.FileMode
	to      string // the target of a link, which only uses path and to
}

// linkTo returns a link to another part. It is relative, so that it is correct below another root,
// too.
func linkTo(path, target string) part {
	to, err := filepath.Rel(filepath.Dir(path), target)
	if err != nil {
		panic(err) // both are absolute
	}
	return part{path: path, to: to}
}

// parts returns the files to install. The hook is last, so that it never runs without its program.
// A link comes after its target.
func (i installer) parts() ([]part, error) {
	source, err := i.findProgram()
	if err != nil {
		return nil, err
	}
	program, err := i.readProgram(source, asHook)
	if err != nil {
		return nil, err
	}
	parts := []part{file(host.HookProgram, program, 0o755), linkTo(host.HookLink, host.HookProgram)}
	if i.thin != "" {
		if program, err = i.readProgram(i.thin, asThin); err != nil {
			return nil, err
		}
		parts = append(parts, file(host.ThinProgram, program, 0o755), linkTo(host.ThinLink, host.ThinProgram))
	}
	if i.HasSystemd() {
		parts = append(parts, file(host.UnitFolder+"/"+host.ShutdownUnit, []byte(host.ShutdownUnitText), 0o644))
	}
	return append(parts, file(host.HookFile, []byte(hookproto.Front), 0o755)), nil
}

func file(path string, content []byte, mode fs.FileMode) part {
	return part{path: path, content: content, mode: mode}
}

func (i installer) findProgram() (string, error) {
	if i.source != "" {
		return i.source, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("the hook program cannot be looked for: %w; name it with --hook", err)
	}
	for _, name := range []string{"stopguard-hook", "hook"} {
		if info, err := os.Stat(filepath.Join(filepath.Dir(self), name)); err == nil && info.Mode().IsRegular() {
			return filepath.Join(filepath.Dir(self), name), nil
		}
	}
	return "", fmt.Errorf("there is neither stopguard-hook nor hook in %s; build one with: go build -o stopguard-hook ./cmd/stopguard-hook, and name it with --hook", filepath.Dir(self))
}

// mayReplace returns an error if the part's path has a file that install did not write, or one that
// users other than root could write.
func (i installer) mayReplace(p part, r manifest) error {
	if b, ok := i.BroughtBy(p.path); ok {
		return fmt.Errorf("nothing was installed: %s belongs to the package %s; to have it as the package brought it: %s; to have install put another there, remove the package first", i.Path(p.path), b.Name, b.Again)
	}
	if p.to != "" {
		if to, err := os.Readlink(i.Path(p.path)); err == nil && (to == p.to || to == r.Links[p.path]) {
			// Otherwise users who may change the folder could exchange the link.
			if err := i.OwnersAlone(filepath.Dir(p.path)); err != nil {
				return fmt.Errorf("nothing was installed: %w", err)
			}
			return nil
		}
	}
	content, err := i.Read(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("nothing was installed: %w", err)
	case p.to == "" && bytes.Equal(content, p.content) || r.has(p.path, content):
		return nil
	}
	return fmt.Errorf("nothing was installed: %s was not put there by install, or was changed since; move it away (out of qemu.d, where libvirt would run it by any name) and try again", i.Path(p.path))
}

// folders makes missing folders, and adds them to the manifest.
func (i installer) folders(r *manifest, parts []part) error {
	wanted := []string{hostpath.Policy, filepath.Dir(manifestFile)}
	for _, p := range parts {
		wanted = append(wanted, filepath.Dir(p.path))
	}
	for _, name := range wanted {
		path := ""
		for element := range strings.SplitSeq(name[1:], "/") {
			path += "/" + element
			err := os.Mkdir(i.Path(path), 0o755)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err == nil {
				err = os.Chmod(i.Path(path), 0o755) // regardless of the umask
			}
			if err == nil {
				err = hostfile.SyncFolder(i.Path(filepath.Dir(path)))
			}
			if err != nil {
				return err
			}
			r.Folders = append(r.Folders, path)
			i.did("created", "%s", i.Path(path))
		}
	}
	return nil
}

// place writes a part atomically.
func (i installer) place(p part) error {
	path := i.Path(p.path)
	if p.to != "" {
		return i.placeLink(path, p.to)
	}
	content, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(content, p.content):
		if info, err := os.Lstat(path); err == nil && info.Mode().Perm() == p.mode {
			i.did("unchanged", "%s", path)
			return nil
		}
		return i.setMode(path, p.mode)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := hostfile.ReplaceVia(i.Path(i.via(p)), path, p.content, p.mode); err != nil {
		return err
	}
	i.did("installed", "%s", path)
	return nil
}

// setMode sets a file's mode, and reports it if the mode was another.
func (i installer) setMode(path string, mode fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() == mode {
		return err
	}
	i.did(fmt.Sprintf("mode %04o", mode), "%s (was %04o)", path, info.Mode().Perm())
	return os.Chmod(path, mode)
}

// placeLink replaces the path by a link atomically. Otherwise the hook could miss its program for a
// moment.
func (i installer) placeLink(path, to string) error {
	if target, err := os.Readlink(path); err == nil && target == to {
		i.did("unchanged", "%s", path)
		return nil
	}
	link := filepath.Join(filepath.Dir(path), hostfile.TempPrefix+rand.Text())
	err := os.Symlink(to, link)
	if err == nil {
		if err = os.Rename(link, path); err != nil {
			_ = os.Remove(link)
		}
	}
	if err != nil {
		return err
	}
	i.did("linked", "%s -> %s", path, to)
	return hostfile.SyncFolder(filepath.Dir(path))
}
