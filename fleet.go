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

// fleetMargin is the time between the deadline for the fleet and that of the decision.
const fleetMargin = 250 * time.Millisecond

// A fleetDecision is one decision's view of the groups of the fleet that its domain belongs to. If
// the domain belongs to no group, the agent is not asked.
type fleetDecision struct {
	ask    func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error)
	domain *domainxml.Domain
	groups []policy.FleetGroup
	ctx    context.Context // ends when the time for the fleet is over
	cancel context.CancelFunc

	counts    []remote.FleetGroup // in the order of groups; nil if they are not known
	err       error               // the reason if counts are not known
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

// reserve reserves the allowed operation in the fleet. It returns false if the groups have changed,
// or if the reservation failed. The caller must then evaluate the rules again, with the new counts.
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

// force reserves an operation that a ticket allows, whoever else runs.
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
// reserved: as many as the group needs, and those whose entries are the oldest. It returns false if
// nothing is to be reserved: the domain is in no group, the counts are not known, or a group has
// fewer members. The rules allowed the operation all the same.
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

// reservation returns the fleet's entry for the allowed operation.
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

// cachedFleet returns ask with a cache of the answers, for a program that examines many domains and
// reserves nothing. After a failure it returns that failure for all groups. Otherwise the program
// could wait for the timeout once for each group.
func cachedFleet(ask func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error)) func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error) {
	type result struct {
		answer remote.FleetAnswer
		err    error
	}
	cache := map[string]result{}
	var failure *result
	return func(ctx context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
		if failure != nil {
			return failure.answer, failure.err
		}
		key := fmt.Sprintf("%q", r.Groups)
		entry, ok := cache[key]
		if !ok {
			entry.answer, entry.err = ask(ctx, r)
			cache[key] = entry
			if entry.err != nil || entry.answer.Error != "" {
				failure = &entry
			}
		}
		return entry.answer, entry.err
	}
}
