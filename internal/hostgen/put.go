package hostgen

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hold"
	"github.com/stopguard/stopguard/policy/ticket"
)

// Put writes the host below a folder, or as this host if root is "". It sets the time of questions
// at the end of a hold. This process has the holds until release is called.
func (h Host) Put(root string) (release func(), err error) {
	var holds []*hold.Hold
	release = func() {
		for _, x := range holds {
			_ = x.Release()
		}
	}
	files := map[string]string{hostpath.Policy + "/data.json": h.data()}
	for _, rule := range h.Rules {
		files[hostpath.Policy+"/"+rule.File] = rule.Text
	}
	if h.IsShuttingDown {
		files[hostpath.ShuttingDown] = ""
	}
	if h.List != nil {
		files[hostpath.List] = strings.Join(h.List, "\n") + "\n"
	}
	for name, content := range files {
		file := filepath.Join(root, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644))
	}
	for i, t := range h.Tickets {
		if failed := t.put(root); failed != nil {
			err = errors.Join(err, fmt.Errorf("ticket %d: %w", i, failed))
		}
	}
	for i, x := range h.Holds {
		held, failed := x.put(root)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("hold %d: %w", i, failed))
			continue
		}
		if held != nil {
			holds = append(holds, held)
			h.setHoldEnd(x.Domain, held.Until)
		}
	}
	return release, err
}

// data returns the site's settings.
func (h Host) data() string {
	var members []string
	for _, s := range h.Settings {
		members = append(members, fmt.Sprintf("%q: %s", s.Name, s.Value))
	}
	return `{"site": {` + strings.Join(members, ", ") + "}}\n"
}

func (h Host) setHoldEnd(uuid string, until time.Time) {
	for i := range h.Domains {
		if d := &h.Domains[i]; d.UUID == uuid && d.AtHoldEnd && !until.IsZero() {
			d.At = until
		}
	}
}

// put grants the ticket, or stores a request that was not approved.
func (t Ticket) put(root string) error {
	id, err := t.grant(root)
	if id == "" || err != nil {
		return err
	}
	file := filepath.Join("/", root, "var/lib/stopguard/tickets", id+".json")
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if t.IsCopied {
		copied := id[1:] + id[:1]
		err = os.WriteFile(filepath.Join(filepath.Dir(file), copied+".json"), bytes.Replace(content, []byte(id), []byte(copied), 1), 0o600)
	}
	if t.IsEdited {
		err = errors.Join(err, os.WriteFile(file, bytes.Replace(content, []byte(`"disk swap"`), []byte(`"disk swop"`), 1), 0o600))
	}
	return err
}

// grant returns the ID of the ticket; "" if it was not approved.
func (t Ticket) grant(root string) (string, error) {
	const reason = "disk swap"
	if t.Approval == nil {
		granted, err := ticket.Store{Root: root}.Grant(ticket.Ticket{
			Domain: t.Domain, Name: t.Pattern, Operation: t.Operation, Reason: reason, Requester: people[0], NotAfter: t.Granted.Add(t.For),
		}, t.Granted)
		return granted.ID, err
	}
	board := approval.Board{Root: root, Approvals: func() (*policy.Approvals, error) {
		return &policy.Approvals{Approvers: t.Approval.Needed, Who: who(), Within: time.Hour, BreakGlass: true}, nil
	}}
	person := func(i int) ticket.Person { return ticket.Person{UID: 61001 + i, User: people[i]} }
	r, granted, err := board.Request(person(0), approval.Ask{
		Domain: t.Domain, Name: t.Pattern, Operation: t.Operation, Reason: reason, For: t.For, BreakGlass: t.Approval.BreakGlass,
	}, t.Granted)
	at := t.Granted
	if t.Approval.IsLate {
		at = at.Add(2 * time.Hour)
	}
	for i := 0; err == nil && granted == nil && i < t.Approval.Approvers; i++ {
		if _, granted, err = board.Approve(person(1+i), r.ID, at); t.Approval.IsLate && err != nil {
			return "", nil
		}
	}
	if granted == nil {
		return "", err
	}
	return granted.ID, err
}

// put makes the hold. It returns nil if the process of the hold is dead.
func (x Hold) put(root string) (*hold.Hold, error) {
	held, err := hold.Store{Root: root}.Acquire(hold.Request{Domain: x.Domain, Reason: "nightly backup", Operations: x.Operations, AtMost: x.AtMost})
	if err != nil || x.State == Live {
		return held, err
	}
	files, err := filepath.Glob(filepath.Join("/", root, "run/stopguard/holds", x.Domain+".*"))
	if err != nil || len(files) == 0 {
		return held, cmp.Or(err, errors.New("the hold has no file"))
	}
	file := files[len(files)-1]
	if x.State == Garbled {
		return held, os.WriteFile(file, []byte("{"), 0o600)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return held, err
	}
	return nil, errors.Join(held.Release(), os.WriteFile(file, content, 0o600))
}

// String returns the host as text that a reader can compare.
func (h Host) String() string {
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}
