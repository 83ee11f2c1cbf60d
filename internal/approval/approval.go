// Package approval has the approval of tickets by several people, in the agent and in its clients.
// The agent identifies the people by the kernel's data about the socket.
//
// Every user may connect to the socket. data.site.tickets names the people whose requests and
// approvals count. A request is stored until enough people have approved it. Then the agent grants
// the ticket and seals it, so that a ticket that was written by hand does not count.
package approval

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/stopguard/stopguard/internal/ticketseal"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// A Board holds the requests of a host. It is safe for concurrent use. A host has one board, in its
// agent.
type Board struct {
	Root string

	// Approvals returns the site's rules for tickets; nil if the site does not require approvals.
	Approvals func() (*policy.Approvals, error)

	// DomainName returns the name of a running domain by its UUID, or ""; it may be nil. People
	// other than root request by the UUID, and the approvers know the name.
	DomainName func(uuid string) string

	// OnEvent is called after each event; it may be nil.
	OnEvent func(Event)

	mu sync.Mutex
}

// An Event is a change of a request.
type Event struct {
	What   string // requested, approved, rejected, granted, break_glass
	Person ticket.Person
	Request
}

func (b *Board) tell(kind string, p ticket.Person, r Request) {
	if b.OnEvent != nil {
		b.OnEvent(Event{kind, p, r})
	}
}

var (
	errNoApprovals = errors.New("this site asks for no approvals (data.site.tickets is not set); use stopguard ticket grant")
	errUnknown     = errors.New("there is no such request, or it is too late to approve it; see stopguard ticket list")
)

// rules returns the site's rules if the person may take part. Root may request and list tickets
// even if the site does not name root.
func (b *Board) rules(p ticket.Person, approves bool) (*policy.Approvals, error) {
	rules, err := b.Approvals()
	switch {
	case err != nil:
		return nil, err
	case rules == nil:
		return nil, errNoApprovals
	case isAmong(p, rules.Who) || p.UID == 0 && !approves:
		return rules, nil
	}
	return nil, fmt.Errorf("%s is not among those whom data.site.tickets.who names; ask one of them", p.User)
}

// An Ask is a client's request for a ticket.
type Ask struct {
	Domain     string        `json:"domain"` // a UUID; "" with a Name
	Name       string        `json:"name"`   // a pattern of names
	Operation  string        `json:"operation"`
	Reason     string        `json:"reason"`
	For        time.Duration `json:"for"`
	BreakGlass bool          `json:"break_glass"`
}

// Request stores a request. With break-glass it grants the ticket at once, if the site allows that.
func (b *Board) Request(p ticket.Person, ask Ask, now time.Time) (r Request, granted *ticket.Ticket, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules, err := b.rules(p, ask.BreakGlass)
	if err != nil {
		return r, nil, err
	}
	if ask.BreakGlass && !rules.BreakGlass {
		return r, nil, errors.New("this site does not allow --break-glass (data.site.tickets.break_glass is not set); request the ticket without it")
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails
	r = Request{
		ID: hex.EncodeToString(id), Domain: ask.Domain, Name: ask.Name, Operation: ask.Operation, Reason: ask.Reason, For: ask.For,
		Requester: p, Requested: now.UTC().Round(0), Expires: now.Add(rules.Within).UTC().Round(0), Needed: rules.Approvers, Approvers: []ticket.Approver{},
	}
	if err := b.ticket(r, now, false).Check(now); err != nil {
		return r, nil, err
	}
	if ask.Domain != "" && b.DomainName != nil {
		r.DomainName = b.DomainName(ask.Domain)
	}
	requests := folder{b.Root}
	if all, err := requests.list(now); err != nil || len(all) >= maxRequests {
		return r, nil, errors.Join(err, fmt.Errorf("there are %d requests already; reject those that are not needed", len(all)))
	}
	if ask.BreakGlass {
		t, err := b.grant(r, now, true)
		if err == nil {
			b.tell("break_glass", p, r)
		}
		return r, &t, err
	}
	if err := requests.write(r); err != nil {
		return r, nil, err
	}
	b.tell("requested", p, r)
	return r, nil, nil
}

// Approve adds a person's approval. If enough people have approved, it grants the ticket.
func (b *Board) Approve(p ticket.Person, id string, now time.Time) (r Request, granted *ticket.Ticket, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules, err := b.rules(p, true)
	if err != nil {
		return r, nil, err
	}
	if r, err = b.current(id, now); err != nil {
		return r, nil, err
	}
	switch {
	case p.UID == r.Requester.UID:
		return r, nil, fmt.Errorf("%s requested it, and does not count; let somebody else approve it", p.User)
	case slices.ContainsFunc(r.Approvers, func(a ticket.Approver) bool { return a.UID == p.UID }):
		return r, nil, fmt.Errorf("%s has approved it already; let somebody else approve it", p.User)
	}
	// By the present rules, which may no longer name some of the approvers.
	r.Approvers = slices.DeleteFunc(r.Approvers, func(a ticket.Approver) bool { return !isAmong(a.Person, rules.Who) })
	r.Approvers = append(r.Approvers, ticket.Approver{Person: p, At: now.UTC().Round(0)})
	r.Needed = rules.Approvers
	requests := folder{b.Root}
	if len(r.Approvers) < r.Needed {
		if err := requests.write(r); err != nil {
			return r, nil, err
		}
		b.tell("approved", p, r)
		return r, nil, nil
	}
	t, err := b.grant(r, now, false)
	if err != nil {
		return r, nil, err
	}
	b.tell("approved", p, r)
	b.tell("granted", p, r)
	// The ticket has the request's ID and is never granted twice, even if this fails.
	return r, &t, requests.remove(id)
}

// Reject removes a request.
func (b *Board) Reject(p ticket.Person, id string, now time.Time) (r Request, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.rules(p, false); err != nil {
		return r, err
	}
	if r, err = b.current(id, now); err != nil {
		return r, err
	}
	if err := (folder{b.Root}).remove(id); err != nil {
		return r, err
	}
	b.tell("rejected", p, r)
	return r, nil
}

// List returns the requests that can be approved.
func (b *Board) List(p ticket.Person, now time.Time) ([]Request, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.rules(p, false); err != nil {
		return nil, err
	}
	return folder{b.Root}.list(now)
}

func (b *Board) current(id string, now time.Time) (Request, error) {
	all, err := folder{b.Root}.list(now) // without expired requests
	if err != nil {
		return Request{}, err
	}
	i := slices.IndexFunc(all, func(r Request) bool { return r.ID == id })
	if i < 0 {
		return Request{}, errUnknown
	}
	return all[i], nil
}

func (b *Board) ticket(r Request, now time.Time, breakGlass bool) ticket.Ticket {
	return ticket.Ticket{
		ID: r.ID, Domain: r.Domain, Name: r.Name, Operation: r.Operation, Reason: r.Reason, Requester: r.Requester.User,
		NotAfter: now.Add(r.For).UTC().Round(0),
		Approval: &ticket.Approval{Requester: r.Requester, Requested: r.Requested, Approvers: r.Approvers, BreakGlass: breakGlass},
	}
}

func (b *Board) grant(r Request, now time.Time, breakGlass bool) (ticket.Ticket, error) {
	key, err := ticketseal.MakeKey(b.Root)
	if err != nil {
		return ticket.Ticket{}, err
	}
	t := b.ticket(r, now, breakGlass)
	text, err := t.Sealed()
	if err != nil {
		return ticket.Ticket{}, err
	}
	t.Approval.Seal = ticketseal.Sum(key, text)
	t, err = ticket.Store{Root: b.Root}.GrantApproved(t, now)
	if errors.Is(err, fs.ErrExist) {
		return t, errors.New("the ticket was granted already; see stopguard ticket list")
	}
	return t, err
}
