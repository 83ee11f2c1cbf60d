package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// Command returns the command install.
func Command() *cobra.Command {
	var i installer
	var g gate
	var output string
	cmd := &cobra.Command{
		Use:     "install",
		Short:   "Put the hook, its program and the shutdown unit on this host",
		Example: "  stopguard install\n  stopguard install --restart --gate /usr/sbin/stopguard-gate",
		Long: `Put the hook, its program and the shutdown unit on this host.

The hook program is stopguard-hook, or hook, in the folder of this program,
or what --hook names. With --thin the thin program goes beside it, which asks
the agent; without, one that install put there is removed. libvirt's daemon
notices a hook only when it starts or is reloaded.

With --gate, the gate's program and units are put there too. With --restart it
is put in front of libvirt's daemon, libvirtd or virtqemud, which is restarted:
guests run on, connections end. Its program is what --gate names, or
stopguard-gate in the folder of this program. If that fails, the daemon gets
its socket back. A hook that is installed already is left as it is then, unless
--hook is given.

Where SELinux enforces its policy, the gate was never tried, and is put there
with --selinux-untested only.

It is not for a hook that a package has brought: the package installs that.

A program is looked at first: one that is known to be another, a gate named
for a hook say, or not to be made with stopguard, is not installed.

It may be run again at any time. A file that is there and was not put there
by install, or was changed since, is left as it is, and nothing is done.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return cli.Usage("-o %q is unknown; write text or json", output)
			}
			for name, file := range map[string]string{"gate": g.source, "hook": i.source, "thin": i.thin} {
				if strings.HasPrefix(file, "--") { // the next flag was taken for it
					return cli.Usage("--%s needs a FILE before %s", name, file)
				}
			}
			cmd.SilenceUsage = true
			var err error
			if i.Host, err = host.This(); err != nil {
				return err
			}
			i.out = cmd.OutOrStdout()
			if output == "json" {
				i.out, i.account = io.Discard, &account{Steps: []step{}, Next: []string{}}
			}
			err = g.installWithGate(i, func() error { return i.install(cmd.Context()) })
			if output != "json" {
				return err
			}
			i.account.Done, i.account.Enforcement = err == nil, i.Enforcement(host.OperationStop)
			if err != nil {
				i.account.Error = err.Error()
			}
			if failed := terminal.WriteJSON(cmd.OutOrStdout(), i.account); failed != nil {
				return failed
			}
			return err
		},
	}
	cmd.Flags().StringVar(&g.source, "gate", "", "install `FILE` as the gate's program")
	cmd.Flags().BoolVar(&g.restart, "restart", false, "put the gate in front of libvirt's daemon now, which restarts it")
	cmd.Flags().BoolVar(&g.untestedSELinux, "selinux-untested", false, "put the gate on a host where SELinux enforces, which was never tried")
	cmd.Flags().StringVar(&i.source, "hook", "", "install `FILE` as the hook program")
	cmd.Flags().StringVar(&i.thin, "thin", "", "install `FILE` as the thin hook program")
	cmd.Flags().BoolVar(&i.reload, "reload", false, "have libvirt's daemon notice the hook")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cli.CompleteFlag(cmd, "output", "text", "json")
	return cmd
}

type installer struct {
	host.Host
	out    io.Writer
	source string // the hook program to install; if "", it is searched for
	thin   string // the thin hook program; may be ""
	reload bool

	account *account // collects the steps for JSON; nil for text
}

// An account is the JSON of install.
type account struct {
	Done  bool     `json:"done"`
	Error string   `json:"error,omitempty"`
	Steps []step   `json:"steps"`
	Next  []string `json:"next"` // commands for the operator
	host.Enforcement
}

// A step is a change, or a file that is correct already.
type step struct {
	Action string `json:"action"`
	What   string `json:"what"`
}

// say prints a line for the operator.
func (i installer) say(format string, args ...any) { _, _ = fmt.Fprintf(i.out, format+"\n", args...) }

// did prints a step, such as "installed", and its subject.
func (i installer) did(action, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	i.say("%-9s  %s", action, what)
	if i.account != nil {
		i.account.Steps = append(i.account.Steps, step{action, what})
	}
}

// todo adds a command for the operator to the JSON.
func (i installer) todo(command string) {
	if i.account != nil {
		command, _, _ = strings.Cut(command, "   # ")
		i.account.Next = append(i.account.Next, command)
	}
}

// install writes the hook, its programs and the shutdown unit. It writes nothing if one of the
// files may not be replaced, or if the policy cannot be loaded.
func (i installer) install(ctx context.Context) error {
	if err := i.MustBeRoot(); err != nil {
		return err
	}
	if i.reload && i.Root != "" {
		return errors.New("--reload reaches the daemon of this host, and STOPGUARD_ROOT names another; leave one of them out")
	}
	parts, err := i.parts()
	if err != nil {
		return err
	}
	before, err := i.manifest()
	if err != nil {
		return err
	}
	for _, p := range parts { // all parts, before the first is written
		if err := i.mayReplace(p, before); err != nil {
			return err
		}
		if err := i.mayPlace(p); err != nil {
			return err
		}
	}
	if err := i.checkPolicy(ctx); err != nil {
		return err
	}
	// The manifest lists each file before the file is written. Otherwise a killed installation
	// could not be uninstalled.
	r := before.with(parts)
	if err := i.folders(&r, parts); err != nil {
		return err
	}
	if err := i.writeManifest(r); err != nil {
		return err
	}
	if i.thin == "" { // a thin hook of another version could decide otherwise
		for _, path := range []string{host.ThinLink, host.ThinProgram} {
			if _, err := i.remove(path, before); err != nil {
				return err
			}
		}
	}
	isNew := !i.Exists(host.HookFile)
	if err := i.placeAll(parts); err != nil {
		return err
	}
	now := manifest{}.with(parts)
	r.Files, r.Links = now.Files, now.Links
	if err := i.writeManifest(r); err != nil {
		return err
	}
	return i.enable(ctx, parts[len(parts)-1], isNew)
}

// placeAll writes the parts. A hook file that libvirt does not run yet is written without the
// executable bit.
func (i installer) placeAll(parts []part) error {
	for _, p := range parts {
		former, isRunning := i.RunningHook()
		if p.path == host.HookFile && !isRunning {
			p.mode &^= 0o111 // until enable has checked that libvirt can start it
		}
		if err := i.place(p); err != nil {
			return err
		}
		if p.path == host.HookFile && isRunning {
			if err := i.NoteReplaced(former); err != nil {
				return err
			}
		}
	}
	return nil
}

// next reloads the daemon, or prints the command for that, and prints the remaining steps. If
// started is set, the daemon has noticed the hook.
func (i installer) next(started bool) error {
	var todo []string
	if i.HasSystemd() && len(i.Enabled(host.ShutdownUnit)) == 0 {
		todo = append(todo, "systemctl daemon-reload && systemctl enable --now "+host.ShutdownUnit)
	}
	if i.Exists("/sys/fs/selinux/enforce") {
		todo = append(todo, "restorecon -v "+host.HookFile+" "+host.HookProgram+" "+host.HookLink)
	}
	var failed error
	if i.reload && !started {
		if failed = i.reloadDaemons(); failed != nil {
			failed = fmt.Errorf("everything is installed, but the daemon was not reloaded: %w; reload it yourself", failed)
		}
	} else if !started {
		todo = append(todo, i.reloadHint())
	}
	i.say("")
	i.say("Next:")
	for _, what := range append(todo, "stopguard doctor") {
		i.say("  %s", what)
		i.todo(what)
	}
	i.say("Off at once: chmod -x %s", i.Path(host.HookFile))
	i.sayUnenforced()
	return failed
}

// reloadHint returns the command that makes the daemon notice the hook.
func (i installer) reloadHint() string {
	libvirtd, virtqemud := i.Active(unit.Monolithic) != "", i.Active(unit.Modular) != ""
	switch {
	case libvirtd && !virtqemud:
		return "systemctl reload libvirtd   # before it, hooks are not noticed"
	case virtqemud && !libvirtd:
		return "systemctl reload virtqemud   # before it, hooks are not noticed"
	}
	return "systemctl reload libvirtd   # or virtqemud; before it, hooks are not noticed"
}

// sayUnenforced prints a warning if this host does not have an enforcement point for a stop, even
// after the installation.
func (i installer) sayUnenforced() {
	if text := i.Enforcement(host.OperationStop).Text(host.OperationStop); text != "" {
		i.say("")
		i.say("Beware: %s", text)
	}
}

// reloadDaemons reloads the running daemons through systemd, or by SIGHUP to the process in their
// pid files.
func (i installer) reloadDaemons() error {
	done := false
	for _, name := range host.DaemonNames {
		if i.Systemctl != nil {
			if _, err := i.Systemctl("is-active", "--quiet", name+".service"); err == nil {
				if _, err := i.Systemctl("reload", name+".service"); err != nil {
					return err
				}
				i.did("reloaded", "%s.service", name)
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
		i.did("reloaded", "%s, process %d", name, pid)
		done = true
	}
	if !done {
		i.say("no daemon  runs; one that starts will notice the hook")
	}
	return nil
}

// daemonByFile returns the PID in a daemon's pid file; 0 if the process is not that daemon.
func (i installer) daemonByFile(name string) (int, error) {
	for _, folder := range []string{"/run", "/var/run"} {
		content, err := os.ReadFile(i.Path(folder + "/" + name + ".pid"))
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
		// A stale pid file may have the PID of another process.
		comm, err := os.ReadFile(i.Path(fmt.Sprintf("/proc/%d/comm", pid)))
		if err == nil && strings.TrimSpace(string(comm)) == name {
			return pid, nil
		}
	}
	return 0, nil
}
