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
	"time"

	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/terminal"
)

// systemd makes no socket anew while its service runs ("already active, refusing"), and systemctl
// restart of several units is several transactions. So the sockets are stopped, which libvirtd does
// not notice, for it has them open too; and its restart starts them at their new place, before
// itself. QEMU's processes are left alone (KillMode=process).

// sockets are libvirtd's: those that are bound to the first, the read-only one say, stop with it.
func (u socketUnit) sockets() []string { return append([]string{host.DaemonSocket}, u.also...) }

// restartCommand returns the arguments of systemctl that start libvirtd and its sockets again. It
// does not wait for a running libvirtd: units that are ordered after libvirtd wait for it.
func (u socketUnit) restartCommand() []string {
	if u.running {
		return []string{"restart", "--no-block", host.DaemonService}
	}
	return append([]string{"start"}, u.sockets()...)
}

// putInFront puts the gate before libvirtd, or leaves everything as it was.
func (g gate) putInFront(move part) error {
	err := g.place(move)
	if err == nil {
		err = g.takePlace()
	}
	if err == nil {
		g.say("answers    libvirtd, through the gate")
		g.say("")
		g.say("Out again: stopguard uninstall --gate --restart")
		return nil
	}
	g.say("failed     %v", terminal.OneLine(err.Error()))
	if undo := g.rollback(); undo != nil {
		return fmt.Errorf("the gate could not be put before libvirtd (%w), and it could not be undone (%v); by hand: %s", err, undo, g.byHand())
	}
	return fmt.Errorf("the gate could not be put before libvirtd, and libvirtd has its socket again: %w; see systemctl status %s", err, host.GateService)
}

func (g gate) takePlace() error {
	if err := g.steps([]string{"daemon-reload"}); err != nil {
		return err
	}
	if err := g.willListen(host.DaemonSocket, host.UpstreamSocket); err != nil {
		return err
	}
	if err := g.willListen(host.GateSocket, host.PublicSocket); err != nil {
		return err
	}
	// From the fourth step on connections wait for the gate, and the gate for libvirtd.
	err := g.steps(
		append([]string{"stop"}, g.before.sockets()...),
		g.before.restartCommand(),
		[]string{"start", host.GateSocket},
		[]string{"start", host.GateService},
		append([]string{"start"}, g.before.sockets()...),
		[]string{"enable", host.GateSocket, host.GateService},
	)
	if err != nil {
		return err
	}
	if err := g.isPrivate(); err != nil {
		return err
	}
	return g.answers()
}

// willListen finds another drop-in that was stronger.
func (g gate) willListen(unit, path string) error {
	listens, err := g.Listens(unit)
	if err == nil && !slices.Equal(listens, []string{path}) {
		err = fmt.Errorf("%s would listen on %s, not on %s; something else changes it: systemctl cat %s", unit, strings.Join(listens, ", "), path, unit)
	}
	return err
}

// isPrivate finds a folder that was there before, with a mode of its own.
func (g gate) isPrivate() error {
	info, err := os.Lstat(g.Path(host.UpstreamFolder))
	if err == nil && (!info.IsDir() || info.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%s is open to others (%v); remove it and try again", g.Path(host.UpstreamFolder), info.Mode())
	}
	return err
}

// rollback returns libvirtd's socket to it. Until libvirtd has stopped, its clients reach the gate;
// then systemd replaces the gate's socket. A socket unit may remove its file when it stops, so it
// is stopped while systemd still has its other path.
func (g gate) rollback() error {
	if err := g.steps(append([]string{"stop"}, g.before.sockets()...)); err != nil {
		return err
	}
	if err := os.Remove(g.Path(host.GateMove)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.say("removed    %s", g.Path(host.GateMove))
	err := errors.Join(hostfile.SyncFolder(filepath.Dir(g.Path(host.GateMove))), g.steps([]string{"daemon-reload"}))
	if err == nil {
		err = g.willListen(host.DaemonSocket, host.PublicSocket)
	}
	if err == nil {
		err = g.steps(g.before.restartCommand(), append([]string{"start"}, g.before.sockets()...))
	}
	if err == nil {
		err = g.steps([]string{"disable", "--now", host.GateService, host.GateSocket})
	}
	if err != nil {
		return err
	}
	// These are systemd's remains of the moved socket, which other programs do not use.
	_ = os.Remove(g.Path(host.UpstreamSocket))
	_ = os.Remove(g.Path(host.UpstreamFolder))
	return g.answers()
}

// byHand returns the commands that remove the gate without this program.
func (g gate) byHand() string {
	sockets := strings.Join(g.before.sockets(), " ")
	return fmt.Sprintf("rm -f %s && systemctl daemon-reload && systemctl stop %s %s %s %s && systemctl start %s %s",
		g.Path(host.GateMove), host.GateSocket, host.GateService, sockets, host.DaemonService, sockets, host.DaemonService)
}

// uninstall takes the gate away, or leaves everything as it was.
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
	for _, path := range []string{host.GateAccess, host.UnitFolder + "/" + host.GateService, host.UnitFolder + "/" + host.GateSocket, host.GateProgram} {
		if _, err := g.remove(path, r); err != nil {
			return err
		}
	}
	if err := os.Remove(g.Path(host.GateManifest)); err != nil {
		return err
	}
	for _, folder := range slices.Backward(r.Folders) {
		if os.Remove(g.Path(folder)) == nil { // fails for a folder that is not empty, which must stay
			g.say("removed    %s", g.Path(folder))
		}
	}
	if g.Systemctl == nil {
		return nil
	}
	return g.steps([]string{"daemon-reload"})
}

// leave returns libvirtd its socket back, or puts the gate there again.
func (g gate) leave(r manifest) error {
	if g.Systemctl == nil {
		return fmt.Errorf("nothing was removed: the gate is in front of libvirtd, and only where systemd runs can that be changed; without it: rm %s", g.Path(host.GateMove))
	}
	if !g.restart {
		return errors.New("nothing was removed: the gate is in front of libvirtd, which has to be restarted to take the gate away; guests run on, connections end: add --restart")
	}
	there, err := os.ReadFile(g.Path(host.GateMove))
	if err != nil {
		return err
	}
	if !r.has(host.GateMove, there) {
		return fmt.Errorf("nothing was removed: %s was changed since it was installed; by hand: %s", g.Path(host.GateMove), g.byHand())
	}
	if g.before, err = g.socketUnit(); err != nil {
		return err
	}
	if err = g.rollback(); err == nil {
		g.say("answers    libvirtd, without the gate")
		return nil
	}
	g.say("failed     %v", terminal.OneLine(err.Error()))
	undo := hostfile.Replace(g.Path(host.GateMove), there, 0o644)
	if undo == nil {
		undo = g.takePlace()
	}
	if undo != nil {
		return fmt.Errorf("the gate could not be taken away (%w), nor put back (%v); by hand: %s", err, undo, g.byHand())
	}
	return fmt.Errorf("the gate could not be taken away and is in front of libvirtd as before: %w; nothing else was removed", err)
}

// answerTime is for a libvirtd that has many guests to look at when it starts.
const answerTime = time.Minute

// probeCall is the first call of every client (REMOTE_PROC_AUTH_LIST, without arguments), which
// does not need permissions.
var probeCall = []uint32{28, 0x20008086, 1, 66, 0, 0, 0}

// libvirtAnswers has libvirtd's RPC answer at a socket.
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
