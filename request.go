package stopguard

import (
	"context"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A Request asks for an operation on a domain at an enforcement point that is not a hook: one that
// sees requests before libvirt does, and knows the caller.
type Request struct {
	// Operation is one of [policy.Operations]. Any other is a fault.
	Operation string

	// EndsRun is set when a delete only ends a run, as the destroy of a transient domain does. Such
	// a delete is moot if the domain does not run.
	EndsRun bool

	// Deferred is set when the request only schedules the operation and there will be no later
	// chance to refuse it, such as starting a domain with autodestroy. It is decided although the
	// domain does not run.
	Deferred bool

	// Starting reports whether libvirt is about to start the domain. Its process may not be there
	// yet, or not be recognised, and counts as alive then. Starting is called only if no process is
	// found; if it returns false, the process is looked for once more. Its error is a fault. If
	// Starting is nil, a domain without a process does not run.
	Starting func(context.Context) (bool, error)

	// Procedure, Flags, Command and Destination are as in [policy.Request]; all may be left out.
	Procedure   string
	Flags       []string
	Command     string
	Destination string

	// Caller asks for the operation; nil if it is not known.
	Caller *policy.Caller

	// Call joins the request with others; nil if it stands alone.
	Call *Call

	// Domain is the domain as libvirt describes it now, that of the run if it runs.
	Domain *domainxml.Domain

	// Name and Err stand for a Domain that could not be read. Name is its name or UUID, as far as
	// it is known. Err is the reason: it is the answer, as a fault, and both are recorded. They are
	// ignored if Domain is set.
	Name string
	Err  error
}

// A Call joins the requests that are made for one call of a client about one domain, such as a
// modify and a delete. A ticket that lifts one of them lifts the others that it is for. Otherwise
// they would not find it again for a domain that is off, which has no run that holds it. The zero
// value joins the requests that it is set in. They must be decided one after the other.
type Call struct{ ticket ticket.Ticket }

// Decide returns a function that decides about requests by the host's own files, as [Handler]
// decides about the events of a hook: by the same rules, tickets and records. It returns nil to
// allow the operation and a *[hookproto.Veto] to refuse it. Any other error is a fault, which
// refuses as well. It is safe for concurrent use.
//
// A domain that does not run, or lives on without its guest, has nothing to be stopped, paused,
// reset or moved, and such a request is allowed. A modify and a delete are decided all the same. A
// caller that holds a request back must see to it that a domain for which it was allowed so has not
// been started when libvirt gets the request. A ticket that allows a stop also allows it when the
// hook asks about the same run of the domain.
//
// If ctx ends before the decision, that is a fault, and is recorded within a tenth of a second.
// It is later only if a policy is being compiled; see [policy.New].
func Decide(c Config) func(context.Context, Request) error {
	g := c.guard()
	return func(ctx context.Context, r Request) error {
		if r.Call == nil {
			r.Call = &Call{}
		}
		for _, name := range operation.Expand(r.Operation) {
			r.Operation = name
			if err := g.answer(ctx, question{request: &r, callTicket: &r.Call.ticket}); err != nil {
				return err
			}
		}
		return nil
	}
}

// decideWhenGone reports whether the request is decided even if the domain has no guest.
func (r Request) decideWhenGone() bool {
	return r.Operation == policy.OperationModify || r.Operation == policy.OperationDelete && !r.EndsRun || r.Deferred
}

// requestTTL is how long a domain may take to end after a request was allowed: a shutdown waits for
// the guest, a save or a migration for its memory.
const requestTTL = time.Hour

// allowedTTL returns for how long an end of the domain is not an escape, if the request is allowed.
func (r Request) allowedTTL() time.Duration {
	if !r.Deferred && (r.Operation == policy.OperationStop || r.Operation == policy.OperationMove) {
		return requestTTL
	}
	return 0
}

// recorded returns the request as a record has it.
func (r Request) recorded() *record.Request {
	request := &record.Request{Operation: r.Operation, Procedure: r.Procedure, UID: policy.UnknownID}
	if c := r.Caller; c != nil {
		request.UID, request.User, request.PID, request.Via, request.ViaPID = c.UID, c.User, c.PID, c.Via, c.ViaPID
	}
	return request
}
