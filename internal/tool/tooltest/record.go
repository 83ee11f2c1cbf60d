package tooltest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stopguard/stopguard/policy/record"
)

// Event returns a record as the hook writes it.
func Event(name, uuid, outcome string, at time.Time) record.Event {
	e := record.New("host", record.Domain{Name: name, UUID: uuid}, at)
	if outcome == record.Veto {
		e.Result.Reasons = []record.Reason{{Rule: "protection_mark", Message: "protected: billing"}}
		e.Result.Monitored = []record.Reason{{Rule: "calendar", Message: "frozen"}}
	}
	e.Result.Outcome = outcome
	if outcome == record.Escape {
		e.Result.Detail = "its guest shut down"
	}
	return e
}

func LineOf(t *testing.T, e record.Event) string {
	t.Helper()
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}
