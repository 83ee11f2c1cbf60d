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

// A gate installs and removes the gate. Its files have a manifest of their own, so that it can be
// installed and removed without the hook.
type gate struct {
	installer
	restart bool         // the operator agrees that libvirtd is restarted
	answers func() error // whether libvirtd answers at the public socket
	before  socketUnit   // the host's state before
}

// A socketUnit is systemd's state of libvirtd's sockets and its service.
type socketUnit struct {
	user, group, mode string   // of the socket's file
	also              []string // units that stop with the socket, and are active
	running           bool     // libvirtd itself
}

// check is an error if the gate cannot be put on this host. It changes nothing.
func (g *gate) check() error {
	if err := g.MustBeRoot(); err != nil {
		return err
	}
	if g.Systemctl == nil {
		if g.Root != "" {
			return errors.New("--gate and --restart change sockets of the host that runs, and STOPGUARD_ROOT names another; leave one of them out")
		}
		return errors.New("this host was not started by systemd, and so install cannot move libvirtd's socket; docs/gate.md says how to do it by hand")
	}
	if err := asGate.check(g.Host, g.source); err != nil {
		return err
	}
	if err := g.checkModular(); err != nil {
		return err
	}
	var err error
	if g.before, err = g.socketUnit(); err != nil || g.InFront() {
		return err
	}
	return g.checkDaemon()
}

// checkModular refuses a host where clients look for virtqemud first: a gate before libvirtd would
// be walked around.
func (g gate) checkModular() error {
	sign := ""
	for _, unit := range []string{"virtqemud.socket", "virtqemud.service"} {
		if g.IsActive(unit) {
			sign = unit + " is active"
		}
	}
	for _, folder := range []string{"/run/libvirt", "/var/run/libvirt"} {
		if name := folder + "/virtqemud-sock"; sign == "" && g.Exists(name) {
			sign = g.Path(name) + " is there"
		}
	}
	if sign == "" {
		return nil
	}
	return fmt.Errorf("nothing was done: %s, and clients prefer virtqemud to libvirtd, before which alone install knows how to put the gate; use the hook", sign)
}

// checkDaemon refuses a host whose libvirtd does not get its socket from systemd, or where that is
// not the usual one.
func (g gate) checkDaemon() error {
	if !g.IsActive(host.DaemonSocket) {
		return fmt.Errorf("nothing was done: %s is not active, so that libvirtd makes its socket itself, as with --listen; have systemd make it (systemctl stop %s, take --listen out of its arguments, systemctl enable --now %s libvirtd-ro.socket libvirtd-admin.socket) and try again",
			host.DaemonSocket, host.DaemonService, host.DaemonSocket)
	}
	listens, err := g.Listens(host.DaemonSocket)
	if err != nil {
		return err
	}
	if !slices.Equal(listens, []string{host.PublicSocket}) {
		return fmt.Errorf("nothing was done: %s listens on %s, not on %s alone; take away what changes it (systemctl cat %s) and try again",
			host.DaemonSocket, strings.Join(listens, ", "), host.PublicSocket, host.DaemonSocket)
	}
	pid, err := g.daemonByFile("libvirtd")
	if err != nil {
		return err
	}
	if main, err := g.Show(host.DaemonService, "MainPID"); err != nil || pid != 0 && main != fmt.Sprint(pid) {
		return errors.Join(err, fmt.Errorf("nothing was done: libvirtd, process %d, was not started by systemd; end it (guests run on), start %s and try again", pid, host.DaemonService))
	}
	config, err := os.ReadFile(g.Path("/etc/libvirt/libvirtd.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m := host.UnixSockDir.FindSubmatch(config); m != nil && filepath.Clean(string(m[1])) != filepath.Dir(host.PublicSocket) {
		return fmt.Errorf("nothing was done: unix_sock_dir is %q in %s, where clients do not look; take it out and try again", m[1], g.Path("/etc/libvirt/libvirtd.conf"))
	}
	return nil
}

func (i installer) socketUnit() (u socketUnit, err error) {
	for property, to := range map[string]*string{"SocketUser": &u.user, "SocketGroup": &u.group, "SocketMode": &u.mode} {
		if *to, err = i.Show(host.DaemonSocket, property); err != nil {
			return u, err
		}
	}
	bound, err := i.Show(host.DaemonSocket, "BoundBy")
	if err != nil {
		return u, err
	}
	for unit := range strings.FieldsSeq(bound) {
		if i.IsActive(unit) {
			u.also = append(u.also, unit)
		}
	}
	slices.Sort(u.also)
	u.running = i.IsActive(host.DaemonService)
	return u, nil
}

// access returns the drop-in that admits the users who were admitted before.
func (u socketUnit) access() string {
	var b strings.Builder
	b.WriteString("# Who may connect, as it was at libvirtd.socket when stopguard install took its place.\n\n[Socket]\n")
	for _, line := range []struct{ key, value string }{{"SocketUser", u.user}, {"SocketGroup", u.group}, {"SocketMode", u.mode}} {
		if line.value != "" {
			b.WriteString(line.key + "=" + line.value + "\n")
		}
	}
	return b.String()
}

// parts returns the gate's files. The last one moves libvirtd's socket as soon as systemd reloads
// its units, which any process may trigger. Therefore it is written just before the reload.
func (g gate) parts() ([]part, error) {
	program, err := os.ReadFile(g.source)
	if err != nil {
		return nil, err
	}
	access := []byte(g.before.access())
	if g.InFront() { // by now libvirtd.socket has another mode
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
	return append(parts, text(host.GateAccess, string(access)), text(host.GateMove, unit.Move)), nil
}

// isPackaged reports whether a package has brought a part of the gate, which then is not ours to
// install or remove.
func (g gate) isPackaged(path string) bool {
	if path != host.GateProgram {
		return g.Exists(host.PackagedUnits+"/"+filepath.Base(path)) && !g.Exists(path)
	}
	source, err := os.Stat(g.source)
	there, none := os.Stat(g.Path(host.GateProgram))
	return err == nil && none == nil && os.SameFile(source, there)
}

// install puts the gate's files on the host and, if the operator agreed, the gate before libvirtd.
// started reports whether libvirtd has started anew for it.
func (g gate) install() (started bool, err error) {
	parts, err := g.parts()
	if err != nil {
		return false, err
	}
	was, err := g.manifestAt(host.GateManifest)
	if err != nil {
		return false, err
	}
	changed := false
	for _, p := range parts {
		if err := g.mayReplace(p, was); err != nil {
			return false, err
		}
		if err := g.mayPlace(p); err != nil {
			return false, err
		}
		there, err := os.ReadFile(g.Path(p.path))
		changed = changed || err != nil || !bytes.Equal(there, p.content)
	}
	r := was.with(parts)
	if err := g.folders(&r, parts); err != nil {
		return false, err
	}
	if err := g.writeManifestAt(host.GateManifest, r); err != nil {
		return false, err
	}
	inFront := g.InFront()
	for _, p := range parts {
		if p.path == host.GateMove && !inFront {
			continue
		}
		if err := g.place(p); err != nil {
			return false, err
		}
	}
	r.Files = manifest{}.with(parts).Files
	if err := g.writeManifestAt(host.GateManifest, r); err != nil {
		return false, err
	}
	switch {
	case inFront && changed && g.restart:
		err = g.renew()
	case inFront && changed:
		g.say("")
		g.say("The gate that runs is as it was. What is new counts after this, which ends every connection to libvirtd:")
		g.say("  stopguard install --restart --gate %s", terminal.ShellWord(g.source))
	case inFront:
		g.say("The gate is in front of libvirtd already.")
	case g.restart:
		err = g.putInFront(parts[len(parts)-1])
		started = err == nil
	default:
		g.say("")
		g.say("The gate is not in front of libvirtd yet. This puts it there; it restarts libvirtd. Guests run on, and connections")
		g.say("end: a migration that runs just now fails, and a domain with autodestroy goes with its connection:")
		g.say("  stopguard install --restart --gate %s", terminal.ShellWord(g.source))
	}
	return started, err
}

// renew restarts a gate that is in front of libvirtd.
func (g gate) renew() error {
	if err := g.steps([]string{"daemon-reload"}, []string{"restart", host.GateService}); err != nil {
		return fmt.Errorf("the gate does not run as it should: %w; see systemctl status %s, or take it away: stopguard uninstall --gate --restart", err, host.GateService)
	}
	if err := g.answers(); err != nil {
		return fmt.Errorf("the gate was restarted, and libvirtd does not answer through it: %w; see systemctl status %s, or take it away: stopguard uninstall --gate --restart", err, host.GateService)
	}
	g.say("answers    libvirtd, through the gate")
	return nil
}

// steps runs one systemctl command after another, and prints each.
func (g gate) steps(steps ...[]string) error {
	for _, step := range steps {
		g.say("doing      systemctl %s", strings.Join(step, " "))
		if _, err := g.Systemctl(step...); err != nil {
			return fmt.Errorf("systemctl %s: %w", strings.Join(step, " "), err)
		}
	}
	return nil
}

// installWithGate installs the gate, if requested, after the rest. It checks for obstacles before
// that. An existing hook, such as a package's, is not changed unless a program is named for it.
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
	g = gate{installer: installer{Host: i.Host, out: i.out, source: source}, restart: g.restart, answers: g.answers}
	if g.answers == nil {
		g.answers = func() error { return libvirtAnswers(g.Path(host.PublicSocket)) }
	}
	if err := g.check(); err != nil {
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

// uninstallWithGate removes the gate before the rest, or alone.
func (g gate) uninstallWithGate(i installer, only bool, uninstall func() error) error {
	if err := i.MustBeRoot(); err != nil {
		return err
	}
	g = gate{installer: i, restart: g.restart, answers: g.answers}
	if g.answers == nil {
		g.answers = func() error { return libvirtAnswers(g.Path(host.PublicSocket)) }
	}
	if err := g.uninstall(); err != nil || only {
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
