package cli

import (
	"testing"
	"time"
)

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"2h": "2026-11-22T10:00:00Z", "2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20T01:02:03+01:00": "2026-11-20T00:02:03Z"} {
		if got, err := ParseSince(text, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	if _, err := ParseSince("-2h", now); err == nil {
		t.Error("a time to come is taken")
	}
}
