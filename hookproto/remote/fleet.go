package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// FleetPath is the URL's path of a [FleetRequest]. The method is POST, and the body is JSON.
const FleetPath = "/v1/fleet"

// A FleetRequest asks an agent which members of some groups run in its fleet and, in a second
// request, to reserve an operation on one of them.
type FleetRequest struct {
	// Groups are the names of the groups.
	Groups []string `json:"groups"`

	// Deciding is set if a reservation may follow.
	Deciding bool `json:"deciding"`

	// WithinMS is how long the agent may take, in milliseconds.
	WithinMS int `json:"within_ms"`

	// Reserve is the reservation; nil to read only.
	Reserve *Reservation `json:"reserve,omitempty"`
}

// A FleetAnswer is an agent's answer to a [FleetRequest].
type FleetAnswer struct {
	// Groups are the groups as they are now, in the order of the request. They are left out if the
	// reservation was made.
	Groups []FleetGroup `json:"groups"`

	// Reserved is set if the reservation was made. If neither Reserved nor Error is set, the groups
	// have changed since they were read: decide anew, by Groups.
	Reserved bool `json:"reserved"`

	// Error is why the fleet could not be read, or the reservation could not be made.
	Error string `json:"error,omitempty"`
}

// A FleetGroup is a group of domains of a fleet.
type FleetGroup struct {
	Name string `json:"name"`

	// Revision is the revision of the fleet's store at which the reservations were read.
	Revision int64 `json:"revision"`

	// Members are the running members, each once, sorted by name.
	Members []FleetMember `json:"members"`
}

// A FleetMember is a running domain of a fleet.
type FleetMember struct {
	Name     string `json:"name"`
	UUID     string `json:"uuid"`
	Host     string `json:"host"`
	Since    string `json:"since"`    // RFC 3339, by the clock of its host
	Revision int64  `json:"revision"` // of its entry in the fleet's store
	Reserved bool   `json:"reserved"` // an operation that ends its running is reserved
}

// A Reservation is an allowed operation after which a domain does not count as running.
type Reservation struct {
	ID        string `json:"id"` // of this decision
	Name      string `json:"name"`
	UUID      string `json:"uuid"`
	PID       int    `json:"pid"`   // of the domain's process; 0 if not known
	Start     uint64 `json:"start"` // when the process began, in clock ticks since boot
	Operation string `json:"operation"`
	Requester string `json:"requester"` // "" if not known
	Ticket    string `json:"ticket"`    // the ID of the ticket that lifted a veto; "" if none

	// Groups are the groups that the domain belongs to, as they were read, with those members only
	// that must still run when the reservation is made.
	Groups []FleetGroup `json:"groups"`

	// Forced makes the reservation whatever the groups are now: a ticket has lifted the veto.
	Forced bool `json:"forced"`
}

const maxFleetAnswer = 16 << 20 // bytes

// Fleet asks the agent about groups of its fleet. The error is a [NoAnswer] if the agent does not
// answer, or not in this form; an older agent does not know the request.
func (a Agent) Fleet(ctx context.Context, r FleetRequest) (FleetAnswer, error) {
	if deadline, ok := ctx.Deadline(); ok {
		// The agent must answer a little sooner, or its reason for a failure would be lost.
		r.WithinMS = max(1, int((time.Until(deadline) - fleetMargin).Milliseconds()))
	}
	answer, err := a.fleet(ctx, r)
	if err != nil {
		return FleetAnswer{}, NoAnswer{err}
	}
	return answer, nil
}

const fleetMargin = 50 * time.Millisecond

func (a Agent) fleet(ctx context.Context, r FleetRequest) (FleetAnswer, error) {
	conn, err := a.dial(ctx)
	if err != nil {
		return FleetAnswer{}, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return FleetAnswer{}, err
		}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	body, err := json.Marshal(r)
	if err != nil {
		return FleetAnswer{}, err
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: stopguard\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", FleetPath, len(body))
	parts := net.Buffers{head.Bytes(), body}
	if _, err := parts.WriteTo(conn); err != nil {
		return FleetAnswer{}, err
	}
	if body, err = receiveBody(conn, maxFleetAnswer); err != nil {
		return FleetAnswer{}, err
	}
	return parseFleetAnswer(body)
}

// parseFleetAnswer does not accept an answer with a field that is not known here: it might mean
// something else.
func parseFleetAnswer(body []byte) (FleetAnswer, error) {
	var answer FleetAnswer
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil {
		return FleetAnswer{}, errAnswer
	}
	if _, err := d.Token(); err != io.EOF {
		return FleetAnswer{}, errAnswer
	}
	if answer.Reserved && (answer.Error != "" || answer.Groups != nil) {
		return FleetAnswer{}, errAnswer
	}
	return answer, nil
}
