package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/hostfile"
	"github.com/stopguard/stopguard/policy/ticket"
)

// home is the folder of the requests, with a file for each. Only the agent writes there.
const home = "/var/lib/stopguard/requests"

const (
	maxRequests = 1000
	maxFile     = 32 << 10 // bytes
)

// A Request is a request for a ticket that is not approved yet.
type Request struct {
	ID         string            `json:"id"` // also the ticket's
	Domain     string            `json:"domain"`
	DomainName string            `json:"domain_name,omitempty"` // the domain's name when it was requested, for display
	Name       string            `json:"name"`
	Operation  string            `json:"operation"`
	Reason     string            `json:"reason"`
	For        time.Duration     `json:"for"` // how long the ticket is valid after its last approval
	Requester  ticket.Person     `json:"requester"`
	Requested  time.Time         `json:"requested"`
	Expires    time.Time         `json:"expires"` // the end of the time for approvals
	Needed     int               `json:"needed"`  // number of approvals
	Approvers  []ticket.Approver `json:"approvers"`
}

// A folder holds the requests of a host.
type folder struct{ root string }

func (f folder) path(id string) string { return filepath.Join("/", f.root, home, id) }

func (f folder) write(r Request) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.path(""), 0o700); err != nil {
		return err
	}
	return hostfile.Replace(f.path(r.ID), append(data, '\n'), 0o600)
}

func (f folder) read(id string) (Request, error) {
	var r Request
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		return r, fs.ErrNotExist
	}
	data, err := hostfile.Root(f.root).Read(home+"/"+id, maxFile)
	if err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || r.ID != id {
		return r, fmt.Errorf("%s: is not a request; remove it", f.path(id))
	}
	return r, nil
}

// list returns the requests that can still be approved, the oldest first, and removes expired ones.
func (f folder) list(now time.Time) ([]Request, error) {
	entries, err := os.ReadDir(f.path(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Request
	for _, e := range entries {
		r, err := f.read(e.Name())
		switch {
		case err != nil: // not a request, or removed since
		case now.After(r.Expires) || now.Before(r.Requested.Add(-time.Minute)): // otherwise a clock that is set back would revive requests
			_ = f.remove(r.ID)
		default:
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Request) int { return a.Requested.Compare(b.Requested) })
	return all, nil
}

func (f folder) remove(id string) error { return os.Remove(f.path(id)) }
