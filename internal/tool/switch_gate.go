package tool

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
)

// systemd makes no socket anew while its service runs ("already active, refusing"), and systemctl restart of several units is
// several transactions. So the sockets are stopped, which libvirtd does not notice, for it has them open too; and its restart
// starts them at their new place, before itself. QEMU's processes are left alone (KillMode=process).

// sockets are libvirtd's: those that are bound to the first, the read-only one say, stop with it.
func (u socketUnit) sockets() []string { return append([]string{daemonSocket}, u.also...) }

// again brings libvirtd and its sockets back. With a running libvirtd nobody waits for it: whoever is started next and comes
// after libvirtd does.
func (u socketUnit) again() []string {
	if u.running {
		return []string{"restart", "--no-block", daemonService}
	}
	return append([]string{"start"}, u.sockets()...)
}

// front puts the gate before libvirtd, or leaves everything as it was.
func (g gate) front(move part) error {
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
	g.say("failed     %v", oneLine(err.Error()))
	if undo := g.stepBack(); undo != nil {
		return fmt.Errorf("the gate could not be put before libvirtd (%w), and it could not be undone (%v); by hand: %s", err, undo, g.byHand())
	}
	return fmt.Errorf("the gate could not be put before libvirtd, and libvirtd has its socket again: %w; see systemctl status %s", err, gateService)
}

func (g gate) takePlace() error {
	if err := g.steps([]string{"daemon-reload"}); err != nil {
		return err
	}
	if err := g.willListen(daemonSocket, upstreamSocket); err != nil {
		return err
	}
	if err := g.willListen(gateSocket, publicSocket); err != nil {
		return err
	}
	// From the fourth step on connections wait for the gate, and the gate for libvirtd.
	err := g.steps(
		append([]string{"stop"}, g.before.sockets()...),
		g.before.again(),
		[]string{"start", gateSocket},
		[]string{"start", gateService},
		append([]string{"start"}, g.before.sockets()...),
		[]string{"enable", gateSocket, gateService},
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
	listens, err := g.listens(unit)
	if err == nil && !slices.Equal(listens, []string{path}) {
		err = fmt.Errorf("%s would listen on %s, not on %s; something else changes it: systemctl cat %s", unit, strings.Join(listens, ", "), path, unit)
	}
	return err
}

// isPrivate finds a folder that was there before, with a mode of its own.
func (g gate) isPrivate() error {
	info, err := os.Lstat(g.path(upstreamFolder))
	if err == nil && (!info.IsDir() || info.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%s is open to others (%v); remove it and try again", g.path(upstreamFolder), info.Mode())
	}
	return err
}

// stepBack gives libvirtd its socket back. Until libvirtd has stopped, its clients find the gate; then systemd replaces the
// gate's socket. (A socket that is stopped may take its file with it: so it is stopped while systemd still has it at its other
// place.)
func (g gate) stepBack() error {
	if err := g.steps(append([]string{"stop"}, g.before.sockets()...)); err != nil {
		return err
	}
	if err := os.Remove(g.path(gateMove)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.say("removed    %s", g.path(gateMove))
	err := errors.Join(syncFolder(filepath.Dir(g.path(gateMove))), g.steps([]string{"daemon-reload"}))
	if err == nil {
		err = g.willListen(daemonSocket, publicSocket)
	}
	if err == nil {
		err = g.steps(g.before.again(), append([]string{"start"}, g.before.sockets()...))
	}
	if err == nil {
		err = g.steps([]string{"disable", "--now", gateService, gateSocket})
	}
	if err != nil {
		return err
	}
	// What systemd left of the moved socket; neither is anything that others need.
	_ = os.Remove(g.path(upstreamSocket))
	_ = os.Remove(g.path(upstreamFolder))
	return g.answers()
}

// byHand is what takes the gate away without this program.
func (g gate) byHand() string {
	sockets := strings.Join(g.before.sockets(), " ")
	return fmt.Sprintf("rm -f %s && systemctl daemon-reload && systemctl stop %s %s %s %s && systemctl start %s %s",
		g.path(gateMove), gateSocket, gateService, sockets, daemonService, sockets, daemonService)
}

// uninstall takes the gate away, or leaves everything as it was.
func (g gate) uninstall() error {
	r, err := g.receiptAt(gateReceipt)
	if err != nil || len(r.Files) == 0 {
		return err
	}
	if g.inFront() {
		if err := g.leave(r); err != nil {
			return err
		}
	}
	for _, path := range []string{gateAccess, unitFolder + "/" + gateService, unitFolder + "/" + gateSocket, gateProgram} {
		if _, err := g.remove(path, r); err != nil {
			return err
		}
	}
	if err := os.Remove(g.path(gateReceipt)); err != nil {
		return err
	}
	for _, folder := range slices.Backward(r.Folders) {
		if os.Remove(g.path(folder)) == nil { // it fails for what is not empty, and that is to stay
			g.say("removed    %s", g.path(folder))
		}
	}
	if g.systemctl == nil {
		return nil
	}
	return g.steps([]string{"daemon-reload"})
}

// leave gives libvirtd its socket back, or puts the gate there again.
func (g gate) leave(r receipt) error {
	if g.systemctl == nil {
		return fmt.Errorf("nothing was removed: the gate is in front of libvirtd, and only where systemd runs can that be changed; without it: rm %s", g.path(gateMove))
	}
	if !g.restart {
		return errors.New("nothing was removed: the gate is in front of libvirtd, which has to be restarted to take the gate away; guests run on, connections end: add --restart")
	}
	there, err := os.ReadFile(g.path(gateMove))
	if err != nil {
		return err
	}
	if !r.has(gateMove, there) {
		return fmt.Errorf("nothing was removed: %s was changed since it was installed; by hand: %s", g.path(gateMove), g.byHand())
	}
	if g.before, err = g.socketUnit(); err != nil {
		return err
	}
	if err = g.stepBack(); err == nil {
		g.say("answers    libvirtd, without the gate")
		return nil
	}
	g.say("failed     %v", oneLine(err.Error()))
	undo := writeWhole(filepath.Dir(g.path(gateMove)), g.path(gateMove), there, 0o644)
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

// asked is the first call of every client (REMOTE_PROC_AUTH_LIST, without arguments), which needs no rights.
var asked = []uint32{28, 0x20008086, 1, 66, 0, 0, 0}

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
	for _, word := range asked {
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
	if word(1) != asked[1] || word(3) != asked[3] || word(4) != 1 || word(6) != 0 {
		return fmt.Errorf("%s: the answer is not libvirtd's, or an error (type %d, status %d)", path, word(4), word(6))
	}
	return nil
}
