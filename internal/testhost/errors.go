package testhost

import (
	"strings"
	"testing"
)

// WantError fails unless err is one line that holds every part.
func WantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not hold %q", err, part)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r\t") {
		t.Errorf("error %q is not one line", err)
	}
}
