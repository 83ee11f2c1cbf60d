package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/terminal"
)

// A gate installs and removes the gate. Its files have their own manifest, so that it can be
// installed and removed without the hook.
type gate struct {
	installer
	restart         bool         // the operator agrees that libvirt's daemon is restarted
	untestedSELinux bool         // the operator agrees to try the gate where SELinux enforces
	answers         func() error // returns an error unless the daemon answers at the public socket
	layout          unit.Layout  // of the host's daemons
	before          socketUnit   // the state before the installation
}

// A socketUnit is systemd's state of the daemon's sockets and its service.
type socketUnit struct {
	layout            unit.Layout
	user, group, mode string   // of the socket's file
	also              []string // units that stop with the socket, and are active
	running           bool     // the daemon itself
}

// at returns the gate for a layout.
func (g gate) at(l unit.Layout) gate {
	g.layout = l
	if g.answers == nil {
		g.answers = func() error { return libvirtAnswers(g.Path(l.Public)) }
	}
	return g
}

// check returns the gate for this host's layout, or an error if it cannot be installed. It does not
// change anything.
func (g gate) check() (gate, error) {
	if err := g.MustBeRoot(); err != nil {
		return g, err
	}
	if g.Systemctl == nil {
		if g.Root != "" {
			return g, errors.New("--gate and --restart change sockets of the host that runs, and STOPGUARD_ROOT names another; leave one of them out")
		}
		return g, errors.New("this host was not started by systemd, and so install cannot move the socket of libvirt's daemon; docs/gate.md says how to do it by hand")
	}
	if err := g.SystemdAnswers(); err != nil {
		return g, fmt.Errorf("nothing was done: %w", err)
	}
	if err := asGate.check(g.Host, g.source); err != nil {
		return g, err
	}
	layout, err := g.findLayout()
	if err != nil {
		return g, err
	}
	g = g.at(layout)
	if g.before, err = g.socketUnit(); err != nil || g.InFront() {
		return g, err
	}
	if err := g.checkSELinux(); err != nil {
		return g, err
	}
	return g, g.checkDaemon()
}

// findLayout returns the layout into which the gate is to be put. It returns an error for a host on
// which clients would bypass the gate.
func (g gate) findLayout() (unit.Layout, error) {
	libvirtd, virtqemud := g.Active(unit.Monolithic), g.Active(unit.Modular)
	guarded, inFront := g.Guarded()
	switch preferred := unit.Modular.Public; {
	case inFront && g.HasMoved(guarded):
		return guarded, fmt.Errorf("nothing was done: the gate stands before %s, and this host uses %s now; stopguard uninstall --gate --restart, and install it again",
			guarded.Daemon, guarded.Other().Daemon)
	case libvirtd != "" && virtqemud != "":
		return guarded, fmt.Errorf("nothing was done: %s and %s are both active, and clients prefer virtqemud; stop and disable the one that is not used (systemctl disable --now %s %s) and try again",
			libvirtd, virtqemud, unit.Monolithic.Service(), unit.Monolithic.Socket())
	case libvirtd != "" && g.Exists(preferred):
		return guarded, fmt.Errorf("nothing was done: %s is there, and clients prefer it to that of libvirtd, which is active; if virtqemud is not used here, remove the file and try again", g.Path(preferred))
	case inFront:
		return guarded, nil
	case virtqemud != "", libvirtd == "" && (g.Exists(preferred) || g.hasUnit(unit.Modular) && !g.hasUnit(unit.Monolithic)):
		return unit.Modular, nil
	}
	return unit.Monolithic, nil
}

// hasUnit reports whether the socket unit of a layout's daemon is installed.
func (g gate) hasUnit(l unit.Layout) bool { return g.Exists(host.PackagedUnits + "/" + l.Socket()) }

// checkSELinux returns an error for a host on which SELinux may deny clients the gate's socket.
func (g gate) checkSELinux() error {
	enforces, err := g.SELinuxEnforces()
	if err != nil || !enforces || g.untestedSELinux {
		return err
	}
	return errors.New("nothing was done: SELinux enforces its policy here, and the gate was never tried with it: virtproxyd and cockpit may be denied the gate's socket; to try it on a host that does not matter, add --selinux-untested, and look for denials with ausearch -m avc -ts recent")
}

// checkDaemon returns an error for a host whose daemon does not get its socket from systemd, or has
// an unusual socket.
func (g gate) checkDaemon() error {
	l := g.layout
	if !g.IsActive(l.Socket()) {
		prefix := ""
		if g.Exists(l.Public) {
			prefix = g.Path(l.Public) + " is there and "
		}
		return fmt.Errorf("nothing was done: %s%s is not active, so that %s makes its socket itself; have systemd make it (%s) and try again", prefix, l.Socket(), l.Daemon, l.Fix)
	}
	listens, err := g.Listens(l.Socket())
	if err != nil {
		return err
	}
	if !slices.Equal(listens, []string{l.Public}) {
		return fmt.Errorf("nothing was done: %s listens on %s, not on %s alone; take away what changes it (systemctl cat %s) and try again",
			l.Socket(), strings.Join(listens, ", "), l.Public, l.Socket())
	}
	pid, err := g.daemonByFile(l.Daemon)
	if err != nil {
		return err
	}
	if main, err := g.Show(l.Service(), "MainPID"); err != nil || pid != 0 && main != fmt.Sprint(pid) {
		return errors.Join(err, fmt.Errorf("nothing was done: %s, process %d, was not started by systemd; end it (guests run on), start %s and try again", l.Daemon, pid, l.Service()))
	}
	config, err := os.ReadFile(g.Path(l.Config()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m := host.UnixSockDir.FindSubmatch(config); m != nil && filepath.Clean(string(m[1])) != filepath.Dir(l.Public) {
		return fmt.Errorf("nothing was done: unix_sock_dir is %q in %s, where clients do not look; take it out and try again", m[1], g.Path(l.Config()))
	}
	return nil
}

func (g gate) socketUnit() (u socketUnit, err error) {
	u.layout = g.layout
	for property, to := range map[string]*string{"SocketUser": &u.user, "SocketGroup": &u.group, "SocketMode": &u.mode} {
		if *to, err = g.Show(g.layout.Socket(), property); err != nil {
			return u, err
		}
	}
	bound, err := g.Show(g.layout.Socket(), "BoundBy")
	if err != nil {
		return u, err
	}
	for name := range strings.FieldsSeq(bound) {
		if g.IsActive(name) {
			u.also = append(u.also, name)
		}
	}
	slices.Sort(u.also)
	u.running = g.IsActive(g.layout.Service())
	return u, nil
}

// access returns the drop-in that makes the gate listen at the daemon's socket, and admits the same
// users.
func (u socketUnit) access() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Who may connect, as it was at %s when stopguard install took its place.\n\n[Socket]\n", u.layout.Socket())
	if listen := "ListenStream=" + u.layout.Public + "\n"; !strings.Contains(unit.Socket, listen) {
		b.WriteString("ListenStream=\n" + listen)
	}
	for _, line := range []struct{ key, value string }{{"SocketUser", u.user}, {"SocketGroup", u.group}, {"SocketMode", u.mode}} {
		if line.value != "" {
			b.WriteString(line.key + "=" + line.value + "\n")
		}
	}
	return b.String()
}

// moves returns the drop-ins that take effect at systemd's next reload, which any process may
// trigger. So they are written just before the reload.
func (g gate) moves() []part {
	var parts []part
	for _, f := range g.layout.Moves {
		parts = append(parts, file(f.Path, []byte(f.Content), 0o644))
	}
	return parts
}

// parts returns the gate's other files.
func (g gate) parts() ([]part, error) {
	program, err := os.ReadFile(g.source)
	if err != nil {
		return nil, err
	}
	access := []byte(g.before.access())
	if g.InFront() { // the daemon's socket has another mode now
		if access, err = hostfile.Root(g.Root).Read(host.GateAccess, 1<<20); err != nil {
			return nil, err
		}
	}
	text := func(path, content string) part { return file(path, []byte(content), 0o644) }
	parts := []part{
		file(host.GateProgram, program, 0o755),
		text(host.UnitFolder+"/"+host.GateSocket, unit.Socket),
		text(host.UnitFolder+"/"+host.GateService, unit.Service),
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return g.isPackaged(p.path) })
	return append(parts, text(host.GateAccess, string(access)), text(g.layout.Gate.Path, g.layout.Gate.Content)), nil
}

// isPackaged reports whether a package has a part of the gate, which install then neither writes
// nor removes.
func (g gate) isPackaged(path string) bool {
	if path != host.GateProgram {
		return g.Exists(host.PackagedUnits+"/"+filepath.Base(path)) && !g.Exists(path)
	}
	source, err := os.Stat(g.source)
	installed, missing := os.Stat(g.Path(host.GateProgram))
	return err == nil && missing == nil && os.SameFile(source, installed)
}

// install writes the gate's files and, if the operator agreed, puts the gate before the daemon.
// started reports whether the daemon was restarted.
func (g gate) install() (started bool, err error) {
	parts, err := g.parts()
	if err != nil {
		return false, err
	}
	former, err := g.manifestAt(host.GateManifest)
	if err != nil {
		return false, err
	}
	all, changed := append(parts, g.moves()...), false
	for _, p := range all {
		if err := g.mayReplace(p, former); err != nil {
			return false, err
		}
		if err := g.mayPlace(p); err != nil {
			return false, err
		}
		content, err := os.ReadFile(g.Path(p.path))
		changed = changed || err != nil || !bytes.Equal(content, p.content)
	}
	r := former.with(all)
	if err := g.folders(&r, all); err != nil {
		return false, err
	}
	if err := g.writeManifestAt(host.GateManifest, r); err != nil {
		return false, err
	}
	inFront := g.InFront()
	if inFront {
		parts = all
	}
	for _, p := range parts {
		if err := g.place(p); err != nil {
			return false, err
		}
	}
	r.Files = manifest{}.with(all).Files
	if err := g.writeManifestAt(host.GateManifest, r); err != nil {
		return false, err
	}
	daemon := g.layout.Daemon
	switch {
	case inFront && changed && g.restart:
		err = g.renew()
	case inFront && changed:
		g.say("")
		g.say("The gate that runs is as it was. What is new counts after this, which ends every connection to %s:", daemon)
		g.sayRestart()
	case inFront:
		g.say("The gate is in front of %s already.", daemon)
	case g.restart:
		err = g.putInFront()
		started = err == nil
	default:
		g.say("")
		g.say("The gate is not in front of %s yet. This puts it there; it restarts %[1]s. Guests run on, and connections", daemon)
		g.say("end: a migration that runs just now fails, and a domain with autodestroy goes with its connection:")
		if g.layout.Proxy != "" {
			g.say("(%s is restarted too: connections over TCP, TLS and libvirtd's socket end as well.)", g.layout.Proxy)
		}
		g.sayRestart()
	}
	return started, err
}

// sayRestart prints the command that puts the gate in front.
func (g gate) sayRestart() {
	command := "stopguard install --restart --gate " + terminal.ShellWord(g.source)
	g.say("  %s", command)
	g.todo(command)
}

// renew restarts a gate that is in front of its daemon.
func (g gate) renew() error {
	daemon := g.layout.Daemon
	err := g.steps([]string{"daemon-reload"}, []string{"restart", host.GateService})
	if err == nil {
		err = g.hide()
	}
	if err != nil {
		return fmt.Errorf("the gate does not run as it should: %w; see systemctl status %s, or take it away: stopguard uninstall --gate --restart", err, host.GateService)
	}
	if err := g.answers(); err != nil {
		return fmt.Errorf("the gate was restarted, and %s does not answer through it: %w; see systemctl status %s, or take it away: stopguard uninstall --gate --restart", daemon, err, host.GateService)
	}
	g.did("answers", "%s, through the gate", daemon)
	return nil
}

// steps runs one systemctl command after another, and prints each.
func (g gate) steps(steps ...[]string) error {
	for _, step := range steps {
		g.did("doing", "systemctl %s", strings.Join(step, " "))
		if _, err := g.Systemctl(step...); err != nil {
			return err
		}
	}
	return nil
}

// installWithGate installs the hook by install and then the gate, if requested. It checks for
// obstacles first. If a hook exists, such as a package's, it is changed only if a program is named
// for it.
func (g gate) installWithGate(i installer, install func() error) error {
	if g.source == "" && !g.restart {
		if err := install(); err != nil {
			return err
		}
		return i.next(false)
	}
	source, err := g.findProgram()
	if err != nil {
		return err
	}
	g.installer = installer{Host: i.Host, out: i.out, account: i.account, source: source}
	if g, err = g.check(); err != nil {
		return err
	}
	_, packaged := i.BroughtBy(host.HookProgram)
	hook := i.source != "" || !i.Exists(host.HookFile) && !packaged
	if hook {
		if _, err := i.findProgram(); err != nil {
			return fmt.Errorf("nothing was installed: this host has no hook yet, and one goes with the gate, to record what ends past it: %w", err)
		}
		if err := install(); err != nil {
			return err
		}
		g.say("")
	}
	started, err := g.install()
	if hook {
		return errors.Join(err, i.next(started))
	}
	if err == nil {
		g.sayUnenforced()
	}
	return err
}

// uninstallWithGate removes the gate, and then the rest unless only is set.
func (g gate) uninstallWithGate(i installer, only bool, uninstall func() error) error {
	if err := i.MustBeRoot(); err != nil {
		return err
	}
	g.installer = i
	layout, _ := g.Guarded()
	if err := g.at(layout).uninstall(); err != nil || only {
		return err
	}
	return uninstall()
}

func (g gate) findProgram() (string, error) {
	if g.source != "" {
		return g.source, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("the gate's program cannot be looked for: %w; name it with --gate", err)
	}
	beside := filepath.Join(filepath.Dir(self), "stopguard-gate")
	if info, err := os.Stat(beside); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("there is no stopguard-gate in %s; build one with: go build -o stopguard-gate ./cmd/stopguard-gate, and name it with --gate", filepath.Dir(self))
	}
	return beside, nil
}
