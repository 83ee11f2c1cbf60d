// Package killswitch has the commands that switch hook and gate off and on.
package killswitch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
)

// A point is an enforcement point of the host and the state of its switch.
type point struct {
	name string
	on   bool
}

// points returns the installed enforcement points.
func points(h host.Host) []point {
	var all []point
	if info, err := os.Stat(h.Path(host.HookFile)); err == nil {
		all = append(all, point{host.PointHook, info.Mode()&0o111 != 0})
	}
	if h.HasGate() {
		all = append(all, point{host.PointGate, !h.Exists(host.GateOff)})
	}
	return all
}

// Off returns the command off.
func Off() *cobra.Command {
	return &cobra.Command{
		Use:   "off",
		Short: "Switch hook and gate off at once: nothing is refused",
		Long: `Switch hook and gate off at once: from now on nothing is refused. No reload is
needed, no connection ends, and what is protected stays so for stopguard on.

It is the same as chmod a-x of the hook file, and as a file
/etc/stopguard/gate-off. To let one domain go, grant a ticket instead.`,
		Example: "  stopguard off && virsh destroy pg-01; stopguard on",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return flip(c, false) },
	}
}

// On returns the command on.
func On() *cobra.Command {
	return &cobra.Command{
		Use:   "on",
		Short: "Switch hook and gate on again",
		Long: `Switch hook and gate on again, after stopguard off or after the same by hand.
A hook that SELinux does not let libvirt start stays off: libvirt would take
its failure for a refusal of everything.`,
		Example: "  stopguard on && stopguard status",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return flip(c, true) },
	}
}

// flip switches all points on or off.
func flip(c *cobra.Command, on bool) error {
	h, err := host.This()
	if err != nil {
		return err
	}
	if err := h.MustBeRoot(); err != nil {
		return err
	}
	all := points(h)
	if len(all) == 0 {
		return errors.New("neither hook nor gate is installed on this host; run stopguard install")
	}
	word := map[bool]string{true: "on", false: "off"}[on]
	var failed error
	for _, p := range all {
		what := "is " + word + " already"
		if p.on != on {
			what = "is " + word
			if err := change(h, p.name, on); err != nil {
				failed = errors.Join(failed, fmt.Errorf("the %s is not switched %s: %w", p.name, word, err))
				continue
			}
		}
		fmt.Fprintf(c.OutOrStdout(), "the %s %s\n", p.name, what)
	}
	if failed == nil && !on {
		fmt.Fprintln(c.OutOrStdout(), "Nothing is refused until: stopguard on")
	}
	return failed
}

// change operates the switch of an enforcement point.
func change(h host.Host, name string, on bool) error {
	if name == host.PointGate {
		file := h.Path(host.GateOff)
		if on {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return hostfile.Replace(file, nil, 0o644)
	}
	mode := fs.FileMode(0o644)
	if on {
		if enforces, err := h.SELinuxEnforces(); err != nil {
			return fmt.Errorf("%w; look at SELinux, and then chmod 0755 %s", err, h.Path(host.HookFile))
		} else if enforces {
			if answer, why := h.SELinuxLetsStart(h.Processes().Daemons, host.HookFile); answer != host.Yes {
				return fmt.Errorf("%s; see stopguard doctor", why)
			}
		}
		mode = 0o755
	}
	return os.Chmod(h.Path(host.HookFile), mode)
}
