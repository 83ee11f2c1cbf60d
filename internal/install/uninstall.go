package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
)

// Uninstall returns the command uninstall.
func Uninstall() *cobra.Command {
	var g gate
	var only bool
	cmd := &cobra.Command{
		Use:     "uninstall",
		Short:   "Remove what install put on this host",
		Example: "  stopguard uninstall",
		Long: `Remove what install put on this host.

A gate that is in front of libvirt's daemon is taken away with --restart only,
for the daemon is restarted then: guests run on, connections end. If that
fails, the gate stays.

A file that was changed since is left, and so are rules, the protected list,
tickets and records.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			h, err := host.This()
			if err != nil {
				return err
			}
			i := installer{Host: h, out: cmd.OutOrStdout()}
			return g.uninstallWithGate(i, only, i.uninstall)
		},
	}
	cmd.Flags().BoolVar(&only, "gate", false, "remove the gate only")
	cmd.Flags().BoolVar(&g.restart, "restart", false, "take the gate away from libvirt's daemon now, which restarts it")
	return cmd
}

func (i installer) uninstall() error {
	if err := i.MustBeRoot(); err != nil {
		return err
	}
	r, err := i.manifest()
	if err != nil {
		return err
	}
	if len(r.Files) == 0 {
		i.say("Nothing on this host was put there by install.")
		return nil
	}
	if b, ok := i.BroughtBy(host.HookProgram); ok {
		return fmt.Errorf("nothing was removed: %s belongs to the package %s by now, and so does the hook; remove the package first", i.Path(host.HookProgram), b.Name)
	}
	unit := host.UnitFolder + "/" + host.ShutdownUnit
	removed := map[string]bool{}
	// Without its program, the hook would be a fault at every stop.
	if removed[host.HookFile], err = i.remove(host.HookFile, r); err != nil {
		return err
	}
	if i.Exists(host.HookFile) {
		return fmt.Errorf("nothing was removed, since %s stays and needs the rest; remove it yourself and try again", i.Path(host.HookFile))
	}
	for _, path := range []string{host.ThinLink, host.ThinProgram, host.HookLink, host.HookProgram, unit} {
		if removed[path], err = i.remove(path, r); err != nil {
			return err
		}
	}
	if removed[unit] {
		if err := i.disable(unit); err != nil {
			return err
		}
	}
	if err := os.Remove(i.Path(host.HookSince)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(i.Path(manifestFile)); err != nil {
		return err
	}
	for _, folder := range slices.Backward(r.Folders) {
		if os.Remove(i.Path(folder)) == nil { // it fails for a folder that is not empty
			i.did("removed", "%s", i.Path(folder))
		}
	}
	i.say("")
	i.say("Rules, the protected list, tickets and records are left.")
	if removed[unit] {
		i.say("Next: systemctl daemon-reload")
	}
	return nil
}

// remove removes a file if install wrote it and it is unchanged.
func (i installer) remove(path string, r manifest) (bool, error) {
	if !r.knows(path) {
		return false, nil
	}
	if to, err := os.Readlink(i.Path(path)); err == nil && to == r.Links[path] {
		return true, i.removeNow(path)
	}
	content, err := i.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		i.did("gone", "%s already", i.Path(path))
		return false, nil
	case err != nil:
		i.did("left", "%v", err)
		return false, nil
	case !r.has(path, content):
		i.did("left", "%s, which was changed since it was installed", i.Path(path))
		return false, nil
	}
	return true, i.removeNow(path)
}

func (i installer) removeNow(path string) error {
	if err := os.Remove(i.Path(path)); err != nil {
		return err
	}
	i.did("removed", "%s", i.Path(path))
	return hostfile.SyncFolder(filepath.Dir(i.Path(path)))
}

// disable removes the links to a unit that is gone, as systemctl disable does.
func (i installer) disable(unit string) error {
	for _, link := range i.Enabled(filepath.Base(unit)) {
		if to, err := os.Readlink(link); err != nil || filepath.Base(to) != filepath.Base(unit) {
			continue
		}
		if err := os.Remove(link); err != nil {
			return err
		}
		i.did("removed", "%s", link)
	}
	return nil
}
