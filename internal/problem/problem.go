// Package problem defines the form that stopguard's errors have: what is wrong, and what to do.
package problem

import (
	"errors"
	"strings"
)

// An Error says what is wrong and what to do about it. It reads "What; Cure".
type Error struct {
	What string // such as "ticket: the reason is empty"
	Cure string // in the imperative, such as "say why it is granted"
	Err  error  // the cause, for errors.Is and errors.As; may be nil
}

func (e *Error) Error() string { return e.What + "; " + e.Cure }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Split returns what is wrong and what to do. The cure is "" if err has no *Error in its chain.
func Split(err error) (what, cure string) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.What, e.Cure
	}
	return err.Error(), ""
}

// Prefix returns the error with a prefix such as "ticket: ". An error that is not an *Error gets
// the given cure.
func Prefix(prefix string, err error, cure string) error {
	what, own := Split(err)
	if own != "" {
		cure = own
	}
	return &Error{What: prefix + what, Cure: cure, Err: err}
}

// OneLine returns a text with each line feed and each run of blanks replaced by one blank.
func OneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
