package host

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy/record"
)

// The enforcement points, which can refuse an operation.
const (
	PointHook = "hook" // the hook, which a libvirt with the stop operation calls
	PointGate = "gate" // the gate in front of the daemon's socket
)

// An Enforcement has the enforcement points of a host for an operation. Without an enforcement
// point, a veto is only printed and recorded.
type Enforcement struct {
	Enforced bool     `json:"enforced"`               // an enforcement point can refuse the operation
	By       []string `json:"enforced_by"`            // the enforcement points that can refuse it
	Why      string   `json:"enforced_why,omitempty"` // the reason for which enforcement points are missing or unknown
	Cure     string   `json:"-"`                      // the action to take
	Known    bool     `json:"-"`                      // Enforced is known
}

// OperationStop is the only operation for which libvirt calls the hook.
const OperationStop = "stop"

// Enforcement returns the enforcement points of this host for an operation.
func (h Host) Enforcement(operation string) Enforcement {
	processes := h.Processes()
	hook, gate := state{no: "a hook is not asked about it"}, h.gateState(processes)
	if operation == OperationStop {
		hook = h.hookState(processes)
	}
	e := Enforcement{By: []string{}}
	for _, point := range []struct {
		name string
		state
	}{{PointHook, hook}, {PointGate, gate}} {
		if point.yes {
			e.By = append(e.By, point.name)
		}
	}
	switch {
	case len(e.By) > 0:
		e.Known, e.Enforced = true, true
	case hook.unknown != "" || gate.unknown != "":
		e.Why, e.Cure = cmp.Or(hook.unknown, gate.unknown), "run stopguard doctor as root"
	default:
		e.Known = true
		e.Why, e.Cure = hook.no+", and "+gate.no, gate.cure
		if hook.cure != "" {
			e.Cure = hook.cure
		}
	}
	return e
}

// Text returns the line for a host without an enforcement point for an operation, or "".
func (e Enforcement) Text(name string) string {
	if !e.Known || e.Enforced {
		return ""
	}
	verb := name
	if operation.Covers(name, operation.Modify) {
		verb = "change"
	}
	return fmt.Sprintf("nothing on this host can refuse a %s: %s; %s", verb, e.Why, e.Cure)
}

// A state tells whether an enforcement point can refuse. no or unknown is the reason if it cannot,
// or if that is unknown.
type state struct {
	yes         bool
	no, unknown string
	cure        string
}

func (h Host) hookState(p Processes) state {
	calls, why, _ := h.CallsStop(p)
	switch {
	case calls == No:
		return state{no: "this libvirt does not call the hook for a stop"}
	case calls != Yes:
		return state{unknown: why}
	}
	for _, hook := range h.Hooks() {
		if !hook.Ours || !hook.Executable {
			continue
		}
		if reads, why := h.Reads(p, hook.Path); reads == No {
			return state{no: why}
		}
		return state{yes: true}
	}
	return state{no: "there is no hook of stopguard that libvirt may run", cure: "stopguard install, or, if it is there, chmod 0755 " + h.Path(HookFile)}
}

func (h Host) gateState(p Processes) state {
	runs := p.Names[path.Base(GateProgram)]
	library, replaced := h.LibraryFile(p.Daemons)
	switch {
	case !h.InFront() && runs:
		return state{unknown: "a gate runs, and install did not put it in front of libvirt's daemon"}
	case !h.InFront() && library == "" && !replaced:
		return state{unknown: "libvirt is not found on this host"}
	case !h.InFront():
		return state{no: "no gate is in front of it", cure: "put one there: " + InstallGate}
	case h.Exists(GateOff):
		return state{no: "the gate is switched off", cure: "rm " + h.Path(GateOff)}
	}
	if h.Systemctl != nil {
		if err := h.SystemdAnswers(); err != nil {
			return state{unknown: err.Error()}
		}
	}
	if h.Systemctl == nil && runs || h.Systemctl != nil && h.IsActive(GateSocket) {
		return state{yes: true}
	}
	return state{no: "the gate does not run", cure: "systemctl enable --now " + GateSocket + " " + GateService}
}

// InstallGate is the command that puts the gate in front of libvirt's daemon. docs/gate.md explains
// FILE.
const InstallGate = "stopguard install --restart --gate FILE"

// CallsStop returns whether this libvirt calls the hook for a stop: yes, no or unknown. why is the
// evidence. cure is the action to take if the answer is not yes.
func (h Host) CallsStop(p Processes) (calls Answer, why, cure string) {
	file, replaced := h.LibraryFile(p.Daemons)
	var library Library
	var err error
	switch {
	case replaced:
		return Unknown, "the library that its daemon runs with was replaced since", "restart the daemon, and run this again"
	case file == "":
		why, cure = "its library, libvirt.so.0, is not found", "install libvirt, or run this on the host itself"
	default:
		library, err = ReadLibrary(file)
		if err == nil {
			err = errNoTable
		}
		why, cure = fmt.Sprintf("%s: %v", file, err), "stop a domain that does not matter, and look for it in "+h.Path(record.File)
	}
	switch {
	case slices.Contains(library.Operations, OperationStop):
		return Yes, file + " has it among its operations", ""
	case len(library.Operations) > 0:
		return No, fmt.Sprintf("%s calls its hook for other operations only (%s)", file, strings.Join(library.Operations, " ")),
			"put the gate in front of libvirt's daemon: " + InstallGate + "; or use a libvirt that has the stop operation"
	}
	if at, ok := h.recordedStop(p); ok {
		return Yes, fmt.Sprintf("%s; but the hook recorded a stop at %s", why, at.UTC().Format("2006-01-02 15:04:05 UTC")), ""
	}
	return Unknown, why + "; and no stop is recorded", cure
}

// Reads returns whether this libvirt looks for a hook at a path: yes, no or unknown. why is the
// evidence.
func (h Host) Reads(p Processes, hook string) (reads Answer, why string) {
	file, replaced := h.LibraryFile(p.Daemons)
	if replaced || file == "" {
		return Unknown, "the library of libvirt is not found"
	}
	library, err := ReadLibrary(file)
	if err != nil {
		return Unknown, fmt.Sprintf("%s: %v", file, err)
	}
	hasFolder, isKnown := library.HasHooksFolder()
	inFolder := path.Base(path.Dir(hook)) == "qemu.d"
	switch {
	case library.HooksFolder != "" && library.HooksFolder != HooksFolder:
		return No, fmt.Sprintf("this libvirt looks for hooks in %s, and not in %s", library.HooksFolder, HooksFolder)
	case inFolder && isKnown && !hasFolder:
		return No, fmt.Sprintf("this libvirt is %s, and only 6.5.0 and later look into qemu.d", library.Version)
	case library.HooksFolder == "":
		return Unknown, "where " + file + " looks for hooks is not found in it"
	case inFolder && !isKnown:
		return Unknown, "the version of " + file + ", and so whether it looks into qemu.d, is not found in it"
	}
	return Yes, fmt.Sprintf("libvirt %s looks for it there", library.Version)
}

// maxTail bounds the bytes at the end of the record that are read.
const maxTail = 4 << 20

// recordedStop finds the last veto or moot stop in the record that the hook has recorded. A record
// with a request comes from a gate or another program. The record has to be younger than the
// running daemons.
func (h Host) recordedStop(p Processes) (at time.Time, found bool) {
	if len(p.Daemons) == 0 {
		return time.Time{}, false // the caller of the hook was not a running daemon
	}
	f, err := os.OpenFile(h.Path(record.File), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return time.Time{}, false
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return time.Time{}, false
	} else if info.Size() > maxTail {
		if _, err := f.Seek(-maxTail, io.SeekEnd); err != nil {
			return time.Time{}, false
		}
	}
	lines := bufio.NewReader(io.LimitReader(f, maxTail))
	for {
		line, err := lines.ReadBytes('\n')
		var e struct {
			Result struct {
				Outcome string
				Request *struct{}
			}
			Timestamp time.Time
		}
		if json.Unmarshal(bytes.TrimSpace(line), &e) == nil && e.Result.Request == nil && (e.Result.Outcome == record.Veto || e.Result.Outcome == record.Moot) {
			at, found = e.Timestamp, true
		}
		if err != nil {
			break
		}
	}
	for _, daemon := range p.Daemons {
		found = found && at.After(daemon.Start)
	}
	return at, found
}
