package ticket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/stopguard/stopguard/internal/ticketseal"
	"github.com/stopguard/stopguard/policy"
)

// A Person is someone who requested or approved a ticket, as the kernel told the agent.
type Person struct {
	UID  int    `json:"uid"`
	User string `json:"user"` // the name of uid, for display
}

// An Approver is a person who approved a ticket.
type Approver struct {
	Person
	At time.Time `json:"at"`
}

// An Approval holds the people who approved a ticket. Only the host's agent makes one: its seal
// covers the ticket and the approval.
type Approval struct {
	Requester  Person     `json:"requester"`
	Requested  time.Time  `json:"requested"`
	Approvers  []Approver `json:"approvers"`
	BreakGlass bool       `json:"break_glass,omitempty"` // the requester granted it without approvers
	Seal       string     `json:"seal"`
}

// Sealed returns the text that the seal of the ticket's approval covers: all fields but the seal,
// and but those that Grant sets by the host's clocks.
func (t Ticket) Sealed() ([]byte, error) {
	t.Granted, t.Boot, t.Deadline = time.Time{}, "", 0
	if t.Approval != nil {
		approval := *t.Approval
		approval.Seal = ""
		t.Approval = &approval
	}
	return json.Marshal(t)
}

// verify returns an error if the host's agent did not seal the ticket's approval.
func (s Store) verify(t Ticket) error {
	key, err := ticketseal.ReadKey(s.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return failure("the ticket "+t.ID+" says that it was approved, and no agent has approved tickets here", "ask for one with stopguard ticket request")
	}
	if err != nil {
		return foreign(err)
	}
	text, err := t.Sealed()
	if err != nil || !ticketseal.Equal(ticketseal.Sum(key, text), t.Approval.Seal) {
		return failure("the approval of the ticket "+t.ID+" is not the agent's", "revoke it, and ask for one with stopguard ticket request")
	}
	return nil
}

// Approved returns an error if the ticket lacks approvals that are required; nil requires none.
func (s Store) Approved(t Ticket, required *policy.Approvals) error {
	if required == nil {
		return nil
	}
	const cure = "ask for one with stopguard ticket request"
	if t.Approval == nil {
		return failure(fmt.Sprintf("the ticket %s lifts nothing here, for it has none of %d approvals", t.ID, required.Approvers), cure)
	}
	if err := s.verify(t); err != nil {
		return err
	}
	if t.Approval.BreakGlass {
		if !required.BreakGlass {
			return failure("the ticket "+t.ID+" was granted without approvals, which the site does not allow any more", cure)
		}
		return nil
	}
	people := map[int]bool{}
	for _, a := range t.Approval.Approvers {
		if a.UID != t.Approval.Requester.UID {
			people[a.UID] = true
		}
	}
	if len(people) < required.Approvers {
		return failure(fmt.Sprintf("the ticket %s lifts nothing here, for it has %d of %d approvals", t.ID, len(people), required.Approvers), cure)
	}
	return nil
}

// Check returns an error if [Store.Grant] would refuse the ticket now, whatever the host.
func (t Ticket) Check(now time.Time) error {
	if err := t.check(); err != nil {
		return err
	}
	t.Granted, t.NotAfter = now.UTC().Round(0), t.NotAfter.UTC().Round(0)
	return t.checkTime()
}

// GrantApproved stores a ticket that the host's agent has approved and sealed, with the ID that it
// has. All else is as by [Store.Grant].
func (s Store) GrantApproved(t Ticket, now time.Time) (Ticket, error) {
	if t.Approval == nil || !isID(t.ID) {
		return Ticket{}, failure("the ticket was not approved", "grant it, or ask for it with stopguard ticket request")
	}
	if err := s.verify(t); err != nil {
		return Ticket{}, err
	}
	return s.grant(t, now)
}
