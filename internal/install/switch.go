package install

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/terminal"
)

// systemd does not make a socket anew while its service runs ("already active, refusing"), and
// systemctl restart of several units is several transactions. So the sockets are stopped. libvirtd
// does not notice that, because it has them open, too; virtqemud ends with its socket, as its unit
// says. The daemon's restart then starts the sockets at their new place, before itself. QEMU's
// processes run on (KillMode=process).

// sockets returns the daemon's socket units. The others, such as the read-only one, are bound to
// the first and stop with it.
func (u socketUnit) sockets() []string { return append([]string{u.layout.Socket()}, u.also...) }

// restartCommand returns the arguments of systemctl that start the daemon and its sockets again. It
// does not wait for a running daemon, because units that are ordered after the daemon wait for it.
func (u socketUnit) restartCommand() []string {
	if u.running {
		return []string{"restart", "--no-block", u.layout.Service()}
	}
	return append([]string{"start"}, u.sockets()...)
}

// putInFront puts the gate before the daemon, or rolls back.
func (g gate) putInFront() error {
	daemon := g.layout.Daemon
	err := g.placeMoves()
	if err == nil {
		err = g.takePlace()
	}
	if err == nil {
		g.did("answers", "%s, through the gate", daemon)
		g.say("")
		g.say("Out again: stopguard uninstall --gate --restart")
		return nil
	}
	g.did("failed", "%v", terminal.OneLine(err.Error()))
	if undo := g.rollback(); undo != nil {
		return fmt.Errorf("the gate could not be put before %s (%w), and it could not be undone (%v); by hand: %s", daemon, err, undo, g.byHand())
	}
	return fmt.Errorf("the gate could not be put before %s, and %[1]s has its socket again: %w; see systemctl status %s", daemon, err, host.GateService)
}

func (g gate) placeMoves() error {
	for _, p := range slices.Backward(g.moves()) { // the socket's drop-in, the sign that the gate is in front, is last
		if err := g.place(p); err != nil {
			return err
		}
	}
	return nil
}

func (g gate) takePlace() error {
	if err := g.steps([]string{"daemon-reload"}); err != nil {
		return err
	}
	if err := g.willListen(g.layout.Socket(), g.layout.Upstream); err != nil {
		return err
	}
	if err := g.willListen(host.GateSocket, g.layout.Public); err != nil {
		return err
	}
	// From the fourth step on, connections wait for the gate, and the gate waits for the daemon.
	err := g.steps(
		append([]string{"stop"}, g.before.sockets()...),
		g.before.restartCommand(),
		[]string{"start", host.GateSocket},
		[]string{"start", host.GateService},
		append([]string{"start"}, g.before.sockets()...),
		[]string{"enable", host.GateSocket, host.GateService},
	)
	if err == nil {
		err = g.hide()
	}
	if err != nil {
		return err
	}
	if err := g.isPrivate(); err != nil {
		return err
	}
	return g.answers()
}

// hide restarts a running proxy, so that its drop-in takes effect.
func (g gate) hide() error {
	if g.layout.Proxy == "" || !g.IsActive(g.layout.Proxy+".service") {
		return nil
	}
	return g.steps([]string{"try-restart", g.layout.Proxy + ".service"})
}

// willListen returns an error if another drop-in changes the path of a socket unit.
func (g gate) willListen(unit, path string) error {
	listens, err := g.Listens(unit)
	if err == nil && !slices.Equal(listens, []string{path}) {
		err = fmt.Errorf("%s would listen on %s, not on %s; something else changes it: systemctl cat %s", unit, strings.Join(listens, ", "), path, unit)
	}
	return err
}

// isPrivate returns an error if the folder of the moved socket existed before with an open mode.
func (g gate) isPrivate() error {
	folder := g.Path(unit.UpstreamFolder)
	info, err := os.Lstat(folder)
	if err == nil && (!info.IsDir() || info.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%s is open to others (%v); remove it and try again", folder, info.Mode())
	}
	return err
}

// rollback restores the daemon's socket. Until the daemon has stopped, its clients reach the
// gate; then systemd replaces the gate's socket. A socket unit may remove its file when it stops.
// So it is stopped while systemd still has its other path.
func (g gate) rollback() error {
	if err := g.steps(append([]string{"stop"}, g.before.sockets()...)); err != nil {
		return err
	}
	if err := g.removeMoves(); err != nil {
		return err
	}
	err := g.willListen(g.layout.Socket(), g.layout.Public)
	if err == nil {
		err = g.steps(g.before.restartCommand(), append([]string{"start"}, g.before.sockets()...))
	}
	if err == nil {
		err = g.removeSocket()
	}
	if err == nil {
		err = g.hide() // the proxy sees all folders again
	}
	if err != nil {
		return err
	}
	return g.answers()
}

// removeMoves removes the drop-ins that moved the daemon's socket, and reloads systemd.
func (g gate) removeMoves() error {
	for _, p := range g.moves() {
		if err := os.Remove(g.Path(p.path)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		g.did("removed", "%s", g.Path(p.path))
		if err := hostfile.SyncFolder(filepath.Dir(g.Path(p.path))); err != nil {
			return err
		}
	}
	return g.steps([]string{"daemon-reload"})
}

// removeSocket stops the gate, and removes systemd's remains of the moved socket, which other
// programs do not use.
func (g gate) removeSocket() error {
	if err := g.steps([]string{"disable", "--now", host.GateService, host.GateSocket}); err != nil {
		return err
	}
	_ = os.Remove(g.Path(g.layout.Upstream))
	_ = os.Remove(g.Path(unit.UpstreamFolder))
	return nil
}

// byHand returns the commands that remove the gate without this program.
func (g gate) byHand() string {
	sockets := strings.Join(g.before.sockets(), " ")
	var files []string
	for _, p := range g.moves() {
		files = append(files, g.Path(p.path))
	}
	service, proxy := g.layout.Service(), ""
	if g.layout.Proxy != "" {
		proxy = " && systemctl try-restart " + g.layout.Proxy + ".service"
	}
	return fmt.Sprintf("rm -f %s && systemctl daemon-reload && systemctl stop %s %s %s %s && systemctl start %s %s%s",
		strings.Join(files, " "), host.GateSocket, host.GateService, sockets, service, sockets, service, proxy)
}

// uninstall removes the gate, or leaves everything as it was.
func (g gate) uninstall() error {
	r, err := g.manifestAt(host.GateManifest)
	if err != nil || len(r.Files) == 0 {
		return err
	}
	if g.InFront() {
		if err := g.leave(r); err != nil {
			return err
		}
	}
	own := []string{host.GateAccess, unit.Monolithic.Gate.Path, host.UnitFolder + "/" + host.GateService, host.UnitFolder + "/" + host.GateSocket, host.GateProgram}
	for _, l := range unit.Layouts { // the operator may have removed only one by hand
		for _, f := range l.Moves {
			if g.Exists(f.Path) {
				own = append(own, f.Path)
			}
		}
	}
	for _, path := range own {
		if _, err := g.remove(path, r); err != nil {
			return err
		}
	}
	if err := os.Remove(g.Path(host.GateManifest)); err != nil {
		return err
	}
	for _, folder := range slices.Backward(r.Folders) {
		if os.Remove(g.Path(folder)) == nil { // it fails for a folder that is not empty
			g.did("removed", "%s", g.Path(folder))
		}
	}
	if g.Systemctl == nil {
		return nil
	}
	return g.steps([]string{"daemon-reload"})
}

// leave restores the daemon's socket. If that fails, it puts the gate back.
func (g gate) leave(r manifest) error {
	daemon, sign := g.layout.Daemon, g.Path(g.layout.Move().Path)
	if g.Systemctl == nil {
		return fmt.Errorf("nothing was removed: the gate is in front of %s, and only where systemd runs can that be changed; without it: rm %s", daemon, sign)
	}
	if !g.restart {
		return fmt.Errorf("nothing was removed: the gate is in front of %s, which has to be restarted to take the gate away; guests run on, connections end: add --restart", daemon)
	}
	contents := map[string][]byte{}
	var err error
	if g.before, err = g.socketUnit(); err != nil {
		return err
	}
	for _, p := range g.moves() {
		content, err := os.ReadFile(g.Path(p.path))
		switch {
		case err == nil && r.has(p.path, content):
			contents[p.path] = content
		case err == nil:
			return fmt.Errorf("nothing was removed: %s was changed since it was installed; by hand: %s", g.Path(p.path), g.byHand())
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if g.HasMoved(g.layout) {
		return g.forget(fmt.Sprintf("which was not active; this host uses %s now", g.layout.Other().Daemon))
	}
	if state, err := g.Show(g.layout.Socket(), "LoadState"); err == nil && state == "not-found" {
		return g.forget("which is not installed any more")
	}
	if err = g.rollback(); err == nil {
		g.did("answers", "%s, without the gate", daemon)
		return nil
	}
	g.did("failed", "%v", terminal.OneLine(err.Error()))
	if undo := g.putBack(contents); undo != nil {
		return fmt.Errorf("the gate could not be taken away (%w), nor put back (%v); by hand: %s", err, undo, g.byHand())
	}
	return fmt.Errorf("the gate could not be taken away and is in front of %s as before: %w; nothing else was removed", daemon, err)
}

// forget removes the gate on a host that no longer uses its daemon. It does not start that daemon,
// whose socket could stop that of the daemon in use.
func (g gate) forget(why string) error {
	if err := g.removeMoves(); err != nil {
		return err
	}
	if err := g.removeSocket(); err != nil {
		return err
	}
	// Clients prefer virtqemud's file to libvirtd's even if no process listens there.
	path := g.Path(g.layout.Public)
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return err
		}
		g.did("removed", "%s", path)
	}
	g.did("left", "%s, %s", g.layout.Daemon, why)
	return nil
}

// putBack puts the gate before the daemon again, with the former drop-ins.
func (g gate) putBack(moves map[string][]byte) error {
	for path, content := range moves {
		if err := hostfile.Replace(g.Path(path), content, 0o644); err != nil {
			return err
		}
	}
	return g.takePlace()
}

// answerTime bounds the wait for a libvirtd that has many guests to check at its start.
const answerTime = time.Minute

// probeCall is the first call of every client (REMOTE_PROC_AUTH_LIST, without arguments), which
// does not need permissions.
var probeCall = []uint32{28, 0x20008086, 1, 66, 0, 0, 0}

// libvirtAnswers returns an error unless libvirtd's RPC answers at a socket in time.
func libvirtAnswers(path string) error {
	deadline := time.Now().Add(answerTime)
	for {
		err := libvirtAnswersNow(path, deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func libvirtAnswersNow(path string, deadline time.Time) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	call := make([]byte, 0, 28)
	for _, word := range probeCall {
		call = binary.BigEndian.AppendUint32(call, word)
	}
	reply := make([]byte, 28)
	err = conn.SetDeadline(deadline)
	if err == nil {
		_, err = conn.Write(call)
	}
	if err == nil {
		_, err = io.ReadFull(conn, reply)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(reply[4*i:]) }
	if word(1) != probeCall[1] || word(3) != probeCall[3] || word(4) != 1 || word(6) != 0 {
		return fmt.Errorf("%s: the answer is not libvirtd's, or an error (type %d, status %d)", path, word(4), word(6))
	}
	return nil
}
