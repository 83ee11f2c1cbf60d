package stopguard

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/policy"
)

// fleetTime bounds the time that a decision spends on its fleet.
const fleetTime = time.Second

// fleetMargin is how much of a decision's time the fleet leaves to the rest of it.
const fleetMargin = 250 * time.Millisecond

// A fleetDecision is one decision's view of the groups of the fleet that its domain belongs to. For
// a domain of no such group it asks nothing.
type fleetDecision struct {
	ask    func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error)
	domain *domainxml.Domain
	groups []policy.FleetGroup
	ctx    context.Context // ends when the time for the fleet is over
	cancel context.CancelFunc

	counts    []remote.FleetGroup // in the order of groups; nil if they are not known
	err       error               // why they are not known
	conflicts int
}

// fleetDecision reads the groups that could refuse the operation. deciding says that a reservation
// may follow.
func (g guard) fleetDecision(ctx context.Context, engine *policy.Engine, operation string, domain *domainxml.Domain, deciding bool) *fleetDecision {
	d := &fleetDecision{ask: g.Fleet, domain: domain, groups: engine.FleetGroupsOf(operation, domain), ctx: ctx, cancel: func() {}}
	if len(d.groups) == 0 {
		return d
	}
	end := time.Now().Add(fleetTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-fleetMargin).Before(end) {
		end = deadline.Add(-fleetMargin)
	}
	d.ctx, d.cancel = context.WithDeadline(ctx, end)
	d.take(d.ask(d.ctx, remote.FleetRequest{Groups: d.names(), Deciding: deciding}))
	return d
}

func (d *fleetDecision) names() []string {
	var names []string
	for _, g := range d.groups {
		names = append(names, g.Name)
	}
	return names
}

// take sets the counts, or the error, from an answer of the agent.
func (d *fleetDecision) take(answer remote.FleetAnswer, err error) {
	var missing remote.NoAnswer
	switch {
	case errors.As(err, &missing):
		err = fmt.Errorf("the agent does not answer (%w)", missing.Err)
	case err == nil && answer.Error != "":
		err = errors.New(answer.Error)
	}
	if err == nil {
		isSame := func(a remote.FleetGroup, b policy.FleetGroup) bool { return a.Name == b.Name }
		if !slices.EqualFunc(answer.Groups, d.groups, isSame) {
			err = errors.New("the agent answers about other groups")
		}
	}
	d.counts, d.err = answer.Groups, err
	if err != nil {
		d.counts = nil
	}
}

// input returns the groups as rules see them.
func (d *fleetDecision) input() policy.Fleet {
	var f policy.Fleet
	for i, g := range d.groups {
		count := policy.FleetCount{Name: g.Name}
		if d.err != nil {
			count.Error = problem.OneLine(d.err.Error())
		} else {
			for _, m := range d.counts[i].Members {
				count.Members = append(count.Members, policy.FleetMember{Name: m.Name, UUID: m.UUID, Host: m.Host, Since: m.Since, Reserved: m.Reserved})
			}
		}
		f.Groups = append(f.Groups, count)
	}
	return f
}

// reserve reserves the operation that was allowed. It reports false if the groups have changed, or
// if the reservation could not be made: the rules must then be asked once more, by what is known
// now.
func (d *fleetDecision) reserve(r remote.Reservation) bool {
	var ok bool
	if r.Groups, ok = d.membersToStay(); !ok {
		return true
	}
	answer, err := d.ask(d.ctx, remote.FleetRequest{Groups: d.names(), Deciding: true, Reserve: &r})
	if err == nil && answer.Reserved {
		return true
	}
	if err == nil && answer.Error == "" {
		d.conflicts++
	}
	d.take(answer, err)
	if d.err != nil && d.conflicts > 0 && d.ctx.Err() != nil {
		d.err = errors.New("the group changed again and again while it was decided")
	}
	return false
}

// force reserves an operation that a ticket has let go, whatever the groups are.
func (d *fleetDecision) force(r remote.Reservation) error {
	if len(d.groups) == 0 {
		return nil
	}
	r.Forced = true
	for _, name := range d.names() {
		r.Groups = append(r.Groups, remote.FleetGroup{Name: name, Members: []remote.FleetMember{}})
	}
	answer, err := d.ask(d.ctx, remote.FleetRequest{Groups: d.names(), Deciding: true, Reserve: &r})
	if err == nil && !answer.Reserved {
		err = errors.New(answer.Error)
	}
	if err != nil {
		return fmt.Errorf("that the domain was let go could not be reserved in the fleet, so it counts as running until its host sees it gone: %w", err)
	}
	return nil
}

// membersToStay returns the groups with the members that must still run when the operation is
// reserved: as many as the group needs, and those whose entries are the oldest. It reports false if
// a group has fewer: the rule does not hold for the domain then, for it was allowed.
func (d *fleetDecision) membersToStay() ([]remote.FleetGroup, bool) {
	if len(d.groups) == 0 || d.err != nil {
		return nil, false
	}
	var groups []remote.FleetGroup
	for i, g := range d.groups {
		count := d.counts[i]
		others := slices.DeleteFunc(slices.Clone(count.Members), func(m remote.FleetMember) bool {
			return m.Reserved || m.UUID == d.domain.UUID || m.Name == d.domain.Name
		})
		if len(others) < g.Min {
			return nil, false
		}
		slices.SortStableFunc(others, func(a, b remote.FleetMember) int { return cmp.Compare(a.Revision, b.Revision) })
		count.Members = others[:g.Min]
		groups = append(groups, count)
	}
	return groups, true
}

// reservation returns what the fleet notes of an operation that was allowed.
func (d *decision) reservation() remote.Reservation {
	r := remote.Reservation{
		ID: rand.Text(), Name: d.domain.Name, UUID: d.domain.UUID,
		PID: d.entry.incarnation.PID, Start: d.entry.incarnation.Start, Operation: d.question.operation(),
	}
	if t := d.entry.event.Result.Ticket; t != nil {
		r.Ticket, r.Requester = t.ID, t.Requester
	}
	if q := d.question; q.request != nil && q.request.Caller != nil {
		r.Requester = cmp.Or(q.request.Caller.User, strconv.Itoa(q.request.Caller.UID))
	}
	return r
}

// isReserved reports whether an operation that the rules allow is reserved in the fleet.
func (d *decision) isReserved(answer policy.Decision) bool {
	q := d.question
	return answer.Unenforced == "" && d.engine.EnforcesFleetGroups(q.operation()) && (q.request == nil || !q.request.Deferred)
}

// askingOnce returns a function that asks about the same groups once only, for a program that looks
// at many domains and reserves nothing.
func askingOnce(ask func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error)) func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error) {
	type result struct {
		answer remote.FleetAnswer
		err    error
	}
	known := map[string]result{}
	var failed *result // the next one would wait as long, and in vain
	return func(ctx context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
		if failed != nil {
			return failed.answer, failed.err
		}
		key := fmt.Sprintf("%q", r.Groups)
		got, ok := known[key]
		if !ok {
			got.answer, got.err = ask(ctx, r)
			known[key] = got
			if got.err != nil || got.answer.Error != "" {
				failed = &got
			}
		}
		return got.answer, got.err
	}
}
