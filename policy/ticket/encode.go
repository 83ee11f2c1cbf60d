package ticket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy"
)

const (
	maxText = 1 << 10  // bytes of each text in a ticket
	maxFile = 32 << 10 // bytes of a file; JSON may write a byte as six
	maxPID  = 1 << 22  // the kernel's own limit

	maxApprovers = 10 // of a ticket
)

func failure(what, cure string) error { return caused(what, cure, nil) }

// caused returns an error with a cause for errors.Is.
func caused(what, cure string, err error) error {
	return &problem.Error{What: "ticket: " + what, Cure: cure, Err: err}
}

func hexadecimal(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}

func isID(s string) bool { return hexadecimal(s, 16) }

// printable reports whether a text is one line of printable UTF-8.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// check validates the fields that the caller of Grant sets, except NotAfter.
func (t Ticket) check() error {
	switch {
	case t.Domain == "" && t.Name == "":
		return failure("it names neither a domain nor a pattern", "give one of them")
	case t.Domain != "" && t.Name != "":
		return failure("it names both a domain and a pattern", "give one of them")
	case t.Domain != "" && uuid.Canonical(t.Domain) == "":
		return failure(fmt.Sprintf("%.100q is not a UUID", t.Domain), "give the domain's UUID, as of virsh domuuid")
	case !slices.Contains(policy.Operations(), operation.Expand(t.Operation)[0]):
		return failure(fmt.Sprintf("it is for the operation %.100q", t.Operation), "give one of "+strings.Join(policy.Operations(), ", "))
	}
	err := glob.Check(t.Name)
	if errors.Is(err, glob.ErrNegation) {
		return failure(fmt.Sprintf("the pattern %.100q would match what it seems to leave out", t.Name), "write [^...] for none of these")
	}
	if err != nil {
		return failure(fmt.Sprintf("the pattern %.100q is not well-formed", t.Name), "close its brackets, and write a backslash twice")
	}
	if strings.Contains(t.Name, "/") {
		return failure(fmt.Sprintf("the pattern %.100q fits no name, for none has a slash", t.Name), "leave the slash out")
	}
	for _, text := range []struct{ what, value, cure string }{
		{"pattern", t.Name, "give a pattern"},
		{"reason", t.Reason, "say why it is granted"},
		{"requester", t.Requester, "say who wants it"},
	} {
		switch {
		case strings.TrimSpace(text.value) == "" && (text.what != "pattern" || text.value != ""):
			return failure("the "+text.what+" is empty", text.cure)
		case len(text.value) > maxText:
			return failure(fmt.Sprintf("the %s is longer than %d bytes", text.what, maxText), "make it shorter")
		case !printable(text.value):
			return failure("the "+text.what+" is not one line of printable text", "leave out line breaks, control characters and invalid UTF-8")
		}
	}
	return nil
}

// checkTime validates the time between Granted and NotAfter.
func (t Ticket) checkTime() error {
	switch {
	case !t.NotAfter.After(t.Granted):
		return failure("it would be expired from the beginning", "give a time in the future")
	case t.NotAfter.Sub(t.Granted) > maxLife:
		return failure(fmt.Sprintf("it would hold for more than %d days", maxLife/(24*time.Hour)), "give an earlier time, and grant another one then")
	}
	return nil
}

func (t Ticket) encode() ([]byte, error) { return encode(t) }

func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// decodeExactly accepts only the bytes that encode writes: no unknown, repeated or differently
// spelt key, no trailing data, no other spelling of a time. Only this package writes these files,
// so any other content is damage or a forgery.
func decodeExactly[T any](data []byte) (v T, err error) {
	if err := json.Unmarshal(data, &v); err != nil {
		return v, errors.New("is not JSON of the right form")
	}
	if canonical, err := encode(v); err != nil || !bytes.Equal(canonical, data) {
		return v, errors.New("is not written as it is granted")
	}
	return v, nil
}

// decode parses a ticket's file. The error completes a sentence that begins with the file's name.
func decode(data []byte) (Ticket, error) {
	t, err := decodeExactly[Ticket](data)
	if err != nil {
		return Ticket{}, err
	}
	if !isID(t.ID) || !uuid.IsCanonical(t.Boot) || t.Deadline <= 0 ||
		t.Domain != uuid.Canonical(t.Domain) || t.Granted != t.Granted.UTC() || t.NotAfter != t.NotAfter.UTC() {
		return Ticket{}, errors.New("is not written as it is granted")
	}
	if t.Approval != nil && len(t.Approval.Approvers) > maxApprovers {
		return Ticket{}, errors.New("has more approvers than there may be")
	}
	if err := errors.Join(t.check(), t.checkTime()); err != nil {
		return Ticket{}, errors.New("holds what would not be granted")
	}
	return t, nil
}

// claim is the content of a claim's file.
type claim struct {
	Ticket string    `json:"ticket"`
	UUID   string    `json:"uuid"`
	PID    int       `json:"pid"`
	Start  uint64    `json:"start"`
	Name   string    `json:"name"`
	Taken  time.Time `json:"taken"`
	Used   time.Time `json:"used,omitzero"`
}

func decodeClaim(data []byte) (claim, error) {
	c, err := decodeExactly[claim](data)
	if err != nil {
		return claim{}, err
	}
	if !isID(c.Ticket) || !uuid.IsCanonical(c.UUID) || c.incarnation() != normalized(c.incarnation()) ||
		c.Taken != c.Taken.UTC() || c.Used != c.Used.UTC() {
		return claim{}, errors.New("is not written as it is taken")
	}
	return c, nil
}

func (c claim) incarnation() policy.Incarnation {
	return policy.Incarnation{UUID: c.UUID, PID: c.PID, Start: c.Start}
}

// normalized returns the incarnation with a canonical UUID, "" if it is not one, and with both PID
// and start time or neither.
func normalized(in policy.Incarnation) policy.Incarnation {
	in.UUID = uuid.Canonical(in.UUID)
	if in.PID <= 0 || in.PID > maxPID || in.Start == 0 {
		in.PID, in.Start = 0, 0
	}
	return in
}
