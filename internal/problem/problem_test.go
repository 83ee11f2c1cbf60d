package problem

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestSplit(t *testing.T) {
	typed := &Error{What: "/etc/x: is a link; it leads nowhere", Cure: "remove it", Err: fs.ErrExist}
	for _, tt := range []struct {
		why        string
		err        error
		what, cure string
	}{
		{"a semicolon in what is wrong does not begin the cure", typed, "/etc/x: is a link; it leads nowhere", "remove it"},
		{"the error may be wrapped", fmt.Errorf("policy: %w", typed), "/etc/x: is a link; it leads nowhere", "remove it"},
		{"any other error has no cure, whatever its text", errors.New("a; b"), "a; b", ""},
	} {
		if what, cure := Split(tt.err); what != tt.what || cure != tt.cure {
			t.Errorf("Split(%q) = %q, %q, want %q, %q: %s", tt.err, what, cure, tt.what, tt.cure, tt.why)
		}
	}
}

func TestPrefix(t *testing.T) {
	err := Prefix("ticket: ", &Error{What: "is a link", Cure: "remove it", Err: fs.ErrExist}, "try again")
	if got := err.Error(); got != "ticket: is a link; remove it" {
		t.Errorf("it reads %q", got)
	}
	if !errors.Is(err, fs.ErrExist) {
		t.Error("the cause is lost")
	}
	if got := Prefix("ticket: ", errors.New("odd"), "try again").Error(); got != "ticket: odd; try again" {
		t.Errorf("it reads %q", got)
	}
}
