package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/gate/unit"
	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/internal/hostpath"
)

// gateFile is locked by the gate while it runs. It has an ID of the gate's process.
const gateFile = "/run/stopguard/gate.lock"

const maxGateFile = 1 << 10 // bytes

// A Gate is the mark of a running gate for other processes of the host.
type Gate struct {
	id   string
	lock *lock
}

// RunGate marks this process as the gate, until [Gate.End] or the end of the process. It returns an
// error if another gate runs.
func RunGate(root string) (*Gate, error) {
	path := filepath.Join("/", root, gateFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, fmt.Errorf("%s is locked: another gate runs; it is the one whose end is told", path)
	}
	g := &Gate{id: fmt.Sprintf("%d.%d", os.Getpid(), time.Now().UnixNano()), lock: lock}
	if err = lock.file.Truncate(0); err == nil {
		_, err = lock.file.WriteAt([]byte(g.id), 0)
	}
	return g, err
}

// End removes the mark. A nil Gate is ignored.
func (g *Gate) End() {
	if g != nil {
		g.lock.release()
	}
}

// TellStop queues an event that the gate was stopped, unless the host shuts down.
func (g *Gate) TellStop(n *Notifier) {
	if _, err := os.Lstat(filepath.Join("/", n.Root, hostpath.ShuttingDown)); g != nil && err != nil {
		n.Tell(Event{What: GateStopped, Text: gateStopped}, g.id)
	}
}

const gateStopped = "the gate was stopped, or has ended; libvirt's clients wait for it"

// runningGate returns the ID of the running gate; "" if none runs.
func runningGate(root string) (string, error) {
	isRunning, err := isLocked(filepath.Join("/", root, gateFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !isRunning {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	id, err := hostfile.Root(root).Read(gateFile, maxGateFile)
	return strings.TrimSpace(string(id)), err
}

// A gateState is the state of the gate at the last look.
type gateState struct {
	InFront bool   `json:"in_front"` // the gate stands before libvirt's daemon
	Off     bool   `json:"off"`
	Running string `json:"running"` // the ID of the running gate; "" if none runs
}

// seeGate returns the events that the gate was switched off, no longer stands before libvirt's
// daemon, or was stopped.
func (w *watcher) seeGate(now *state, at time.Time) (events []Event, err error) {
	before := now.Gate
	g := &now.Gate
	g.InFront = slices.ContainsFunc(unit.Layouts, func(l unit.Layout) bool { return w.exists(l.Move().Path) })
	g.Off = w.exists(hostpath.GateOff)
	if before.InFront && !g.InFront {
		events = append(events, Event{What: GateOff, Text: "the gate was taken out of libvirt's way"})
	}
	running, err := runningGate(w.root)
	if err != nil {
		return events, err
	}
	if g.Off && !before.Off && (g.InFront || running != "") {
		events = append(events, Event{What: GateOff, Text: "the gate was switched off"})
	}
	switch {
	case running != "":
		g.Running, w.gateMissing = running, time.Time{}
	case before.Running == "":
	case w.gateMissing.IsZero():
		w.gateMissing = at // systemd may start it again
	case at.Sub(w.gateMissing) >= w.timing.gateStops:
		g.Running, w.gateMissing = "", time.Time{}
		if g.InFront && !w.exists(hostpath.ShuttingDown) {
			e := Event{What: GateStopped, Text: gateStopped}
			e.identify(before.Running) // the same ID as in TellStop
			events = append(events, e)
		}
	}
	return events, nil
}
