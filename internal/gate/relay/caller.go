package relay

import (
	"errors"
	"sync"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/peer"
	"github.com/stopguard/stopguard/internal/gate/wire"
	"github.com/stopguard/stopguard/policy"
)

// A caller is the client behind the calls of a connection: the peer, or the client that the peer
// names. virtproxyd connects as root for each of its clients, and names the client before anything
// else.
type caller struct {
	peer     peer.Peer
	readOnly bool // the connection may only read

	mu      sync.Mutex
	known   *policy.Caller // nil until it is needed, because finding its names takes time
	offered *policy.Caller // the client that the peer names, until libvirtd has answered
	serial  uint32         // the serial of the call that offered it
	settled bool           // an identity was offered or a call is decided, so no identity is accepted any more
}

// get returns the caller with its names. It must not be changed.
func (c *caller) get() *policy.Caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		known := c.peer.Caller()
		known.ReadOnly = c.readOnly
		c.known = &known
	}
	return c.known
}

// attributes returns the caller as key-value pairs for the log.
func (c *caller) attributes() []any {
	known := c.get()
	all := []any{"uid", known.UID, "user", known.User, "pid", known.PID}
	if known.Via != "" {
		all = append(all, "via", known.Via, "via_pid", known.ViaPID)
	}
	return all
}

var (
	errSettled = &hookproto.Veto{Reason: "an identity is accepted once, before the first call that is decided"}
	errOffered = errors.New("libvirtd has not answered yet who the client is; wait for its answer to CONNECT_SET_IDENTITY")
)

// offer notes the identity in a call of CONNECT_SET_IDENTITY. The identity is used only after
// libvirtd has accepted it. offer returns the reason if the call is refused.
func (c *caller) offer(h wire.Header, args []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled {
		return errSettled
	}
	c.settled = true
	id, err := peer.ReadIdentity(args)
	if err != nil {
		return err
	}
	offered := c.peer.CallerOf(id)
	offered.ReadOnly = c.readOnly
	c.offered, c.serial = &offered, h.Serial
	return nil
}

// answered notes libvirtd's answer to an identity.
func (c *caller) answered(h wire.Header) {
	if h.Kind != wire.Reply || call.Of(h.Program, h.Procedure) != call.Identify {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.offered == nil || c.serial != h.Serial {
		return
	}
	if h.Status == wire.OK {
		c.known = c.offered
	}
	c.offered = nil
}

// settle is called for each call that is to be decided. It returns an error while libvirtd has not
// answered an identity, because the caller is unknown until then.
func (c *caller) settle() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	if c.offered != nil {
		return errOffered
	}
	return nil
}

// isIdle reports whether no identity waits for libvirtd's answer.
func (c *caller) isIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offered == nil
}

// isUser reports whether the caller is the peer itself, and has the UID.
func (c *caller) isUser(uid int) bool {
	known := c.get()
	return known.UID == uid && known.Via == ""
}

// carry sets the caller's part of the state. No identity may wait for libvirtd's answer.
func (c *caller) carry(k *ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.LoginUID, k.Service, k.Settled = c.peer.LoginUID, c.peer.Service, c.settled
	k.Unit, k.Executable = c.peer.Unit, c.peer.Executable
	if c.known != nil && c.known.Via != "" {
		k.Caller = c.known
	}
}

func (c *caller) take(k ConnState) {
	c.peer.LoginUID, c.peer.Service = k.LoginUID, k.Service
	c.peer.Unit, c.peer.Executable = k.Unit, k.Executable
	c.settled, c.known = k.Settled, k.Caller
}
