// Package remote lets an agent, a process that stays, decide in place of the hook: it has its rules
// loaded already. Package serve, below it, is the agent's side.
//
// A hook works without an agent. The error is [NoAnswer] if the agent does not run, does not belong
// to root, is late, or returns an unreadable answer. Then the hook decides by itself. An answer has
// the same effect as a decision of the hook's own, byte for byte.
//
// The request is an HTTP/1.1 request over a Unix socket, built by hand: with net/http a program
// starts half a millisecond later, a quarter of its whole time. The package imports the standard
// library only.
package remote

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/stopguard/stopguard/hookproto"
)

// Socket is the path of the agent's socket.
const Socket = "/run/stopguard/agent.sock"

// Path is the URL's path. The method is POST, the body is the domain XML, and the query holds the
// hook's four arguments, each as arg=.
const Path = "/v1/hook"

// An Agent is an agent on this host. Its zero value is the one at [Socket].
type Agent struct {
	// Root is put before the socket's path, for tests. If it is set, the running user may own the
	// socket besides root.
	Root string
}

// Ask sends the event to the agent and waits for the answer until ctx is done. nil allows the stop,
// and [ErrMoot] allows it because the guest is gone. A [*hookproto.Veto] is a veto, a [NoAnswer] is
// a missing answer, and any other error is a fault. Ask is a [hookproto.Handler] that refuses if
// the answer is missing.
//
// The socket and all folders above it must be root's and writable by root alone, and root must have
// called listen(2). The kernel names only that process, not the one that accepts. Root may have
// passed the socket to another process, as systemd does, or have dropped its privileges since. Both
// are root's decision to trust that process, so Ask trusts it, too. No other user can put a socket
// there.
func (a Agent) Ask(ctx context.Context, e *hookproto.Event) error {
	conn, err := a.dial(ctx)
	if err != nil {
		return NoAnswer{err}
	}
	defer func() { _ = conn.Close() }()
	// Without an agent, stdin stays unread for the program that decides then.
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

// NoAnswer is the error for a missing answer. It does not say anything about the event.
type NoAnswer struct{ Err error }

func (n NoAnswer) Error() string {
	return fmt.Sprintf("the agent gives no answer: %v; look at it", n.Err)
}

// Unwrap returns Err.
func (n NoAnswer) Unwrap() error { return n.Err }

// trusts reports whether a user may own the socket and the folders above it.
func (a Agent) trusts(uid uint32) bool {
	return uid == 0 || a.Root != "" && int(uid) == os.Geteuid()
}

// checkOwner returns an error if users other than the owner can change the file, or if the owner is
// not trusted.
func (a Agent) checkOwner(name string, st *syscall.Stat_t) error {
	switch {
	case !a.trusts(st.Uid):
		return fmt.Errorf("%s is owned by uid %d", name, st.Uid)
	case st.Mode&0o002 != 0, st.Mode&0o020 != 0 && st.Gid != 0:
		return fmt.Errorf("%s is writable by others than its owner", name)
	}
	return nil
}
