package stopguard

import (
	"context"
	"fmt"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// endReasons are the descriptions of a domain's end, by the last argument of a release since
// libvirt 10.5.0.
var endReasons = map[string]string{
	"-":             "libvirt did not say why; if it failed to start, it never ran",
	"unknown":       "libvirt does not know why",
	"shutdown":      "its guest shut down",
	"destroyed":     "it was destroyed without the guard being asked",
	"crashed":       "its guest or its process crashed",
	"saved":         "it was saved to a file",
	"from snapshot": "it was reverted to a snapshot",
	"daemon":        "libvirt's daemon stopped it",
}

// The reasons of a release that are not an escape, or not always.
const (
	endedMigrated  = "migrated"  // it runs on another host
	endedFailed    = "failed"    // it never ran
	endedDestroyed = "destroyed" // libvirt may have started it anew
)

// release records, after the fact, that a protected domain went down although no stop of it was
// allowed. Nothing depends on its answer.
func (g guard) release(ctx context.Context, e *hookproto.Event) {
	a := g.newEntry(e.Domain)
	domain, err := releasedDomain(ctx, e)
	if domain != nil {
		a.setDomain(domain, hookproto.Process{})
		a.report(ticket.Store{Root: g.Root}.MarkUsed(a.incarnation, g.Now())...)
		if g.wasAllowed(domain.UUID) {
			return
		}
	}
	if e.Extra == endedFailed {
		return
	}
	protected := false
	if err == nil {
		protected, err = g.wasProtected(ctx, domain, &a)
	}
	switch {
	case err != nil:
		a.event.Result.Outcome = record.Fault
		a.event.Result.Detail = "whether the domain that went down was protected cannot be told: " + err.Error()
	case !protected:
		return
	default:
		a.event.Result.Outcome, a.event.Result.Detail = outcomeOf(e.Extra, domain)
		if a.event.Result.Outcome == record.Escape {
			a.event.Result.Detail += g.lastDecision(domain.UUID)
		}
	}
	_ = g.record(ctx, a) // a release does not have a caller that could read the error
}

// releasedDomain returns the domain that a release is about, or the head of one whose XML is too
// large. With an error it returns the head if that can be read, and else nil: the head has the
// UUID, by which an allowed end is found.
func releasedDomain(ctx context.Context, e *hookproto.Event) (*domainxml.Domain, error) {
	xml, err := e.XML(ctx)
	if err != nil && err != hookproto.ErrTooLarge {
		return nil, err
	}
	domain, err := parse(xml, err == hookproto.ErrTooLarge)
	if err == nil {
		return domain, nil
	}
	head, headErr := domainxml.ParseHead(xml)
	if headErr != nil || !isNamed(head, e.Domain) {
		return nil, err
	}
	return head, err
}

// wasProtected asks the policy whether it would have refused a stop of the domain as it was.
func (g guard) wasProtected(ctx context.Context, domain *domainxml.Domain, a *auditEntry) (bool, error) {
	engine, err := g.Engine(ctx)
	if err != nil {
		return false, err
	}
	running := g.runningDomains(false)
	defer running.close()
	in, err := g.input(ctx, engine, domain, hookproto.Process{}, running)
	if err != nil {
		return false, err
	}
	a.setInput(engine, in)
	decision, err := engine.Decide(ctx, in)
	decision = vetoUnread(decision, domain)
	recorded.Decision(&a.event, decision)
	return decision.Outcome == policy.Veto, err
}

// outcomeOf distinguishes an escape from a migration, which ends a domain here and continues it
// elsewhere, and from a reboot of a TDX guest, whose process libvirt (since 11.6) ends and starts
// anew.
func outcomeOf(reason string, domain *domainxml.Domain) (outcome, detail string) {
	switch {
	case reason == endedMigrated:
		return record.Allow, "it was migrated to another host"
	case reason == endedDestroyed && isTDX(domain):
		return record.Allow, "its guest rebooted, or it was destroyed: libvirt ends the process of a TDX guest for both, and does not say which"
	}
	detail, known := endReasons[reason]
	if !known {
		detail = "libvirt says: " + reason
	}
	return record.Escape, detail
}

// isTDX reports whether the domain's memory is protected by Intel TDX.
func isTDX(domain *domainxml.Domain) bool {
	whole, err := domain.Libvirt()
	return err == nil && whole != nil && whole.LaunchSecurity != nil && whole.LaunchSecurity.TDX != nil
}

// lastDecision describes the last recorded decision about the domain before it went down, such as a
// shutdown that was allowed too long ago to be the cause, or a veto that was bypassed. It returns
// "" if the host's record does not have one, as when the program records elsewhere.
func (g guard) lastDecision(uuid string) string {
	last, ok := record.Recorder{Root: g.Root}.Last(uuid)
	if !ok {
		return ""
	}
	request := "a stop, by the hook"
	if r := last.Result.Request; r != nil {
		request = r.String()
	}
	return fmt.Sprintf("; last asked at %s: %s, %s", last.Timestamp.UTC().Format(time.RFC3339), request, last.Result.Outcome)
}
