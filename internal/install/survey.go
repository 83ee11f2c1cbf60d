package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// mayPlace returns an error if a part could not be put into its place. All parts are checked before
// the first is written, so that an installation does not end halfway.
func (i installer) mayPlace(p part) error {
	folder := i.nearestFolder(filepath.Dir(p.path))
	if err := unix.Access(i.Path(folder), unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("nothing was installed: %s cannot be written (%w); make it writable", i.Path(folder), err)
	}
	if p.mode&0o111 != 0 && i.IsNoexec(folder) {
		return fmt.Errorf("nothing was installed: %s is on a file system that is mounted with noexec, where %s could not be started; mount it without noexec",
			i.Path(folder), i.Path(p.path))
	}
	return nil
}

// nearestFolder returns the folder itself or, if it is not there yet, the one above it in which it
// will be made.
func (i installer) nearestFolder(folder string) string {
	for folder != "/" {
		if info, err := os.Stat(i.Path(folder)); err == nil && info.IsDir() {
			return folder
		}
		folder = filepath.Dir(folder)
	}
	return folder
}

// via returns the folder in which a part is written before it is moved to its place. This is the
// part's own folder, unless libvirt runs every executable file there. The folder must be on the
// same file system.
func (i installer) via(p part) string {
	own := filepath.Dir(p.path)
	if p.path != host.HookFile {
		return own
	}
	above := filepath.Dir(own)
	if device(i.Path(above)) != device(i.Path(own)) {
		return own
	}
	return above
}

// device returns the file system that a folder is on, or 0.
func device(path string) uint64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}

// checkPolicy returns an error if this version refuses the host's policy: every stop would be
// refused with it. A policy that the previous version refuses as well is also an error, because the
// two cannot be distinguished.
func (i installer) checkPolicy(ctx context.Context) error {
	var refused []error
	for _, err := range hostpolicy.Check(ctx, i.Root).Errors {
		if !errors.Is(err, fs.ErrPermission) || os.Geteuid() == 0 {
			refused = append(refused, err)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return fmt.Errorf("nothing was installed: with this version every stop would be refused, for it cannot load the host's policy: %w", errors.Join(refused...))
}

// enable makes the hook executable, unless libvirt could not start it: a daemon that restarts ends
// the guests that run if a hook is there that cannot be started.
func (i installer) enable(ctx context.Context, hook part, isNew bool) error {
	path := i.Path(hook.path)
	off := func(why string) error {
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
		return fmt.Errorf("the hook is switched off, for libvirt could not start it: %s; correct that and run install again, or put the gate in front of libvirt's daemon: %s",
			why, host.InstallGate)
	}
	enforces, err := i.SELinuxEnforces()
	if err != nil {
		return off(err.Error())
	}
	if enforces {
		if answer, why := i.SELinuxLetsStart(i.Processes().Daemons, hook.path); answer == host.No {
			return off(why)
		}
	}
	if isNew { // a mode that it had only for a moment is not reported
		i.out, i.account = io.Discard, nil
	}
	if err := i.setMode(path, hook.mode); err != nil {
		return err
	}
	if what := i.Probe(ctx, trialTime, path); what != "" {
		return off(fmt.Sprintf("%s, started for an operation that it has nothing to do for, %s", path, what))
	}
	return nil
}
