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

// mayPlace returns an error if a part could not be written. All parts are checked before the first
// is written. Otherwise an installation could end halfway.
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

// nearestFolder returns the folder, or the nearest existing one above it.
func (i installer) nearestFolder(folder string) string {
	for folder != "/" {
		if info, err := os.Stat(i.Path(folder)); err == nil && info.IsDir() {
			return folder
		}
		folder = filepath.Dir(folder)
	}
	return folder
}

// via returns the folder in which a part is written before it is renamed. It is the part's own
// folder, unless libvirt runs every executable file there. It must be on the same file system.
func (i installer) via(p part) string {
	own := filepath.Dir(p.path)
	if p.path != host.HookFile {
		return own
	}
	parent := filepath.Dir(own)
	if device(i.Path(parent)) != device(i.Path(own)) {
		return own
	}
	return parent
}

// device returns the number of a folder's file system, or 0.
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

// checkPolicy returns an error if this version refuses the host's policy, because it would refuse
// every stop. That is also an error if the previous version refuses the policy, because the two
// cases cannot be distinguished.
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

// enable makes the hook executable, unless libvirt could not start it. If a hook exists that cannot
// be started, a daemon that restarts ends the running guests.
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
	if isNew { // the temporary mode is not reported
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
