package ticket

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/policy"
)

// A Store is the tickets of a host; its zero value is those of this one. Goroutines and processes may use the same tickets
// at once, in any number.
//
// Reports are what could not be read, trusted or understood, or written: each an error of one line, "ticket: WHAT; WHAT TO
// DO". They change no decision: what is reported has lifted nothing.
type Store struct {
	// Root is the folder below which the host's files lie; "" is "/".
	Root string

	boot func() (boot, error) // tests have their own; nil is the host's
}

func (s Store) now() (boot, error) {
	if s.boot != nil {
		return s.boot()
	}
	return hostBoot()
}

// Grant stores a ticket, of which the caller fills in Domain or Name, Operation, Reason, Requester and NotAfter, and gives
// it back as it is stored, with its ID. NotAfter must be later than now, and by no more than [Longest]. The ticket is there
// whole, and lasting, or not at all; its folder is made where it is missing. An error is one line, "ticket: WHAT; WHAT TO DO".
//
// It also removes the tickets that expired more than a week ago.
func (s Store) Grant(t Ticket, now time.Time) (Ticket, error) {
	if err := t.check(); err != nil {
		return Ticket{}, err
	}
	t.Domain = canonical(t.Domain)
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
	c, _ := f.list() // too much of it may be what is swept away
	f.sweep(c, now)
	if c, err = f.list(); err != nil {
		return Ticket{}, err
	}
	if len(c.ids) >= maxTickets {
		return Ticket{}, failure(fmt.Sprintf("%s: holds %d tickets already", show(f.path), maxTickets), "revoke what is not needed")
	}
	t.ID = newID()
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

// Take gives the ticket by which the incarnation in of the domain name may do the operation, and takes it if the incarnation
// does not hold it already. Without one, ok is false. It is for what is about to do the operation: it must not be called to
// see whether it could be done.
//
// A ticket for a single domain is taken by one incarnation, once: of several that ask at the same time one gets it. One for
// the whole host is taken by each incarnation. From then on the ticket is that incarnation's, also if the process that took
// it is killed at once, and Take gives it again, from any process, until it is expired, revoked or marked as used: so that a
// second attempt needs no second ticket. Expired means that now is later than NotAfter, or that the time since boot is later
// than the deadline, or that the host was booted since.
//
// Where several fit, it is one that the incarnation holds; else one for the single domain; else one for the whole host; of
// those the first to expire, then that with the lowest ID.
//
// An incarnation without PID or start time cannot be told from the next one of its domain. So it takes a ticket for one stop
// only, and asking again takes another.
func (s Store) Take(in policy.Incarnation, name, operation string, now time.Time) (t Ticket, ok bool, reports []error) {
	in = known(in)
	if in.UUID == "" {
		return Ticket{}, false, []error{failure("the domain to be stopped has no UUID that is one", "give the UUID of its XML")}
	}
	f, c, at, reports := s.look()
	if f == nil {
		return Ticket{}, false, reports
	}
	defer f.Close()

	var fit []Ticket
	for _, id := range c.ids {
		t, err := f.ticket(id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // revoked since the folder was listed
		case err != nil:
			reports = append(reports, err)
		case t.fits(in.UUID, name, operation) && !t.expired(now, at):
			fit = append(fit, t)
		}
	}
	slices.SortFunc(fit, func(a, b Ticket) int {
		if a.HostWide() != b.HostWide() {
			if b.HostWide() {
				return -1
			}
			return 1
		}
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), strings.Compare(a.ID, b.ID))
	})

	var open []Ticket
	for _, t := range fit {
		c, err := f.claim(t, t.claimName(in))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			open = append(open, t)
		case err != nil:
			reports = append(reports, err)
		case c.holds(in):
			step("claim seen")
			there, err := f.still(t)
			if there {
				return t, true, reports
			}
			if err != nil {
				reports = append(reports, err)
			}
		}
	}
	for _, t := range open {
		taken, err := f.take(t, in, name, now)
		if taken {
			return t, true, reports
		}
		if err != nil {
			// What could not be written for this ticket could not be for another.
			return Ticket{}, false, append(reports, err)
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
	if errors.Is(err, fs.ErrExist) { // somebody was faster, perhaps for the same incarnation
		c, err := f.claim(t, name)
		if errors.Is(err, fs.ErrNotExist) { // and the ticket was revoked since
			return false, nil
		}
		if err != nil || !c.holds(in) {
			return false, err
		}
		return f.still(t)
	}
	if err != nil {
		return false, err
	}
	there, err := f.still(t)
	step("ticket seen again")
	if !there && err == nil {
		f.Remove(name)
	}
	return there, err
}

// still reports whether a ticket is there after its claim was seen. Had it been removed before, so may have been the claim
// of another incarnation that went by it, and this one would be the second.
func (f *folder) still(t Ticket) (bool, error) {
	again, err := f.ticket(t.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && again == t, err
}

// cut bounds the name of a domain, which is in a claim only to be shown.
func cut(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxText)], "\uFFFD")
}

// holds reports whether it is the claim of exactly this incarnation, and not used.
func (c claim) holds(in policy.Incarnation) bool {
	return c.Used.IsZero() && in.PID != 0 && c.incarnation() == in
}

func (t Ticket) fits(uuid, name, operation string) bool {
	if t.Operation != operation {
		return false
	}
	if !t.HostWide() {
		return t.Domain == uuid
	}
	fits, err := path.Match(t.Name, name)
	return fits && err == nil && name != ""
}

func (t Ticket) expired(now time.Time, at boot) bool {
	return now.After(t.NotAfter) || t.Boot != at.id || at.nanos > t.Deadline
}

// look opens the folder and lists it. The folder is nil where there are no tickets, or none that could be told valid.
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

// MarkUsed notes that an incarnation has ended: what it held, it holds no more. Without PID or start time, which cannot be
// known once a process is gone, that is whatever any incarnation of the domain holds: right for libvirt's release, during
// which no other can begin. Marking again changes nothing. What cannot be marked is reported; no later incarnation is the
// same, and so none gets by it what it did not get before.
func (s Store) MarkUsed(in policy.Incarnation, now time.Time) (reports []error) {
	in = known(in)
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
			if t.HostWide() && !strings.HasPrefix(name, t.ID+"."+in.UUID+".") { // there may be thousands of them
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

// endsWith reports whether the claim is over when that incarnation is. One that could not be told is taken to be it: a
// domain has one at a time.
func (c claim) endsWith(in policy.Incarnation) bool {
	return c.UUID == in.UUID && (in.PID == 0 || c.PID == 0 || c.incarnation() == in)
}

// List gives every ticket with what has become of it, the first to expire first. What is no ticket is reported.
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

// Revoke removes the ticket of the given ID, whether or not it has been taken, and its claims. No Take that begins when
// Revoke has returned gives it; one that runs meanwhile may. It also removes what has a ticket's name and is none. The error
// is [ErrUnknown] if there is no such ticket, and one line, "ticket: WHAT; WHAT TO DO".
func (s Store) Revoke(id string) error {
	unknown := &problem{what: fmt.Sprintf("there is no ticket %.100q", id), cure: "list them to see those that there are", err: ErrUnknown}
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
	c, _ := f.list() // of claims that were not reached among too many files, Grant removes the rest
	err = f.remove(id, c.claims[id])
	if errors.Is(err, fs.ErrNotExist) {
		return unknown
	}
	return err
}
