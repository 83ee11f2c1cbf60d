package stopguard

import (
	"context"
	"errors"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// A Request asks for an operation on a domain at an enforcement point that is no hook: one that sees requests before libvirt
// does, and knows who makes them.
type Request struct {
	// Operation is what is asked for: one of [policy.Operations]. Any other is a fault.
	Operation string

	// Ahead says that the operation is one to come, which nobody will be able to refuse then: as of a start that has libvirt
	// stop the domain when a connection is closed. It is decided although the domain does not run.
	Ahead bool

	// Starting tells whether libvirt is about to start the domain: its process may not be there yet, or not be known for what
	// it is, and counts as alive then. It is called only if nothing of the domain is found, which is looked for once more
	// if it says no. Its error is a fault. nil if libvirt is not.
	Starting func(context.Context) (bool, error)

	// Procedure, Flags, Command and Destination are as in [policy.Request]; all may be left out.
	Procedure   string
	Flags       []string
	Command     string
	Destination string

	// Caller is who asks; nil where that is not known.
	Caller *policy.Caller

	// Domain is the domain as libvirt describes it now, that of the run if it runs.
	Domain *domainxml.Domain

	// Name and Err stand for a Domain that could not be had: what is known of its name, perhaps its UUID, and why. Err is the
	// answer then, as a fault, and both are recorded. They are not looked at beside a Domain.
	Name string
	Err  error
}

// Decide makes what decides about requests by the host's own files, as [Handler] decides about the events of a hook: by the
// same rules, tickets and records. Its answer is nil if libvirt may be asked, a *[hookproto.Veto], or any other error, which
// is a fault and refuses as well. It is safe for concurrent use.
//
// A domain that does not run, or lives on without its guest, has nothing to be stopped, paused, reset or moved, and such a
// request is let go; to tamper with it is decided all the same. Whoever holds a request back must see to it that a domain
// which was let go so has not been started when libvirt gets to it. Where a stop is let go by a ticket, that ticket is good for
// the hook's question about the same run of the domain, too.
//
// It decides no longer than until ctx is done, which then is a fault, and has that recorded within a tenth of a second. Only a
// policy that is being compiled then is waited for, as [policy.New] says.
func Decide(c Config) func(context.Context, Request) error {
	g := c.guard()
	return func(ctx context.Context, r Request) error {
		return g.answer(ctx, question{
			operation: r.Operation,
			name:      r.Name,
			unmoot:    r.unmoot(),
			request:   policy.Request{Procedure: r.Procedure, Flags: r.Flags, Command: r.Command, Destination: r.Destination},
			caller:    r.Caller,
			asked:     r.asked(),
			letGoFor:  r.letGoFor(),
			subject:   func(ctx context.Context) (*domainxml.Domain, hookproto.Process, error) { return g.requested(ctx, r) },
		})
	}
}

// unmoot reports whether the request is decided also where no guest is left.
func (r Request) unmoot() bool { return r.Operation == policy.OperationTamper || r.Ahead }

// requested gives the domain that a request is about, and its process.
func (g guard) requested(ctx context.Context, r Request) (*domainxml.Domain, hookproto.Process, error) {
	switch {
	case r.Domain == nil && r.Err != nil:
		return nil, hookproto.Process{}, r.Err
	case r.Domain == nil:
		return nil, hookproto.Process{}, errors.New("the request names no domain; ask with what domainxml.Parse gives")
	case r.Domain.Name == "" || r.Domain.UUID == "":
		return nil, hookproto.Process{}, errors.New("the request's domain has no name or no UUID; ask with what domainxml.Parse gives")
	}
	look := func() hookproto.Process { return g.identify(g.state.Process(r.Domain.Name), r.Domain) }
	process := look()
	if !process.Gone() || r.unmoot() || r.Starting == nil {
		return r.Domain, process, nil
	}
	starting, err := r.Starting(ctx)
	switch {
	case err != nil:
		return r.Domain, process, err
	case starting:
		return r.Domain, hookproto.Process{}, nil
	}
	// It may have started since, and no longer be starting.
	return r.Domain, look(), nil
}

// requestLasts is for how long a domain that a request let go may take to end: when a shutdown ends is for its guest to say,
// and how long a save or a migration takes for its memory.
const requestLasts = time.Hour

// letGoFor is for how long an end of the domain is no escape, if the request is let go.
func (r Request) letGoFor() time.Duration {
	if !r.Ahead && (r.Operation == policy.OperationStop || r.Operation == policy.OperationMove) {
		return requestLasts
	}
	return 0
}

// asked is what a record says of the request, whatever becomes of it.
func (r Request) asked() *record.Request {
	asked := &record.Request{Operation: r.Operation, Procedure: r.Procedure, UID: policy.UnknownID}
	if c := r.Caller; c != nil {
		asked.UID, asked.User, asked.PID = c.UID, c.User, c.PID
	}
	return asked
}
