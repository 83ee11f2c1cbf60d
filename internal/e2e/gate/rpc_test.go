//go:build e2e

package e2e

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// Calls that no client at hand makes, or not with such flags or descriptors.

// args are the arguments of a call, written one after the other.
type args []byte

func about(g e2ehost.Guest) args {
	b, err := wire.AppendDomain(nil, g.Name, g.UUID)
	if err != nil {
		panic(err) // the guests are constants
	}
	return b
}

func (a args) string(s string) args   { return wire.AppendString(a, s) }
func (a args) u(n uint32) args        { return wire.AppendUint32(a, n) }
func (a args) hyper(n uint64) args    { return binary.BigEndian.AppendUint64(a, n) }
func (a args) optional(s string) args { return a.u(1).string(s) }
func (a args) none() args             { return a.u(0) }

// The flags of libvirt's that are set here, as its headers have them.
const (
	autodestroy    = 1 << 1
	dumpCrash      = 1 << 0
	dumpLive       = 1 << 1
	migrateLive    = 1 << 0
	migratePeer    = 1 << 1
	migrateUnsafe  = 1 << 9
	vcpuGuest      = 1 << 3
	abortPostCopy  = 1 << 0
	typedString    = 7
	noAgent        = "74 argument unsupported: QEMU guest agent is not configured"
	notSupported   = "3 this function is not supported by the connection driver: "
	nobodyListens  = "127.0.0.1:1"
	exclusiveFlags = "8 Flags 'VIR_DUMP_CRASH' and 'VIR_DUMP_LIVE' are mutually exclusive"
)

// An rpcCase is one call. On the protected guest it is vetoed, and the guest remains as it was; on
// another it is answered as without the gate.
type rpcCase struct {
	name               string
	program, procedure uint32
	args               func(e2ehost.Guest) args
	descriptor         bool   // one goes with it
	withFDs            bool   // it is of the kind that brings descriptors, and brings none
	off                bool   // it is about a guest that is off
	saved              string // its memory has been saved; "yes" if it still is afterwards on an unprotected guest, else "no"
	passes             bool   // on the protected guest too
	answer             string // the beginning of the answer for the unprotected guest
	holds              string // the answer's content has it
	after              string // how the state of the unprotected guest begins afterwards; "" if it runs on
}

var rpcCases = []rpcCase{
	{name: "DESTROY, of the kind with descriptors", program: call.Remote, procedure: domainDestroy, withFDs: true,
		args: about, answer: "ok", after: destroyed},
	{name: "SAVE_PARAMS", program: call.Remote, procedure: 440, answer: "ok", after: saved, args: func(g e2ehost.Guest) args {
		return about(g).u(1).string("file").u(typedString).string("/run/libvirt/" + g.Name + ".params").u(0)
	}},
	{name: "CORE_DUMP, crash and live", program: call.Remote, procedure: 53, answer: exclusiveFlags, args: func(g e2ehost.Guest) args {
		return about(g).string("/run/core").u(dumpCrash | dumpLive)
	}},
	{name: "CORE_DUMP_WITH_FORMAT, crash and live", program: call.Remote, procedure: 334, answer: exclusiveFlags, args: func(g e2ehost.Guest) args {
		return about(g).string("/run/core").u(0).u(dumpCrash | dumpLive)
	}},

	// The connection is closed after the answer, which ends the started guest.
	{name: "CREATE_XML, autodestroy", program: call.Remote, procedure: 10, off: true, answer: "ok", after: destroyed,
		args: func(g e2ehost.Guest) args { return args{}.string(g.XML()).u(autodestroy) }},
	{name: "CREATE_WITH_FLAGS, autodestroy", program: call.Remote, procedure: domainCreate, off: true, answer: "ok", after: destroyed,
		args: func(g e2ehost.Guest) args { return about(g).u(autodestroy) }},

	// Of libvirt's drivers only that of containers accepts descriptors.
	{name: "CREATE_WITH_FILES, autodestroy", program: call.Remote, procedure: 310, descriptor: true, off: true,
		answer: notSupported + "virDomainCreateWithFiles", after: off, args: func(g e2ehost.Guest) args { return about(g).u(autodestroy) }},
	{name: "CREATE_XML_WITH_FILES, autodestroy", program: call.Remote, procedure: 309, descriptor: true, off: true,
		answer: notSupported + "virDomainCreateXMLWithFiles", after: off, args: func(g e2ehost.Guest) args { return args{}.string(g.XML()).u(autodestroy) }},
	{name: "CREATE_WITH_FILES", program: call.Remote, procedure: 310, descriptor: true, off: true, passes: true,
		answer: notSupported + "virDomainCreateWithFiles", after: off, args: func(g e2ehost.Guest) args { return about(g).u(0) }},

	{name: "MONITOR_COMMAND_WITH_FILES that only asks", program: call.QEMU, procedure: 7, descriptor: true, passes: true, answer: "ok", holds: `"running":true`,
		args: func(g e2ehost.Guest) args { return about(g).string(`{"execute":"query-status"}`).u(0) }},
	{name: "MONITOR_COMMAND_WITH_FILES, a descriptor for QEMU", program: call.QEMU, procedure: 7, descriptor: true, answer: "ok", holds: `"return":{}`,
		args: func(g e2ehost.Guest) args {
			return about(g).string(`{"execute":"getfd","arguments":{"fdname":"given"}}`).u(0)
		}},
	{name: "MONITOR_COMMAND, which has it", program: call.QEMU, procedure: 1, answer: "ok", holds: `"return":{}`,
		args: func(g e2ehost.Guest) args {
			return about(g).string(`{"execute":"closefd","arguments":{"fdname":"given"}}`).u(0)
		}},
	{name: "MONITOR_COMMAND_WITH_FILES, stop", program: call.QEMU, procedure: 7, descriptor: true, answer: "ok", after: paused,
		args: func(g e2ehost.Guest) args { return about(g).string(`{"execute":"stop"}`).u(0) }},

	{name: "DETACH_DEVICE", program: call.Remote, procedure: 13, answer: "84 Operation not supported: This type of disk cannot be hot unplugged", args: func(g e2ehost.Guest) args {
		return about(g).string("<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" + g.Disk() + "'/><target dev='hda' bus='ide'/></disk>")
	}},
	{name: "BLOCK_REBASE", program: call.Remote, procedure: 266, answer: "ok", args: func(g e2ehost.Guest) args {
		return about(g).string("hda").none().hyper(0).u(0)
	}},

	// The guest has no agent.
	{name: "SET_USER_PASSWORD", program: call.Remote, procedure: 357, answer: noAgent, args: func(g e2ehost.Guest) args {
		return about(g).optional("root").optional("secret").u(0)
	}},
	{name: "AUTHORIZED_SSH_KEYS_SET", program: call.Remote, procedure: 425, answer: noAgent, args: func(g e2ehost.Guest) args {
		return about(g).string("root").u(1).string("ssh-ed25519 AAAA").u(1)
	}},
	{name: "SET_GUEST_VCPUS", program: call.Remote, procedure: 372, answer: noAgent, args: func(g e2ehost.Guest) args {
		return about(g).string("0").u(0).u(0)
	}},
	{name: "SET_VCPUS_FLAGS, in the guest", program: call.Remote, procedure: 199, answer: noAgent, args: func(g e2ehost.Guest) args {
		return about(g).u(1).u(1 | vcpuGuest)
	}},
	{name: "SET_VCPUS_FLAGS", program: call.Remote, procedure: 199, passes: true, answer: "ok", args: func(g e2ehost.Guest) args {
		return about(g).u(1).u(1)
	}},
	{name: "SET_TIME", program: call.Remote, procedure: 338, passes: true, answer: noAgent, args: func(g e2ehost.Guest) args {
		return about(g).hyper(1).u(0).u(0)
	}},

	{name: "ABORT_JOB_FLAGS, of a migration after its copy", program: call.Remote, procedure: 442, answer: "55 Requested operation is not valid: current job is not outgoing migration in post-copy mode",
		args: func(g e2ehost.Guest) args { return about(g).u(abortPostCopy) }},
	{name: "ABORT_JOB_FLAGS", program: call.Remote, procedure: 442, passes: true, answer: "55 Requested operation is not valid: no job is active on the domain",
		args: func(g e2ehost.Guest) args { return about(g).u(0) }},

	// The steps of migrations as clients before libvirt 1.1.0 make them.
	{name: "MIGRATE_BEGIN3", program: call.Remote, procedure: 213, answer: "ok", holds: "<qemu-migration>", args: func(g e2ehost.Guest) args {
		return about(g).none().hyper(migrateLive | migrateUnsafe).none().hyper(0)
	}},
	{name: "MIGRATE_PERFORM3", program: call.Remote, procedure: 216, answer: "38 ", args: func(g e2ehost.Guest) args {
		return about(g).none().u(0).optional("qemu+tcp://" + nobodyListens + "/system").none().hyper(migrateLive | migratePeer | migrateUnsafe).none().hyper(0)
	}},
	{name: "MIGRATE_PERFORM, from daemon to daemon", program: call.Remote, procedure: 62, answer: "38 ", args: func(g e2ehost.Guest) args {
		return about(g).u(0).string("qemu+tcp://" + nobodyListens + "/system").hyper(migrateLive | migratePeer | migrateUnsafe).none().hyper(0)
	}},
	// With the flag that calls it safe, stock libvirtd 9.0.0 would itself crash.
	{name: "MIGRATE_PERFORM", program: call.Remote, procedure: 62, answer: "81 Unsafe migration: ", args: func(g e2ehost.Guest) args {
		return about(g).u(0).string("tcp://" + nobodyListens).hyper(migrateLive).none().hyper(0)
	}},

	// A guest's memory that was saved is the guest.
	{name: "MANAGED_SAVE_DEFINE_XML", program: call.Remote, procedure: 389, off: true, saved: "yes", answer: "ok", after: saved,
		args: func(g e2ehost.Guest) args { return about(g).optional(g.XML()).u(0) }},
	{name: "SAVE_IMAGE_DEFINE_XML", program: call.Remote, procedure: 236, off: true, saved: "yes", answer: "ok", after: saved,
		args: func(g e2ehost.Guest) args {
			return args{}.string(savedFile(g)).string(g.XML()).u(0)
		}},
	{name: "MANAGED_SAVE_REMOVE", program: call.Remote, procedure: 184, off: true, saved: "no", answer: "ok", after: saved,
		args: func(g e2ehost.Guest) args { return about(g).u(0) }},

	// The guest that runs then does not have a mark: the XML here lacks it, unlike the definition.
	{name: "RESTORE_FLAGS, without the mark", program: call.Remote, procedure: 233, off: true, saved: "yes", answer: "ok",
		args: func(g e2ehost.Guest) args { return args{}.string(savedFile(g)).optional(g.XML()).u(0) }},
	{name: "RESTORE_PARAMS, without the mark", program: call.Remote, procedure: 441, off: true, saved: "yes", answer: "ok",
		args: func(g e2ehost.Guest) args {
			return args{}.u(2).string("file").u(typedString).string(savedFile(g)).string("dxml").u(typedString).string(g.XML()).u(0)
		}},
	{name: "CREATE_XML, without the mark", program: call.Remote, procedure: 10, off: true, answer: "ok",
		args: func(g e2ehost.Guest) args { return args{}.string(g.XML()).u(0) }},
}

// savedFile is where libvirt keeps the memory of a guest that is off.
func savedFile(g e2ehost.Guest) string { return "/var/lib/libvirt/qemu/save/" + g.Name + ".save" }

// call makes one call and returns the answer, "ok" or an error's code and text, and the answer's
// content.
func (r *raw) call(c rpcCase, g e2ehost.Guest, files ...int) (answer, content string) {
	h := wire.Header{Program: c.program, Version: 1, Procedure: c.procedure, Serial: 7}
	payload := c.args(g)
	if c.withFDs || len(files) > 0 {
		h.Kind = wire.CallWithFDs
		payload = append(args{}.u(uint32(len(files))), payload...)
	}
	if _, err := r.conn.Write(wire.Frame(h, payload)); err != nil {
		r.Fatalf("%v", err)
	}
	for _, fd := range files {
		if _, _, err := r.conn.(*net.UnixConn).WriteMsgUnix([]byte{0}, syscall.UnixRights(fd), nil); err != nil {
			r.Fatalf("%v", err)
		}
	}
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(r.conn, head); err != nil {
		r.Fatalf("%v", err)
	}
	got := wire.ReadHeader(head)
	body := make([]byte, got.Length-wire.HeaderSize)
	if _, err := io.ReadFull(r.conn, body); err != nil {
		r.Fatalf("%v", err)
	}
	if got.Program != c.program || got.Procedure != c.procedure || got.Serial != h.Serial || got.Kind != wire.Reply {
		r.Fatalf("%+v is answered by %+v", h, got)
	}
	if got.Status == wire.OK {
		return "ok", string(body)
	}
	e, err := wire.ReadError(body)
	if err != nil {
		r.Fatalf("%v", err)
	}
	return fmt.Sprint(e.Code, " ", e.Message), ""
}

// makes makes the call on a connection of its own, which is closed then.
func (h *host) makes(c rpcCase, path string, g e2ehost.Guest) e2ehost.Answer {
	r := h.connect(path).open()
	defer r.conn.Close()
	if !c.descriptor {
		answer, content := r.call(c, g)
		return e2ehost.Answer{Stderr: answer, Stdout: content}
	}
	ours, given, err := os.Pipe()
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer ours.Close()
	answer, content := r.call(c, g, int(given.Fd()))
	if err := given.Close(); err != nil {
		h.Fatalf("%v", err)
	}
	if answer != "ok" { // otherwise QEMU owns it
		_ = ours.SetReadDeadline(time.Now().Add(e2ehost.Patience))
		if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
			h.Fatalf("somebody keeps the descriptor: %v", err)
		}
	}
	return e2ehost.Answer{Stderr: answer, Stdout: content}
}

func (h *host) rpc() {
	h.begin()
	h.Run("ip", "link", "set", "lo", "up")
	for _, g := range []e2ehost.Guest{guarded, free, control} {
		h.Doing = g.Name + " is started"
		h.StartGuest(g)
	}
	for _, g := range []e2ehost.Guest{resting, away, away2} {
		g.Metadata = mark
		h.DirectOK("define", h.Write(g))
	}
	h.Remind(guarded)
	for _, c := range rpcCases {
		h.Doing = c.name
		protected, unprotected, other := guarded, free, control
		if c.off {
			protected, unprotected, other = resting, away, away2
		}
		if c.saved != "" {
			for _, g := range []e2ehost.Guest{protected, unprotected, other} {
				if !h.isSaved(g) {
					h.DirectOK("start", g.Name)
					h.DirectOK("managedsave", g.Name)
				}
			}
		}
		s := step{Name: c.name, Through: h.makes(c, gateSocket, protected), State: h.State(protected), Memory: h.memory(guarded), Saved: h.isSaved(protected)}
		h.seen = append(h.seen, s)
		h.redefine(guarded)
		h.Remind(guarded)
		s = step{Name: c.name}
		both(func() { s.Through = h.makes(c, gateSocket, unprotected) }, func() { s.Direct = h.makes(c, pastSocket, other) })
		reached := h.Within(e2ehost.Patience/2, func() bool { return c.reached(h.State(unprotected)) })
		if s.State = h.State(unprotected); !reached {
			s.State = "in vain: " + s.State
		}
		s.Saved = h.isSaved(unprotected)
		h.seen = append(h.seen, s)
		switch {
		case !c.off:
			both(func() { h.redefine(free) }, func() { h.redefine(control) })
		case c.after == "": // it runs
			both(func() { h.DirectOK("destroy", away.Name) }, func() { h.DirectOK("destroy", away2.Name) })
		}
	}
}

// isSaved reports whether libvirt stores the memory of a guest that is off.
func (h *host) isSaved(g e2ehost.Guest) bool {
	info := h.OnDirect("dominfo", g.Name)
	if info.Exit != 0 {
		h.Fatalf("%+v", info)
	}
	_, rest, _ := strings.Cut(info.Stdout, "Managed save:")
	return strings.TrimSpace(firstLine(rest)) == "yes"
}

func TestACallThatNoClientMakesIsVetoedOrAnsweredAsWithoutTheGate(t *testing.T) {
	seen := on(t, "rpc")
	if len(seen) != 2*len(rpcCases) {
		t.Fatalf("%d steps, want %d", len(seen), 2*len(rpcCases))
	}
	for i, c := range rpcCases {
		onProtected, onFree := seen[2*i], seen[2*i+1]
		t.Run(c.name, func(t *testing.T) {
			target, state, answer := guarded, "running", fmt.Sprint(wire.CodeAccessDenied, " ")
			if c.off {
				target, state = resting, off
			}
			if answer += strings.TrimPrefix(veto(target.Name), "error: "); c.passes {
				answer = c.answer
			}
			if got := onProtected.Through.Stderr; got != answer {
				t.Errorf("about the protected guest it is answered with %q, want %q", got, answer)
			}
			if c.saved != "" && (!onProtected.Saved || onFree.Saved != (c.saved == "yes")) {
				t.Errorf("the memory of the protected guest is kept: %v; of the other: %v", onProtected.Saved, onFree.Saved)
			}
			if !strings.HasPrefix(onProtected.State, state) || onProtected.Memory != e2ehost.Kept {
				t.Errorf("the protected guest is %s, the memory of the one that runs %s", onProtected.State, onProtected.Memory)
			}
			through, direct := onFree.Through, onFree.Direct
			if through.Stderr != direct.Stderr || !strings.HasPrefix(through.Stderr, c.answer) {
				t.Errorf("with the gate it is answered with %q, without it with %q; want %q", through.Stderr, direct.Stderr, c.answer)
			}
			if !strings.Contains(through.Stdout, c.holds) || !strings.Contains(direct.Stdout, c.holds) {
				t.Errorf("with the gate the answer holds %q, without it %q; want %q", through.Stdout, direct.Stdout, c.holds)
			}
			if !c.reached(onFree.State) {
				t.Errorf("the other guest is %s, want %q", onFree.State, c.after)
			}
			t.Log(through.Stderr)
		})
	}
}

// reached reports whether the unprotected guest is in the state that is wanted.
func (c rpcCase) reached(state string) bool {
	return strings.HasPrefix(state, cmp.Or(c.after, "running"))
}
