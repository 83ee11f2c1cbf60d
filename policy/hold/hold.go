// Package hold protects a domain while a program works on it, such as a nightly backup. A hold ends
// with the process that has it, however that process ends.
//
// Each hold is a file in /run/stopguard/holds, on which its holder has an open file description
// lock (fcntl(2), F_OFD_SETLK). No child inherits the descriptor, so the kernel frees the lock when
// the holder dies. A file without a lock is not a hold, whatever it says.
//
// The folder is root's. A folder in it, such as /run/stopguard/holds/backup, lets its owner hold
// domains, too: only root can create one. The holder's name is that of the file's owner, as the
// kernel has it.
package hold

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

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy"
)

const (
	maxReason = 512     // bytes
	maxFile   = 8 << 10 // bytes; JSON may write a byte as six
	maxLife   = 30 * 24 * time.Hour
)

// A Request asks for a hold.
type Request struct {
	// Domain is the domain's UUID.
	Domain string

	// Reason says why, in one line of printable text of at most 512 bytes. It is required.
	Reason string

	// Operations are the refused operations, of [policy.Operations], as in a mark. nil means a stop
	// and a delete. Both are also refused if only others are named; if a stop is named, a delete is
	// refused only if it is named, too.
	Operations []string

	// AtMost ends the hold even if its holder lives on; 0 means that only the holder ends it. It is
	// at most 30 days.
	AtMost time.Duration
}

// A Store holds the holds of a host. Its zero value holds those of this host. Any number of
// goroutines and processes may use it at once.
type Store struct {
	// Root is the folder below which the host's files lie; "" is "/".
	Root string
}

// content is the content of a hold's file. It never changes.
type content struct {
	Domain     string    `json:"domain"`
	Reason     string    `json:"reason"`
	Operations []string  `json:"operations"`
	PID        int       `json:"pid"`
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until,omitzero"`
}

// newContent checks a request.
func newContent(r Request, pid int, now time.Time) (content, error) {
	c := content{
		Domain: uuid.Canonical(r.Domain), Reason: r.Reason, PID: pid, Since: now.UTC().Truncate(time.Second),
	}
	switch {
	case c.Domain == "":
		return c, failure(fmt.Sprintf("%.100q is not a UUID", r.Domain), "give the domain's UUID, as of virsh domuuid")
	case strings.TrimSpace(r.Reason) == "":
		return c, failure("the reason is empty", "say why the domain is held")
	case len(r.Reason) > maxReason:
		return c, failure(fmt.Sprintf("the reason is longer than %d bytes", maxReason), "make it shorter")
	case !isPrintable(r.Reason):
		return c, failure("the reason is not one line of printable text", "leave out line breaks, control characters and invalid UTF-8")
	case r.AtMost < 0:
		return c, failure("the hold would be over from the beginning", "give a time of more than 0")
	case r.AtMost > maxLife:
		return c, failure(fmt.Sprintf("the hold would last for more than %d days", maxLife/(24*time.Hour)), "give a shorter time")
	}
	var named []string
	for _, name := range r.Operations {
		expanded := operation.Expand(name)
		if !slices.Contains(policy.Operations(), expanded[0]) {
			return c, failure(fmt.Sprintf("the operation %.100q is unknown", name), "name some of "+strings.Join(policy.Operations(), ", "))
		}
		named = append(named, expanded...)
	}
	c.Operations = operation.Covered(named)
	if r.AtMost > 0 {
		c.Until = now.Add(r.AtMost).UTC().Round(0)
	}
	return c, nil
}

func (c content) encode() ([]byte, error) {
	data, err := json.Marshal(c)
	return append(data, '\n'), err
}

// decode accepts only the bytes that encode writes for a valid content.
func decode(data []byte) (content, error) {
	var c content
	if err := json.Unmarshal(data, &c); err != nil {
		return c, errors.New("is not JSON of the right form")
	}
	canonical, err := c.encode()
	if err != nil || !bytes.Equal(canonical, data) || !c.isValid() {
		return c, errors.New("is not written as a hold is")
	}
	return c, nil
}

// isValid reports whether c has the form of newContent's results.
func (c content) isValid() bool {
	isUnknown := func(name string) bool { return !slices.Contains(policy.Operations(), name) }
	return uuid.IsCanonical(c.Domain) && isPrintable(c.Reason) && len(c.Reason) <= maxReason && c.PID > 0 &&
		len(c.Operations) > 0 && !slices.ContainsFunc(c.Operations, isUnknown) && c.Since == c.Since.UTC() && c.Until == c.Until.UTC()
}

func isPrintable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func failure(what, cure string) error { return caused(what, cure, nil) }

func caused(what, cure string, err error) error {
	return &problem.Error{What: "hold: " + what, Cure: cure, Err: err}
}
