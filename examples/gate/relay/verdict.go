package relay

import "context"

// A Verdict decides about a request: nil lets the call pass, a *hookproto.Veto is a veto, every other error a fault. It is
// called from many goroutines at once, and should return when ctx is done; a call is refused then in any case.
type Verdict func(ctx context.Context, r Request) error

// A Request is what a client asks libvirtd to do to a domain.
type Request struct {
	Operation   string   // Operation is stop, pause, reset, move or tamper.
	Procedure   string   // Procedure is libvirt's name for the call, such as DOMAIN_DESTROY_FLAGS.
	Flags       []string // Flags are the call's flags in libvirt's words, such as graceful; never nil.
	Command     string   // Command is the text for the monitor or the guest agent; "" for other calls.
	Destination string   // Destination is where a migration goes, as far as the call says; "" for other calls.
	Caller      Caller
	XML         []byte // XML is the domain as libvirtd has it now; that of a domain that is off has no id.
}

// A Caller is the process that opened the connection.
type Caller struct {
	UID      int
	LoginUID int    // LoginUID is who logged in, whoever they have become since; -1 if that cannot be told.
	User     string // User is the name of UID; "" if the host's files have none.
	GID      int
	Groups   []string // Groups are the names, or where there is none the numbers, of all its groups when it connected.
	PID      int
	ReadOnly bool // ReadOnly: it came by the socket for those who may only look.
}
