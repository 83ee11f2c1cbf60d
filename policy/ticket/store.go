package ticket

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy"
)

// A Store holds the tickets of a host. Its zero value holds those of this host. Any number of
// goroutines and processes may use the same tickets at once.
//
// Methods return reports about files that could not be read, trusted, parsed or written. Each is an
// error of one line, "ticket: WHAT; WHAT TO DO". A report changes no decision.
type Store struct {
	// Root is the folder below which the host's files lie; "" is "/".
	Root string

	// Required are the approvals without which Take does not take a ticket; nil means none. It is
	// [policy.Engine.Approvals] for the domain and the operation.
	Required *policy.Approvals

	boot func() (boot, error) // replaced by tests; nil means hostBoot
}

func (s Store) now() (boot, error) {
	if s.boot != nil {
		return s.boot()
	}
	return hostBoot()
}

// Grant stores a ticket and returns it with its ID. The caller sets Domain or Name, Operation,
// Reason, Requester and NotAfter, which must be later than now by at most 30 days. The ticket is
// synced to disk as a whole or not stored. The folder is created if it is missing. An error is one
// line, "ticket: WHAT; WHAT TO DO".
//
// Grant also removes tickets that expired more than a week ago.
func (s Store) Grant(t Ticket, now time.Time) (Ticket, error) {
	t.ID, t.Approval = newID(), nil
	return s.grant(t, now)
}

// grant stores a ticket that has its ID.
func (s Store) grant(t Ticket, now time.Time) (Ticket, error) {
	if err := t.check(); err != nil {
		return Ticket{}, err
	}
	t.Domain = uuid.Canonical(t.Domain)
	t.Granted, t.NotAfter = now.UTC().Round(0), t.NotAfter.UTC().Round(0)
	if err := t.checkTime(); err != nil {
		return Ticket{}, err
	}
	at, err := s.now()
	if err != nil {
		return Ticket{}, err
	}
	t.Boot, t.Deadline = at.id, at.nanos+int64(t.NotAfter.Sub(t.Granted))
	if err := s.create(); err != nil {
		return Ticket{}, err
	}
	f, err := s.open()
	if err != nil {
		return Ticket{}, err
	}
	if f == nil {
		return Ticket{}, failure(home+": was removed while a ticket was granted", "try again")
	}
	defer f.Close()
	c, _ := f.list() // sweep may remove the surplus that is the error
	f.sweep(c, now)
	if c, err = f.list(); err != nil {
		return Ticket{}, err
	}
	if len(c.ids) >= maxTickets {
		return Ticket{}, failure(fmt.Sprintf("%s: holds %d tickets already", show(f.path), maxTickets), "revoke what is not needed")
	}
	data, err := t.encode()
	if err != nil {
		return Ticket{}, failure("the time cannot be written: "+err.Error(), "correct the clock")
	}
	if err := f.put(t.ID+".json", data, false); err != nil {
		return Ticket{}, err
	}
	return t, nil
}

func newID() string {
	id := make([]byte, 8)
	rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// Take returns a ticket that permits the operation on this incarnation of the named domain, and
// claims it unless the incarnation holds it already. ok is false if no ticket permits it. Call Take
// only to do the operation, never to see whether it would be permitted.
//
// One incarnation claims a ticket for a single domain; of several that call Take at once, one gets
// it. Every incarnation claims a ticket for the whole host for itself. A claim survives the process
// that made it: later calls, from any process, return the same ticket until it expires, is revoked
// or is marked as used. A second attempt therefore needs no second ticket. A ticket expires when
// now is after NotAfter, when the time since boot is after Deadline, or when the host reboots.
//
// If several tickets match, Take prefers a ticket that the incarnation holds, then one for the
// single domain, then the first to expire, then the lowest ID.
//
// An incarnation without a PID or start time cannot be told from the domain's next one. It takes a
// ticket for one stop only, and the next call takes another.
func (s Store) Take(in policy.Incarnation, name, operation string, now time.Time) (t Ticket, ok bool, reports []error) {
	in = normalized(in)
	if in.UUID == "" {
		return Ticket{}, false, []error{failure("the domain to be stopped has no UUID that is one", "give the UUID of its XML")}
	}
	f, c, at, reports := s.look()
	if f == nil {
		return Ticket{}, false, reports
	}
	defer f.Close()

	var fitting []Ticket
	for _, id := range c.ids {
		t, err := f.ticket(id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // revoked since the folder was listed
		case err != nil:
			reports = append(reports, err)
		case t.fits(in.UUID, name, operation) && !t.expired(now, at):
			if err := s.Approved(t, s.Required); err != nil {
				reports = append(reports, err)
				continue
			}
			fitting = append(fitting, t)
		}
	}
	slices.SortFunc(fitting, compare)

	var unclaimed []Ticket
	for _, t := range fitting {
		c, err := f.claim(t, t.claimName(in))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			unclaimed = append(unclaimed, t)
		case err != nil:
			reports = append(reports, err)
		case c.holds(in):
			step("claim seen")
			there, err := f.isCurrent(t)
			if there {
				return t, true, reports
			}
			if err != nil {
				reports = append(reports, err)
			}
		}
	}
	for _, t := range unclaimed {
		taken, err := f.take(t, in, name, now)
		if taken {
			return t, true, reports
		}
		if err != nil {
			// A write that failed for this ticket would fail for the next one, too.
			return Ticket{}, false, append(reports, &TakeError{t.ID, err})
		}
	}
	return Ticket{}, false, reports
}

// take claims a ticket for an incarnation.
func (f *folder) take(t Ticket, in policy.Incarnation, domain string, now time.Time) (bool, error) {
	name := t.claimName(in)
	mine := claim{Ticket: t.ID, UUID: in.UUID, PID: in.PID, Start: in.Start, Name: cut(domain), Taken: now.UTC().Round(0)}
	data, err := encode(mine)
	if err != nil {
		return false, failure("the time cannot be written: "+err.Error(), "correct the clock")
	}
	err = f.put(name, data, false)
	if errors.Is(err, fs.ErrExist) { // another process was faster, perhaps for the same incarnation
		c, err := f.claim(t, name)
		if errors.Is(err, fs.ErrNotExist) { // the ticket was revoked since
			return false, nil
		}
		if err != nil || !c.holds(in) {
			return false, err
		}
		return f.isCurrent(t)
	}
	if err != nil {
		return false, err
	}
	there, err := f.isCurrent(t)
	step("ticket seen again")
	if !there && err == nil {
		f.Remove(name)
	}
	return there, err
}

// isCurrent reports whether a ticket is unchanged after its claim was read. Otherwise the ticket
// could have been revoked together with another incarnation's claim, and this incarnation would be
// the second.
func (f *folder) isCurrent(t Ticket) (bool, error) {
	current, err := f.ticket(t.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	is, err := current.encode()
	if err != nil {
		return false, err
	}
	was, err := t.encode()
	return err == nil && bytes.Equal(is, was), err
}

// cut bounds the name of a domain, which a claim holds for display only.
func cut(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxText)], "\uFFFD")
}

// holds reports whether this is an unused claim of exactly this incarnation.
func (c claim) holds(in policy.Incarnation) bool {
	return c.Used.IsZero() && in.PID != 0 && c.incarnation() == in
}

// Permits reports whether the ticket is for an operation.
func (t Ticket) Permits(asked string) bool {
	return t.Operation == asked || operation.Covers(t.Operation, asked)
}

func (t Ticket) fits(uuid, name, asked string) bool {
	if !t.Permits(asked) {
		return false
	}
	if !t.HostWide() {
		return t.Domain == uuid
	}
	return name != "" && glob.Match(t.Name, name)
}

func (t Ticket) expired(now time.Time, at boot) bool {
	return now.After(t.NotAfter) || t.Boot != at.id || at.nanos > t.Deadline
}

// look opens the folder and lists it. The folder is nil if there are no tickets, or if none can be
// validated.
func (s Store) look() (*folder, contents, boot, []error) {
	f, err := s.open()
	if err != nil {
		return nil, contents{}, boot{}, []error{err}
	}
	if f == nil {
		return nil, contents{}, boot{}, nil
	}
	at, err := s.now()
	if err != nil {
		f.Close()
		return nil, contents{}, boot{}, []error{err}
	}
	c, err := f.list()
	if err != nil {
		f.Close()
		return nil, contents{}, boot{}, []error{err}
	}
	return f, c, at, c.report(f)
}

// MarkUsed marks the tickets of an incarnation that has ended as used. Without a PID or start time,
// which are unknown once a process is gone, it marks those of every incarnation of the domain. That
// is right for libvirt's release, during which the domain cannot start again. Marking twice changes
// nothing. A ticket that cannot be marked is reported; it permits nothing to a later incarnation.
func (s Store) MarkUsed(in policy.Incarnation, now time.Time) (reports []error) {
	in = normalized(in)
	if in.UUID == "" {
		return []error{failure("the domain that ended has no UUID that is one", "give the UUID of its XML")}
	}
	f, c, _, reports := s.look()
	if f == nil {
		return reports
	}
	defer f.Close()
	for _, id := range c.ids {
		if len(c.claims[id]) == 0 {
			continue
		}
		t, err := f.ticket(id)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				reports = append(reports, err)
			}
			continue
		}
		for _, name := range c.claims[id] {
			if t.HostWide() && !strings.HasPrefix(name, t.ID+"."+in.UUID+".") { // there may be thousands
				continue
			}
			held, err := f.claim(t, name)
			if err == nil && held.Used.IsZero() && held.endsWith(in) {
				held.Used = now.UTC().Round(0)
				var data []byte
				if data, err = encode(held); err == nil {
					err = f.put(name, data, true)
				}
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				reports = append(reports, err)
			}
		}
	}
	return reports
}

// endsWith reports whether the claim ends with that incarnation. An unknown incarnation counts as
// the same one, because a domain has one at a time.
func (c claim) endsWith(in policy.Incarnation) bool {
	return c.UUID == in.UUID && (in.PID == 0 || c.PID == 0 || c.incarnation() == in)
}

// List returns every ticket with its state, the first to expire first. Other files are reported.
func (s Store) List(now time.Time) (list []Listed, reports []error) {
	f, c, at, reports := s.look()
	if f == nil {
		return nil, reports
	}
	defer f.Close()
	for _, id := range c.ids {
		t, err := f.ticket(id)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				reports = append(reports, err)
			}
			continue
		}
		l := Listed{Ticket: t, State: Open}
		for _, name := range c.claims[id] {
			held, err := f.claim(t, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !t.HostWide() {
				l.State = Taken
			}
			if err != nil {
				reports = append(reports, err)
				continue
			}
			if !t.HostWide() && !held.Used.IsZero() {
				l.State = Used
			}
			l.Claims = append(l.Claims, Claim{Incarnation: held.incarnation(), Name: held.Name, Taken: held.Taken, Used: held.Used})
		}
		slices.SortStableFunc(l.Claims, func(a, b Claim) int { return a.Taken.Compare(b.Taken) })
		if l.State != Used && t.expired(now, at) {
			l.State = Expired
		}
		list = append(list, l)
	}
	slices.SortStableFunc(list, func(a, b Listed) int { return a.NotAfter.Compare(b.NotAfter) })
	return list, reports
}

// Revoke removes the ticket of the given ID and its claims. A Take that begins after Revoke has
// returned does not return the ticket; a concurrent one may. Revoke also removes a file that has
// the name of a ticket but cannot be read as one. It returns [ErrUnknown] if the ticket does not
// exist. An error is one line, "ticket: WHAT; WHAT TO DO".
func (s Store) Revoke(id string) error {
	unknown := caused(fmt.Sprintf("there is no ticket %.100q", id), "list them to see those that there are", ErrUnknown)
	if !isID(id) {
		return unknown
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	if f == nil {
		return unknown
	}
	defer f.Close()
	c, _ := f.list() // if there are too many files, a later Grant removes the remaining claims
	err = f.remove(id, c.claims[id])
	if errors.Is(err, fs.ErrNotExist) {
		return unknown
	}
	return err
}
