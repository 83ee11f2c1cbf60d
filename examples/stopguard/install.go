package main

import (
	"bytes"
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

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostfile"
)

// What install puts where.
const (
	hookFile     = "/etc/libvirt/hooks/qemu.d/50-stopguard"
	hookProgram  = "/usr/libexec/stopguard-hook"
	thinProgram  = hookProgram + "-thin" // where the front looks for it
	shutdownUnit = "stopguard-shutdown.service"
	unitFolder   = "/etc/systemd/system"
	ruleFolder   = "/etc/stopguard/policy"
)

// maxProgram is more than any hook program; it is held in memory.
const maxProgram = 512 << 20

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

It may be run again at any time. A file that is there and was not put there
by install, or was changed since, is left as it is, and nothing is done.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
}

// thisHost is the host that STOPGUARD_ROOT names.
func thisHost() (host, error) {
	if root := os.Getenv("STOPGUARD_ROOT"); root != "" {
		root, err := filepath.Abs(root)
		return host{root: strings.TrimSuffix(root, "/")}, err
	}
	return host{systemctl: systemctl()}, nil
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

// A part is one file that install puts somewhere.
type part struct {
	path    string
	content []byte
	mode    fs.FileMode
	via     string // the folder in which it is written before it is moved to its place
}

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
		if _, err := i.remove(thinProgram, before); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if err := i.place(p); err != nil {
			return err
		}
	}
	r.Files = receipt{}.with(parts).Files
	if err := i.keep(r); err != nil {
		return err
	}
	return i.next()
}

// parts gives what is to be installed: the hook last, so that it never runs without its program.
func (i installer) parts() ([]part, error) {
	source, err := i.findProgram()
	if err != nil {
		return nil, err
	}
	program, err := readProgram(source, "--hook")
	if err != nil {
		return nil, err
	}
	parts := []part{{hookProgram, program, 0o755, filepath.Dir(hookProgram)}}
	if i.thin != "" {
		if program, err = readProgram(i.thin, "--thin"); err != nil {
			return nil, err
		}
		parts = append(parts, part{thinProgram, program, 0o755, filepath.Dir(thinProgram)})
	}
	if i.hasSystemd() {
		parts = append(parts, part{unitFolder + "/" + shutdownUnit, []byte(shutdownUnitText), 0o644, unitFolder})
	}
	// In qemu.d libvirt runs whatever is executable, by any name. In the folder above, it runs names of its own only.
	return append(parts, part{hookFile, []byte(hookproto.Front), 0o755, filepath.Dir(filepath.Dir(hookFile))}), nil
}

func readProgram(file, flag string) ([]byte, error) {
	if what := programFault(file); what != "" {
		return nil, fmt.Errorf("%s %s; build it for this host, and name it with %s", file, what, flag)
	}
	return os.ReadFile(file)
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
	return "", fmt.Errorf("there is neither stopguard-hook nor hook in %s; build one with: go build -o stopguard-hook ./examples/hook, and name it with --hook", filepath.Dir(self))
}

// mayReplace is an error if somebody else's file is in the part's place, or somebody else could put one there.
func (i installer) mayReplace(p part, r receipt) error {
	there, err := hostfile.Root(i.root).Read(p.path, maxProgram)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("nothing was installed: %w", err)
	case bytes.Equal(there, p.content) || r.has(p.path, there):
		return nil
	}
	return fmt.Errorf("nothing was installed: %s was not put there by install, or was changed since; move it away (out of qemu.d, where libvirt would run it by any name) and try again", i.path(p.path))
}

// folders makes the folders that are missing.
func (i installer) folders(r *receipt, parts []part) error {
	wanted := []string{ruleFolder, filepath.Dir(receiptFile)}
	for _, p := range parts {
		wanted = append(wanted, filepath.Dir(p.path))
	}
	for _, name := range wanted {
		path := ""
		for element := range strings.SplitSeq(name[1:], "/") {
			path += "/" + element
			err := os.Mkdir(i.path(path), 0o755)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err == nil {
				err = os.Chmod(i.path(path), 0o755) // whatever the umask is
			}
			if err == nil {
				err = syncFolder(i.path(filepath.Dir(path)))
			}
			if err != nil {
				return err
			}
			r.Folders = append(r.Folders, path)
			i.say("created    %s", i.path(path))
		}
	}
	return nil
}

// place puts a part where it belongs, whole or not at all.
func (i installer) place(p part) error {
	path := i.path(p.path)
	info, err := os.Lstat(path)
	if err == nil {
		there, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Equal(there, p.content) {
			if info.Mode().Perm() == p.mode {
				i.say("unchanged  %s", path)
				return nil
			}
			i.say("mode %04o  %s (was %04o)", p.mode, path, info.Mode().Perm())
			return os.Chmod(path, p.mode)
		}
	}
	if err := writeWhole(i.path(p.via), path, p.content, p.mode); err != nil {
		return err
	}
	i.say("installed  %s", path)
	return nil
}

// writeWhole replaces a file by one that was written in the folder via, and lasts.
func writeWhole(via, path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(via, ".stopguard-new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// next has the daemon notice the hook, or says how, and what else is left to do.
func (i installer) next() error {
	var todo []string
	if i.hasSystemd() && len(i.enabled(shutdownUnit)) == 0 {
		todo = append(todo, "systemctl daemon-reload && systemctl enable --now "+shutdownUnit)
	}
	if i.exists("/sys/fs/selinux/enforce") {
		todo = append(todo, "restorecon -v "+hookFile+" "+hookProgram)
	}
	var failed error
	if i.reload {
		if failed = i.reloadDaemons(); failed != nil {
			failed = fmt.Errorf("everything is installed, but the daemon was not reloaded: %w; reload it yourself", failed)
		}
	} else {
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
