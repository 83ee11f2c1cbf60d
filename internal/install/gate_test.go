package install

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/host/hosttest"
)

// A fakeSystemd returns a real systemd's answers about the units of libvirt's daemons, and does
// nothing. The end-to-end tests use a real one; these tests cover the tool's use of the answers.
type fakeSystemd struct {
	p     *site
	shows map[string]string // by "UNIT PROPERTY"
	fails string            // a command that fails
	did   []string
}

func (s *fakeSystemd) run(args ...string) (string, error) {
	if args[0] == "show" {
		name, property := args[len(args)-1], strings.TrimPrefix(args[1], "--property=")
		if value, ok := s.shows[name+" "+property]; ok {
			return value, nil
		}
		if property == "Listen" {
			return s.listens(name) + " (Stream)", nil
		}
		return "", nil
	}
	did := strings.Join(args, " ")
	s.did = append(s.did, did)
	if s.fails != "" && strings.HasPrefix(did, s.fails) {
		s.fails = ""
		return "", fmt.Errorf("systemctl %s: it failed", did)
	}
	return "", nil
}

// listens returns the path of a socket unit, as its file and drop-ins have it.
func (s *fakeSystemd) listens(name string) string {
	for _, l := range unit.Layouts {
		switch {
		case name == l.Socket() && s.p.Exists(l.Move().Path):
			return l.Upstream
		case name == l.Socket():
			return l.Public
		case name == host.GateSocket && s.p.Exists(host.GateAccess) && strings.Contains(s.p.Content(host.GateAccess), "ListenStream="+l.Public):
			return l.Public
		}
	}
	return unit.Monolithic.Public
}

func withSystemd(t *testing.T) (*site, *fakeSystemd) {
	t.Helper()
	return withDaemon(t, unit.Monolithic)
}

// withDaemon has a layout's daemon run, with its sockets.
func withDaemon(t *testing.T, l unit.Layout) (*site, *fakeSystemd) {
	t.Helper()
	p := newSite(t)
	ro, admin := l.Daemon+"-ro.socket", l.Daemon+"-admin.socket"
	s := &fakeSystemd{p: p, shows: map[string]string{
		l.Socket() + " ActiveState": "active", ro + " ActiveState": "active", admin + " ActiveState": "inactive",
		l.Service() + " ActiveState": "active", l.Service() + " MainPID": "0",
		l.Socket() + " BoundBy": ro + " " + admin, l.Socket() + " SocketMode": "0660", l.Socket() + " SocketGroup": "libvirt",
	}}
	p.Systemctl = s.run
	p.Folder(unit.UpstreamFolder, "/usr/sbin")
	p.Chmod(unit.UpstreamFolder, 0o700)
	p.Program("/home/stopguard-gate")
	return p, s
}

func (p *site) gate(restart bool) (string, error) {
	var out strings.Builder
	i := installer{Host: p.Host, out: &out, source: p.Path("/home/stopguard-hook")}
	g := gate{installer: installer{source: p.Path("/home/stopguard-gate")}, restart: restart, answers: func() error { return nil }}
	err := g.installWithGate(i, func() error { return nil })
	return out.String(), err
}

func (p *site) gateAway(restart bool) (string, error) {
	var out strings.Builder
	g := gate{restart: restart, answers: func() error { return nil }}
	err := g.uninstallWithGate(installer{Host: p.Host, out: &out}, true, func() error { return errors.New("the rest was removed too") })
	return out.String(), err
}

// A file that moved libvirtd's socket would count at the next daemon-reload, which any package may
// cause.
func TestWithoutAYesNothingIsWrittenThatCouldCountLater(t *testing.T) {
	p, s := withSystemd(t)
	out, err := p.gate(false)
	p.Must(err)
	if p.Exists(unit.Monolithic.Move().Path) || len(s.did) > 0 {
		t.Error(s.did, out)
	}
	wantSaid(t, out, "installed  "+p.Path(host.GateProgram), "--restart", "Guests run on")
}

func TestTheGateLetsInWhoWasLetIn(t *testing.T) {
	p, s := withSystemd(t)
	_, err := p.gate(true)
	p.Must(err)
	want := "[Socket]\nSocketGroup=libvirt\nSocketMode=0660\n"
	if !strings.HasSuffix(p.Content(host.GateAccess), want) {
		t.Error(p.Content(host.GateAccess))
	}
	s.shows["libvirtd.socket SocketMode"] = "0600" // that is ours by now
	_, err = p.gate(true)
	p.Must(err)
	if !strings.HasSuffix(p.Content(host.GateAccess), want) {
		t.Error("after another installation: ", p.Content(host.GateAccess))
	}
}

func TestALibvirtdThatDoesNotRunIsNotStarted(t *testing.T) {
	p, s := withSystemd(t)
	s.shows["libvirtd.service ActiveState"] = "inactive"
	_, err := p.gate(true)
	p.Must(err)
	if slices.ContainsFunc(s.did, func(did string) bool { return strings.Contains(did, unit.Monolithic.Service()) }) {
		t.Error(s.did)
	}
}

func TestAHostOnWhichTheGateWouldHalfWorkIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		plant     func(p *site, s *fakeSystemd)
		want      string
	}{
		{"virtqemud's socket", "clients try it first", func(p *site, _ *fakeSystemd) { p.Put(unit.Modular.Public, "", 0o600) }, "virtqemud-sock is there, and clients prefer it"},
		{"both daemons", "", func(_ *site, s *fakeSystemd) { s.shows["virtqemud.socket ActiveState"] = "active" },
			"nothing was done: libvirtd.socket and virtqemud.socket are both active, and clients prefer virtqemud; stop and disable the one that is not used (systemctl disable --now libvirtd.service libvirtd.socket) and try again"},
		{"virtqemud without a socket of systemd's", "it is the daemon that is used", func(p *site, s *fakeSystemd) {
			p.Put(unit.Modular.Public, "", 0o600)
			delete(s.shows, "libvirtd.socket ActiveState")
			delete(s.shows, "libvirtd.service ActiveState")
		}, "virtqemud-sock is there and virtqemud.socket is not active, so that virtqemud makes its socket itself; have systemd make it (systemctl enable --now virtqemud.socket virtqemud-ro.socket virtqemud-admin.socket) and try again"},
		{"SELinux", "it was never tried", func(p *site, _ *fakeSystemd) { p.Put("/sys/fs/selinux/enforce", "1", 0o444) }, "--selinux-untested"},
		{"no socket of systemd's", "with --listen there is none", func(_ *site, s *fakeSystemd) { s.shows["libvirtd.socket ActiveState"] = "inactive" }, "--listen"},
		{"another path", "", func(_ *site, s *fakeSystemd) { s.shows["libvirtd.socket Listen"] = "/run/mine (Stream)" }, "/run/mine"},
		{"a path more", "it would be moved away", func(_ *site, s *fakeSystemd) {
			s.shows["libvirtd.socket Listen"] = unit.Monolithic.Public + " (Stream)\n/run/mine (Stream)"
		}, "/run/mine"},
		{"a libvirtd that was started by hand", "systemd would start a second", func(p *site, _ *fakeSystemd) {
			p.Put("/run/libvirtd.pid", "4711\n", 0o644)
			p.Put("/proc/4711/comm", "libvirtd\n", 0o444)
		}, "4711"},
		{"sockets elsewhere", "", func(p *site, _ *fakeSystemd) {
			p.Put("/etc/libvirt/libvirtd.conf", "unix_sock_dir = '/srv'\n", 0o644)
		}, "unix_sock_dir"},
		{"somebody's drop-in in the place of ours", "", func(p *site, _ *fakeSystemd) { p.Put(host.GateAccess, "[Socket]\n", 0o644) }, host.GateAccess},
		{"somebody's unit", "", func(p *site, _ *fakeSystemd) { p.Put(host.UnitFolder+"/"+host.GateService, "[Unit]\n", 0o644) }, host.GateService},
		{"no program", "", func(p *site, _ *fakeSystemd) { p.Remove("/home/stopguard-gate") }, "--gate"},
		{"a hook, by a slip", "libvirtd would be behind a program that does not serve", func(p *site, _ *fakeSystemd) {
			p.Put("/home/stopguard-gate", hosttest.ReadFileText(p.T, hosttest.ProgramOf(p.T, "github.com/stopguard/stopguard", "cmd/stopguard-hook")), 0o755)
		}, "is the hook program, not the gate's program"},
		{"any program", "", func(p *site, _ *fakeSystemd) {
			p.Put("/home/stopguard-gate", hosttest.ReadFileText(p.T, hosttest.ForeignProgram(p.T)), 0o755)
		}, "not made with stopguard"},
		{"no systemd", "", func(p *site, _ *fakeSystemd) { p.Systemctl = nil }, "STOPGUARD_ROOT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, s := withSystemd(t)
			tt.plant(p, s)
			before := hosttest.Tree(t, p.Root)
			_, err := p.gate(true)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "; ") && !strings.Contains(err.Error(), ", ") {
				t.Errorf("%s: %v", tt.why, err)
			}
			if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" || len(s.did) > 0 {
				t.Error(diff, s.did)
			}
		})
	}
}

// If any step fails, libvirtd gets its socket back, and the error names the step.
func TestAStepThatFailsIsUndone(t *testing.T) {
	for _, fails := range []string{"daemon-reload", "stop libvirtd.socket", "restart", "start " + host.GateSocket, "start " + host.GateService, "enable"} {
		t.Run(fails, func(t *testing.T) {
			p, s := withSystemd(t)
			s.fails = fails
			out, err := p.gate(true)
			if err == nil || !strings.Contains(err.Error(), "libvirtd has its socket again") || !strings.Contains(err.Error(), fails) {
				t.Error(err)
			}
			if p.Exists(unit.Monolithic.Move().Path) {
				t.Error("it counts still")
			}
			undone := strings.Join(s.did[len(s.did)-4:], "\n")
			want := "daemon-reload\nrestart --no-block libvirtd.service\nstart libvirtd.socket libvirtd-ro.socket\ndisable --now stopguard-gate.service stopguard-gate.socket"
			if diff := cmp.Diff(want, undone); diff != "" {
				t.Error(diff, out)
			}
			_, err = p.gateAway(false) // the rest can be removed, and needs no yes
			p.Must(err)
			if p.Exists(host.GateProgram) || p.Exists(host.GateManifest) {
				t.Error("left")
			}
		})
	}
}

// On a host with virtqemud, the gate stands before virtqemud, and virtproxyd is kept from the moved
// socket.
func TestTheGateStandsBeforeVirtqemudWhereThatIsUsed(t *testing.T) {
	p, s := withDaemon(t, unit.Modular)
	s.shows["virtproxyd.service ActiveState"] = "active"
	before := hosttest.Tree(t, p.Root)
	out, err := p.gate(false)
	p.Must(err)
	for _, f := range unit.Modular.Moves {
		if p.Exists(f.Path) || len(s.did) > 0 {
			t.Errorf("%s counts without a yes, or %q was done", f.Path, s.did)
		}
	}
	wantSaid(t, out, "not in front of virtqemud yet", "virtproxyd is restarted too: connections over TCP, TLS")
	out, err = p.gate(true)
	p.Must(err)
	wantSaid(t, out, "answers    virtqemud, through the gate")
	if got := p.Content(host.GateAccess); !strings.HasSuffix(got, "[Socket]\nListenStream=\nListenStream=/run/libvirt/virtqemud-sock\nSocketGroup=libvirt\nSocketMode=0660\n") {
		t.Error(got)
	}
	for _, f := range append(unit.Modular.Moves, unit.Modular.Gate) {
		if p.Content(f.Path) != f.Content {
			t.Error(f.Path)
		}
	}
	want := []string{"daemon-reload", "stop virtqemud.socket virtqemud-ro.socket", "restart --no-block virtqemud.service", "start stopguard-gate.socket",
		"start stopguard-gate.service", "start virtqemud.socket virtqemud-ro.socket", "enable stopguard-gate.socket stopguard-gate.service", "try-restart virtproxyd.service"}
	if diff := cmp.Diff(want, s.did); diff != "" {
		t.Error(diff)
	}
	s.did = nil
	_, err = p.gateAway(true)
	p.Must(err)
	want = []string{"stop virtqemud.socket virtqemud-ro.socket", "daemon-reload", "restart --no-block virtqemud.service", "start virtqemud.socket virtqemud-ro.socket",
		"disable --now stopguard-gate.service stopguard-gate.socket", "try-restart virtproxyd.service", "daemon-reload"}
	if diff := cmp.Diff(want, s.did); diff != "" {
		t.Error(diff)
	}
	after := hosttest.Tree(t, p.Root)
	for _, all := range []map[string]string{before, after} {
		delete(all, unit.UpstreamFolder) // it was made for the test
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

// virtproxyd does not start if its drop-in hides a folder that is missing.
func TestTheProxysDropInGoesWithTheGateHoweverThatGoes(t *testing.T) {
	for _, fails := range []string{"", "daemon-reload", "start " + host.GateService, "try-restart"} {
		t.Run(fails, func(t *testing.T) {
			p, s := withDaemon(t, unit.Modular)
			s.shows["virtproxyd.service ActiveState"] = "active"
			s.fails = fails
			_, err := p.gate(true)
			if (err != nil) != (fails != "") {
				t.Fatal(err)
			}
			if fails == "" { // as docs/gate.md has it by hand, but for the second file
				p.Remove(unit.Modular.Move().Path)
			}
			if _, err = p.gateAway(false); err != nil || p.Exists(unit.Modular.Moves[1].Path) {
				t.Error("left: ", err)
			}
		})
	}
}

// Its unit had the daemon in it, which the new one leaves to a drop-in.
func TestAGateOfAnEarlierVersionGetsWhatItLacks(t *testing.T) {
	p, s := withSystemd(t)
	_, err := p.gate(true)
	p.Must(err)
	p.Remove(unit.Monolithic.Gate.Path)
	i := installer{Host: p.Host}
	r, err := i.manifestAt(host.GateManifest)
	p.Must(err)
	delete(r.Files, unit.Monolithic.Gate.Path)
	p.Must(i.writeManifestAt(host.GateManifest, r))
	s.did = nil
	_, err = p.gate(true)
	p.Must(err)
	if diff := cmp.Diff([]string{"daemon-reload", "restart " + host.GateService}, s.did); diff != "" || p.Content(unit.Monolithic.Gate.Path) != unit.Monolithic.Gate.Content {
		t.Error(diff)
	}
}

// The gate's former daemon must not be started: the socket of either stops that of the other.
func TestAHostThatChangedItsDaemonsUnderAGate(t *testing.T) {
	for _, l := range unit.Layouts {
		t.Run(l.Daemon, func(t *testing.T) {
			p, s := withDaemon(t, l)
			_, err := p.gate(true)
			p.Must(err)
			other := l.Other()
			s.shows[l.Socket()+" ActiveState"], s.shows[l.Service()+" ActiveState"] = "inactive", "inactive"
			s.shows[other.Socket()+" ActiveState"] = "active"
			want := fmt.Sprintf("nothing was done: the gate stands before %s, and this host uses %s now; stopguard uninstall --gate --restart, and install it again", l.Daemon, other.Daemon)
			if _, err := p.gate(true); err == nil || err.Error() != want {
				t.Error(err)
			}
			p.Root = hosttest.ShortFolder(t, p.Root)
			p.Folder("/run/libvirt")
			socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.Path(l.Public), Net: "unix"})
			p.Must(err)
			socket.SetUnlinkOnClose(false) // as the gate's unit leaves it
			p.Must(socket.Close())
			s.did = nil
			out, err := p.gateAway(true)
			p.Must(err)
			if p.Exists(l.Public) {
				t.Error("clients still prefer the gate's socket")
			}
			if diff := cmp.Diff([]string{"daemon-reload", "disable --now stopguard-gate.service stopguard-gate.socket", "daemon-reload"}, s.did); diff != "" {
				t.Error(diff)
			}
			wantSaid(t, out, "left       "+l.Daemon+", which was not active; this host uses "+other.Daemon+" now")
			p.Folder(unit.UpstreamFolder) // as systemd does
			p.Chmod(unit.UpstreamFolder, 0o700)
			if _, err := p.gate(true); err != nil || !p.Exists(other.Move().Path) || p.Exists(l.Move().Path) {
				t.Error("not before the other daemon: ", err)
			}
		})
	}
}

// Without its unit, the daemon's socket can be neither stopped nor started.
func TestAGateBeforeADaemonThatWasRemovedGoes(t *testing.T) {
	p, s := withDaemon(t, unit.Modular)
	_, err := p.gate(true)
	p.Must(err)
	s.shows = map[string]string{"virtqemud.socket LoadState": "not-found"}
	s.fails = "stop virtqemud.socket"
	out, err := p.gateAway(true)
	p.Must(err)
	wantSaid(t, out, "left       virtqemud, which is not installed any more")
	if p.Exists(unit.Modular.Move().Path) || p.Exists(host.GateProgram) {
		t.Error("left")
	}
}

func TestAModularHostOnWhichTheGateWouldHalfWorkIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plant func(p *site, s *fakeSystemd)
		want  string
	}{
		{"no socket of systemd's", func(_ *site, s *fakeSystemd) { s.shows["virtqemud.socket ActiveState"] = "inactive" },
			"virtqemud.socket is not active, so that virtqemud makes its socket itself; have systemd make it (systemctl enable --now virtqemud.socket "},
		{"another path", func(_ *site, s *fakeSystemd) { s.shows["virtqemud.socket Listen"] = "/run/mine (Stream)" },
			"virtqemud.socket listens on /run/mine, not on /run/libvirt/virtqemud-sock alone; "},
		{"a virtqemud that was started by hand", func(p *site, _ *fakeSystemd) {
			p.Put("/run/virtqemud.pid", "4711\n", 0o644)
			p.Put("/proc/4711/comm", "virtqemud\n", 0o444)
		}, "virtqemud, process 4711, was not started by systemd; end it (guests run on), start virtqemud.service and try again"},
		{"sockets elsewhere", func(p *site, _ *fakeSystemd) { p.Put("/etc/libvirt/virtqemud.conf", "unix_sock_dir = '/srv'\n", 0o644) }, "/etc/libvirt/virtqemud.conf, where clients do not look; "},
		{"libvirtd beside it", func(_ *site, s *fakeSystemd) { s.shows["libvirtd.service ActiveState"] = "active" }, "libvirtd.service and virtqemud.socket are both active"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, s := withDaemon(t, unit.Modular)
			tt.plant(p, s)
			before := hosttest.Tree(t, p.Root)
			if _, err := p.gate(true); err == nil || !strings.HasPrefix(err.Error(), "nothing was done: ") || !strings.Contains(err.Error(), tt.want) {
				t.Error(err)
			}
			if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" || len(s.did) > 0 {
				t.Error(diff, s.did)
			}
		})
	}
}

// A gate that is in front already is not refused for SELinux: it evidently works there.
func TestWhereSELinuxEnforcesTheGateIsInstalledOnlyIfAskedFor(t *testing.T) {
	p, _ := withSystemd(t)
	p.Put("/sys/fs/selinux/enforce", "1", 0o444)
	try := func(flag bool) error {
		i := installer{Host: p.Host, out: &strings.Builder{}, source: p.Path("/home/stopguard-hook")}
		g := gate{installer: installer{source: p.Path("/home/stopguard-gate")}, restart: true, untestedSELinux: flag, answers: func() error { return nil }}
		return g.installWithGate(i, func() error { return nil })
	}
	if err := try(false); err == nil || !strings.Contains(err.Error(), "never tried") {
		t.Error(err)
	}
	p.Must(try(true))
	p.Must(try(false))
}

// A drop-in that repeats the socket's path would have systemd listen twice.
func TestTheAccessDropInNamesAPathOnlyWhereTheUnitHasAnother(t *testing.T) {
	if text := (socketUnit{layout: unit.Monolithic}).access(); strings.Contains(text, "ListenStream") {
		t.Error(text)
	}
}

func TestTheNextStepNamesTheDaemonThatIsUsed(t *testing.T) {
	for _, l := range unit.Layouts {
		p, _ := withDaemon(t, l)
		if got := (installer{Host: p.Host}).reloadHint(); got != "systemctl reload "+l.Daemon+"   # before it, hooks are not noticed" {
			t.Error(got)
		}
	}
}

func TestAnotherDropInThatIsStrongerIsFound(t *testing.T) {
	p, s := withSystemd(t)
	s.shows["stopguard-gate.socket Listen"] = "/run/mine (Stream)"
	_, err := p.gate(true)
	if err == nil || !strings.Contains(err.Error(), "systemctl cat") || p.Exists(unit.Monolithic.Move().Path) {
		t.Error(err)
	}
}

func TestAnOpenFolderIsNoPlaceForTheSocket(t *testing.T) {
	p, _ := withSystemd(t)
	p.Chmod(unit.UpstreamFolder, 0o755)
	if _, err := p.gate(true); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Error(err)
	}
}

func TestWhatAPackageBroughtIsUsedAndLeft(t *testing.T) {
	p, _ := withSystemd(t)
	p.Program(host.GateProgram)
	p.Put(host.PackagedUnits+"/"+host.GateSocket, unit.Socket, 0o644)
	p.Put(host.PackagedUnits+"/"+host.GateService, unit.Service, 0o644)
	p.Put(host.HookFile, "the package's", 0o755)
	before := hosttest.Tree(t, p.Root)
	i := installer{Host: p.Host, out: &strings.Builder{}}
	g := gate{installer: installer{source: p.Path(host.GateProgram)}, restart: true, answers: func() error { return nil }}
	p.Must(g.installWithGate(i, func() error { return errors.New("the package's hook was touched") }))
	if !p.Exists(unit.Monolithic.Move().Path) || p.Exists(host.UnitFolder+"/"+host.GateService) {
		t.Error("not in front, or with units twice")
	}
	_, err := p.gateAway(true)
	p.Must(err)
	after := hosttest.Tree(t, p.Root)
	for _, all := range []map[string]string{before, after} {
		delete(all, unit.UpstreamFolder) // it was made for the test
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
}

// The remaining steps are printed last. A libvirtd that has just been restarted has noticed the
// hook.
func TestWhatIsNextStandsBehindTheGate(t *testing.T) {
	for _, tt := range []struct {
		why             string
		restart, reload bool
		fails           string
		reloads         bool // the next steps include a reload
	}{
		{why: "libvirtd goes on as it was", restart: false, reloads: true},
		{why: "libvirtd was restarted", restart: true},
		{why: "it was, and so needs no SIGHUP either", restart: true, reload: true},
		{why: "it may not have been", restart: true, fails: "start " + host.GateService, reloads: true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p, s := withSystemd(t)
			s.fails = tt.fails
			var out strings.Builder
			i := installer{Host: p.Host, out: &out, source: p.Path("/home/stopguard-hook"), reload: tt.reload}
			g := gate{installer: installer{source: p.Path("/home/stopguard-gate")}, restart: tt.restart, answers: func() error { return nil }}
			err := g.installWithGate(i, func() error { i.say("the hook is installed"); return nil })
			if (err != nil) != (tt.fails != "") {
				t.Error(err)
			}
			before, next, _ := strings.Cut(out.String(), "\nNext:\n")
			wantSaid(t, before, "the hook is installed", "installed  "+p.Path(host.GateProgram))
			wantSaid(t, next, "  stopguard doctor\nOff at once: ")
			if strings.Contains(next, "systemctl reload libvirtd") != tt.reloads || strings.Contains(next, "installed") || strings.Contains(out.String(), "reloaded") {
				t.Error(out.String())
			}
		})
	}
}

func TestAGateAloneOnAHostWithoutAHookSaysWhatItNeeds(t *testing.T) {
	p, s := withSystemd(t)
	before := hosttest.Tree(t, p.Root)
	i := installer{Host: p.Host, out: &strings.Builder{}}
	g := gate{installer: installer{source: p.Path("/home/stopguard-gate")}, restart: true, answers: func() error { return nil }}
	err := g.installWithGate(i, func() error { return i.install(t.Context()) })
	if err == nil || !strings.Contains(err.Error(), "this host has no hook yet, and one goes with the gate") || !strings.Contains(err.Error(), "name it with --hook") {
		t.Error(err)
	}
	if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" || len(s.did) > 0 {
		t.Error(diff, s.did)
	}
}

func TestTheGateGoesOnlyWithAYes(t *testing.T) {
	p, s := withSystemd(t)
	_, err := p.gate(true)
	p.Must(err)
	before, did := hosttest.Tree(t, p.Root), len(s.did)
	if _, err := p.gateAway(false); err == nil || !strings.Contains(err.Error(), "--restart") {
		t.Error(err)
	}
	if diff := cmp.Diff(before, hosttest.Tree(t, p.Root)); diff != "" || len(s.did) != did {
		t.Error(diff, s.did)
	}
}

func TestAGateThatCannotBeTakenAwayStays(t *testing.T) {
	p, s := withSystemd(t)
	_, err := p.gate(true)
	p.Must(err)
	s.fails = "restart"
	if _, err := p.gateAway(true); err == nil || !strings.Contains(err.Error(), "in front of libvirtd as before") {
		t.Error(err)
	}
	if p.Content(unit.Monolithic.Move().Path) != unit.Monolithic.Move().Content || !p.Exists(host.GateProgram) {
		t.Error("half gone")
	}
	_, err = p.gateAway(true)
	p.Must(err)
	if p.Exists(unit.Monolithic.Move().Path) || p.Exists(host.GateProgram) || p.Exists(host.GateManifest) {
		t.Error("left")
	}
}

func TestAChangedDropInIsLeftToWhoeverChangedIt(t *testing.T) {
	p, _ := withSystemd(t)
	_, err := p.gate(true)
	p.Must(err)
	p.Put(unit.Monolithic.Move().Path, unit.Monolithic.Move().Content+"# mine\n", 0o644)
	if _, err := p.gateAway(true); err == nil || !strings.Contains(err.Error(), "was changed") || !p.Exists(host.GateProgram) {
		t.Error(err)
	}
}

// A new program of the gate must not end everybody's connections unasked.
func TestANewGateIsStartedOnlyWithAYes(t *testing.T) {
	p, s := withSystemd(t)
	_, err := p.gate(true)
	p.Must(err)
	p.Another("/home/stopguard-gate")
	content := p.Content("/home/stopguard-gate")
	s.did = nil
	out, err := p.gate(false)
	p.Must(err)
	if len(s.did) > 0 || p.Content(host.GateProgram) != content {
		t.Error(s.did)
	}
	wantSaid(t, out, "ends every connection")
	p.Program("/home/stopguard-gate")
	_, err = p.gate(true)
	p.Must(err)
	if diff := cmp.Diff([]string{"daemon-reload", "restart " + host.GateService}, s.did); diff != "" {
		t.Error(diff)
	}
}

func TestAnAnswerThatIsNotLibvirtsIsNone(t *testing.T) {
	for _, tt := range []struct {
		why   string
		reply []byte
		ok    bool
	}{
		{"libvirtd's own, to root", []byte("\x00\x00\x00\x24\x20\x00\x80\x86\x00\x00\x00\x01\x00\x00\x00\x42\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"), true},
		{"an error", []byte("\x00\x00\x00\x24\x20\x00\x80\x86\x00\x00\x00\x01\x00\x00\x00\x42\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"), false},
		{"closed", nil, false},
		{"another service", []byte("220 mail.example.com ESMTP ready\r\n"), false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			l, err := net.Listen("unix", hosttest.ShortFolder(t, t.TempDir())+"/s")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 28))
				_, _ = conn.Write(tt.reply)
			}()
			if err := libvirtAnswersNow(l.Addr().String(), time.Now().Add(time.Minute)); (err == nil) != tt.ok {
				t.Error(fmt.Sprint(err))
			}
		})
	}
}
