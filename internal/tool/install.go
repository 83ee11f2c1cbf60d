package tool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// What install puts where.
const (
	hookFile     = "/etc/libvirt/hooks/qemu.d/50-stopguard"
	hookProgram  = "/usr/sbin/stopguard-hook"    // where AppArmor lets libvirt's daemon run it
	hookLink     = "/usr/libexec/stopguard-hook" // where the front looks for it
	thinProgram  = hookProgram + "-thin"
	thinLink     = hookLink + "-thin"
	shutdownUnit = "stopguard-shutdown.service"
	unitFolder   = "/etc/systemd/system"
)

func newInstall() *cobra.Command {
	var i installer
	var g gate
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the hook, its program and the shutdown unit on this host",
		Long: `Put the hook, its program and the shutdown unit on this host.

The hook program is stopguard-hook, or hook, in the folder of this program,
or what --hook names. With --thin the thin program goes beside it, which asks
the agent; without, one that install put there is removed. libvirt's daemon
notices a hook only when it starts or is reloaded.

With --gate, the gate's program and units are put there too. With --restart it
is put in front of libvirtd, for which libvirtd is restarted: guests run on,
connections end. Its program is what --gate names, or stopguard-gate in the
folder of this program. If that fails, libvirtd gets its socket back. A hook
that is installed already is left as it is then, unless --hook is given.

It is not for a hook that a package has brought: the package installs that.

A program is looked at first: one that is known to be another, a gate named
for a hook say, or not to be made with stopguard, is not installed.

It may be run again at any time. A file that is there and was not put there
by install, or was changed since, is left as it is, and nothing is done.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for name, file := range map[string]string{"gate": g.source, "hook": i.source, "thin": i.thin} {
				if strings.HasPrefix(file, "--") { // the next flag was taken for it
					return usage("--%s needs a FILE before %s", name, file)
				}
			}
			cmd.SilenceUsage = true
			var err error
			if i.host, err = thisHost(); err != nil {
				return err
			}
			i.out = cmd.OutOrStdout()
			return g.after(i, i.install)
		},
	}
	cmd.Flags().StringVar(&g.source, "gate", "", "install `FILE` as the gate's program")
	cmd.Flags().BoolVar(&g.restart, "restart", false, "put the gate in front of libvirtd now, which restarts it")
	cmd.Flags().StringVar(&i.source, "hook", "", "install `FILE` as the hook program")
	cmd.Flags().StringVar(&i.thin, "thin", "", "install `FILE` as the thin hook program")
	cmd.Flags().BoolVar(&i.reload, "reload", false, "have libvirt's daemon notice the hook")
	return cmd
}

// A host is what install, uninstall and doctor act on.
type host struct {
	root string // absolute; "" is the host itself

	// systemctl runs the program of that name. It is nil where that would be about another host than this one, or there is
	// none. Times that it prints are in UTC.
	systemctl func(args ...string) (string, error)

	// packages says which package has brought a file. It is nil where that would be about another host than this one.
	packages func(path string) (brought, bool)
}

// thisHost is the host that STOPGUARD_ROOT names.
func thisHost() (host, error) {
	if root := os.Getenv("STOPGUARD_ROOT"); root != "" {
		root, err := filepath.Abs(root)
		return host{root: strings.TrimSuffix(root, "/")}, err
	}
	return host{systemctl: systemctl(), packages: packages}, nil
}

func systemctl() func(...string) (string, error) {
	program, err := exec.LookPath("systemctl")
	if _, there := os.Stat("/run/systemd/system"); err != nil || there != nil {
		return nil
	}
	return func(args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return strings.TrimSpace(string(out)), err
	}
}

func (h host) path(name string) string { return filepath.Join("/", h.root, name) }

// exists also finds a link that leads nowhere.
func (h host) exists(name string) bool {
	_, err := os.Lstat(h.path(name))
	return err == nil
}

// hasSystemd reports whether the host is, or will be, started by systemd.
func (h host) hasSystemd() bool {
	return h.exists("/run/systemd/system") || h.exists("/usr/lib/systemd/systemd") || h.exists("/lib/systemd/systemd")
}

func (h host) mustBeRoot() error {
	if h.root == "" && os.Geteuid() != 0 {
		return errors.New("only root may change what libvirt runs; run it as root")
	}
	return nil
}

type installer struct {
	host
	out    io.Writer
	source string // the hook program to install; "" to look for it
	thin   string // the thin one; "" for none
	reload bool
}

func (i installer) say(format string, args ...any) { _, _ = fmt.Fprintf(i.out, format+"\n", args...) }

func (i installer) install() error {
	if err := i.mustBeRoot(); err != nil {
		return err
	}
	if i.reload && i.root != "" {
		return errors.New("--reload reaches the daemon of this host, and STOPGUARD_ROOT names another; leave one of them out")
	}
	parts, err := i.parts()
	if err != nil {
		return err
	}
	before, err := i.receipt()
	if err != nil {
		return err
	}
	for _, p := range parts { // all, before anything is done
		if err := i.mayReplace(p, before); err != nil {
			return err
		}
	}
	// The receipt knows of each file before it is there: who kills us now can still uninstall.
	r := before.with(parts)
	if err := i.folders(&r, parts); err != nil {
		return err
	}
	if err := i.keep(r); err != nil {
		return err
	}
	if i.thin == "" { // of another version, it could answer otherwise
		for _, path := range []string{thinLink, thinProgram} {
			if _, err := i.remove(path, before); err != nil {
				return err
			}
		}
	}
	for _, p := range parts {
		if err := i.place(p); err != nil {
			return err
		}
	}
	now := receipt{}.with(parts)
	r.Files, r.Links = now.Files, now.Links
	return i.keep(r)
}

// next has the daemon notice the hook, or says how, and what else is left to do. A daemon that has started since has noticed.
func (i installer) next(started bool) error {
	var todo []string
	if i.hasSystemd() && len(i.enabled(shutdownUnit)) == 0 {
		todo = append(todo, "systemctl daemon-reload && systemctl enable --now "+shutdownUnit)
	}
	if i.exists("/sys/fs/selinux/enforce") {
		todo = append(todo, "restorecon -v "+hookFile+" "+hookProgram+" "+hookLink)
	}
	var failed error
	if i.reload && !started {
		if failed = i.reloadDaemons(); failed != nil {
			failed = fmt.Errorf("everything is installed, but the daemon was not reloaded: %w; reload it yourself", failed)
		}
	} else if !started {
		todo = append(todo, "systemctl reload libvirtd   # or virtqemud; before it, hooks are not noticed")
	}
	i.say("")
	i.say("Next:")
	for _, what := range append(todo, "stopguard doctor") {
		i.say("  %s", what)
	}
	i.say("Off at once: chmod -x %s", i.path(hookFile))
	return failed
}

// enabled gives the links by which systemd starts a unit.
func (h host) enabled(unit string) []string {
	var links []string
	for _, kind := range []string{"wants", "requires"} {
		some, _ := filepath.Glob(h.path(unitFolder) + "/*." + kind + "/" + unit) // an error is about the pattern
		links = append(links, some...)
	}
	return links
}

// reloadDaemons sends SIGHUP to the daemons that run: through systemd, or by their pid files.
func (i installer) reloadDaemons() error {
	done := false
	for _, name := range daemonNames {
		if i.systemctl != nil {
			if _, err := i.systemctl("is-active", "--quiet", name+".service"); err == nil {
				if _, err := i.systemctl("reload", name+".service"); err != nil {
					return err
				}
				i.say("reloaded   %s.service", name)
				done = true
				continue
			}
		}
		pid, err := i.daemonByFile(name)
		if err != nil {
			return err
		}
		if pid == 0 {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			return fmt.Errorf("%s, process %d: %w", name, pid, err)
		}
		i.say("reloaded   %s, process %d", name, pid)
		done = true
	}
	if !done {
		i.say("no daemon  runs; one that starts will notice the hook")
	}
	return nil
}

// daemonByFile gives the process that a daemon's pid file names, if it is that daemon; else 0.
func (i installer) daemonByFile(name string) (int, error) {
	for _, folder := range []string{"/run", "/var/run"} {
		content, err := os.ReadFile(i.path(folder + "/" + name + ".pid"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil || pid <= 1 {
			continue
		}
		// A pid file may be left over, and its number another process's by now.
		comm, err := os.ReadFile(i.path(fmt.Sprintf("/proc/%d/comm", pid)))
		if err == nil && strings.TrimSpace(string(comm)) == name {
			return pid, nil
		}
	}
	return 0, nil
}

// shutdownUnitText is examples/hook/stopguard-shutdown.service, which cannot be embedded from here.
const shutdownUnitText = `# Tells stopguard that the host shuts down, so that no veto holds the shutdown up until the power is cut.
#
# Started after libvirt-guests, it is stopped before it: the flag is set by the time that guests are stopped.

[Unit]
Description=Flag for stopguard that the host shuts down
Documentation=https://github.com/stopguard/stopguard
After=libvirt-guests.service

[Service]
Type=oneshot
RemainAfterExit=yes
RuntimeDirectory=stopguard
RuntimeDirectoryPreserve=yes
ExecStart=/bin/rm -f /run/stopguard/shutting-down
# Restarting this unit is no shutdown.
ExecStop=/bin/sh -c 'test "$(systemctl is-system-running)" != stopping || : > /run/stopguard/shutting-down'

[Install]
WantedBy=multi-user.target
`
