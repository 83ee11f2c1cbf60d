// Package fleetstatus has the state of a fleet, as an agent reports it to operators.
package fleetstatus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/stopguard/stopguard/hookproto/remote"
)

// A Status is a fleet as an agent knows it.
type Status struct {
	Host      string    `json:"host"` // the agent's host
	Endpoints []string  `json:"endpoints"`
	Problems  []Problem `json:"problems"` // current failures
	Groups    []Group   `json:"groups"`   // sorted by name
	Hosts     []Host    `json:"hosts"`    // all that have ever joined, sorted by name
}

// A Problem is a current failure.
type Problem struct {
	Part  string `json:"part"`
	Error string `json:"error"`
}

// A Group is a group of the fleet.
type Group struct {
	Name         string        `json:"name"`
	Settings     []Settings    `json:"settings"` // more than one if the hosts disagree
	Members      []Member      `json:"members"`  // the running ones, sorted by name
	Reservations []Reservation `json:"reservations"`
}

// Settings are the settings of a group on the hosts that agree on them.
type Settings struct {
	Min   int      `json:"min"`
	Hash  string   `json:"hash"` // hash of all settings of the group
	Hosts []string `json:"hosts"`
}

// A Member is a running member of a group.
type Member struct {
	Name     string `json:"name"`
	UUID     string `json:"uuid"`
	Host     string `json:"host"`
	Since    string `json:"since"` // by the clock of its host
	Reserved bool   `json:"reserved"`
}

// A Reservation is an operation that was allowed, and is not over.
type Reservation struct {
	Name      string `json:"name"`
	UUID      string `json:"uuid"`
	Host      string `json:"host"`
	Operation string `json:"operation"`
	Requester string `json:"requester"`
	Ticket    string `json:"ticket"`
	Since     string `json:"since"` // by the clock of its host
}

// A Host is a host that has joined the fleet.
type Host struct {
	Name    string `json:"name"`
	IsThere bool   `json:"is_there"` // false if its lease has ended, so that its members do not count
}

// Running returns the number of members that run and do not have a reservation. A member that moves
// runs on two hosts for a moment, and counts once.
func (g Group) Running() int {
	running := map[string]bool{}
	for _, m := range g.Members {
		if !m.Reserved {
			running[m.UUID] = true
		}
	}
	return len(running)
}

// Min returns the number of other members that must run: the highest if the hosts disagree, and 0
// if no host has the group any more.
func (g Group) Min() int {
	most := 0
	for _, s := range g.Settings {
		most = max(most, s.Min)
	}
	return most
}

// Disagreement returns the different settings of the group with their hosts, for people.
func (g Group) Disagreement() string {
	var parts []string
	for _, s := range g.Settings {
		parts = append(parts, fmt.Sprintf("min %d, settings %.8s on %s", s.Min, s.Hash, strings.Join(s.Hosts, ", ")))
	}
	return strings.Join(parts, "; ")
}

// readTime bounds the agent's answer.
const readTime = 3 * time.Second

// Read returns the status from the agent of the host whose files are below root. The status is nil
// if the agent does not take part in a fleet.
func Read(ctx context.Context, root string) (*Status, error) {
	socket := filepath.Join("/", root, remote.Socket)
	client := &http.Client{Timeout: readTime, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+remote.FleetPath, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the agent does not answer: %w; start stopguard-agent, and run this as root", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the agent's answer is cut off: %w; look at its log", err)
	case response.StatusCode == http.StatusNotFound:
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the agent answers %s: %.200s; look at its log", response.Status, strings.TrimSpace(string(content)))
	}
	s := new(Status)
	if err := json.Unmarshal(content, s); err != nil {
		return nil, fmt.Errorf("the agent's answer cannot be read: %w; use tool and agent of the same version", err)
	}
	return s, nil
}
