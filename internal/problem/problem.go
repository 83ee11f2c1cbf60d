// Package problem defines the form of stopguard's errors: the defect, and the action to take.
package problem

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Error is a defect and the action to take. Its text is "What; Cure".
type Error struct {
	What string // such as "ticket: the reason is empty"
	Cure string // in the imperative, such as "say why it is granted"
	Err  error  // the cause, for errors.Is and errors.As; may be nil
}

func (e *Error) Error() string { return e.What + "; " + e.Cure }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errors are at least two errors of one piece of work. Their text is that of the first, so that
// stderr gets one line.
type Errors []error

func (e Errors) Error() string { return e[0].Error() }

// Unwrap returns all errors.
func (e Errors) Unwrap() []error { return e }

// Join returns the errors as one error, without repeated texts; nil if all are nil.
func Join(errs ...error) error {
	var all Errors
	for _, err := range errs {
		for _, one := range All(err) {
			if !slices.ContainsFunc(all, func(other error) bool { return other.Error() == one.Error() }) {
				all = append(all, one)
			}
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// All returns the errors that err joins, or err itself; nil if err is nil.
func All(err error) []error {
	if all, ok := errors.AsType[Errors](err); ok {
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// Wrap prefixes each of the errors that err joins.
func Wrap(prefix string, err error) error {
	var all []error
	for _, one := range All(err) {
		all = append(all, fmt.Errorf("%s%w", prefix, one))
	}
	return Join(all...)
}

// Split returns the defect and the action of an error, or of the first of several. The cure is ""
// if err does not have an *Error in its chain.
func Split(err error) (what, cure string) {
	if all, ok := errors.AsType[Errors](err); ok {
		err = all[0]
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.What, e.Cure
	}
	return err.Error(), ""
}

// Prefix returns the error with a prefix such as "ticket: ". If the error is not an *Error, it gets
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
