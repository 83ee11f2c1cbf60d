// Package remote asks a process that stays, an agent, in place of deciding in the hook itself: its rules are loaded
// already. Package serve, below it, is the agent's side.
//
// An agent is not needed for a hook to work: whatever is wrong with it (there is none, it is not root's, it is late, what it
// says cannot be read) is [NoAnswer], and the hook decides by itself. What it does say comes out as if it had been decided
// here, byte for byte.
//
// The question is an HTTP/1.1 request over a Unix socket, made by hand: with net/http a program starts half a millisecond
// later, which is a quarter of what it takes. The package imports the standard library only.
package remote

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/stopguard/stopguard/hookproto"
)

// Socket is where an agent listens.
const Socket = "/run/stopguard/agent.sock"

// Path is what it is asked at, with POST: the domain XML is the body, and the hook's four arguments are the query, each as
// arg=.
const Path = "/v1/hook"

// An Agent is an agent on this host. Its zero value is the one at [Socket].
type Agent struct {
	// Root is a folder below which the socket is looked for, for tests. With one, the running user may own it besides root.
	Root string
}

// Ask asks the agent about the event, for as long as ctx allows: nil allows, [ErrMoot] allows if the guest is gone, a
// [*hookproto.Veto] is a veto and a [NoAnswer] none; any other error is a fault. It is a [hookproto.Handler] that refuses if
// there is no answer.
//
// The socket and all folders above it must be root's and writable by root alone, and root must have called listen(2). The
// kernel names only that process: which one accepts is not known. Root may have given the socket to another, as systemd does,
// or have dropped its privileges since. Both are root's decision to trust that process, so Ask trusts it, too. No other user
// can put a socket there.
func (a Agent) Ask(ctx context.Context, e *hookproto.Event) error {
	conn, err := a.dial(ctx)
	if err != nil {
		return NoAnswer{err}
	}
	defer func() { _ = conn.Close() }()
	// Nothing is read without an agent: the XML is left to whoever decides then.
	xml, err := e.XML(ctx)
	if err != nil {
		return NoAnswer{err}
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err == nil {
		err = send(conn, e, xml)
	}
	if err != nil {
		return NoAnswer{err}
	}
	answer, err := receive(conn)
	if err != nil {
		return NoAnswer{err}
	}
	return answer.Err()
}

// NoAnswer is why there is no answer. It says nothing of the event.
type NoAnswer struct{ Err error }

func (n NoAnswer) Error() string {
	return fmt.Sprintf("the agent gives no answer: %v; look at it", n.Err)
}

// Unwrap gives Err.
func (n NoAnswer) Unwrap() error { return n.Err }

// trusts reports whether a user's word counts.
func (a Agent) trusts(uid uint32) bool {
	return uid == 0 || a.Root != "" && int(uid) == os.Geteuid()
}

// judge is an error if others than the owner can change what st is about, or the owner does not count.
func (a Agent) judge(name string, st *syscall.Stat_t) error {
	switch {
	case !a.trusts(st.Uid):
		return fmt.Errorf("%s is owned by uid %d", name, st.Uid)
	case st.Mode&0o002 != 0, st.Mode&0o020 != 0 && st.Gid != 0:
		return fmt.Errorf("%s is writable by others than its owner", name)
	}
	return nil
}
