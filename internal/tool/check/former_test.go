package check

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy/ticket"
)

const former = "package stopguard.rules.freeze\n\nveto contains \"frozen\" if input.operation == \"tamper\"\n"

func TestCheck_warns_of_an_operations_former_name(t *testing.T) {
	const warning = `freeze.rego:3 names the operation "tamper", which is called modify or delete now; write modify, delete or both`
	s := newStage(t, "etc/stopguard/policy/freeze.rego", former)
	s.Run("web", tooltest.UUID1, "")
	got := s.Tool("check", "--operation", "modify").Is(t, 0)
	tooltest.Holds(t, "verdict", got.Stdout, "web     veto    -      freeze\n")
	tooltest.Holds(t, "warning", got.Stderr, warning)
	tooltest.Holds(t, "of a load", s.Tool("check", "--load").Is(t, 0).Stderr, warning)
	candidate := filepath.Dir(newStage(t).Put("p/freeze.rego", former))
	tooltest.Holds(t, "of a candidate", s.Tool("check", "--policy", candidate).Stderr, candidate+"/"+warning)
}

// The former name means two operations, and a request with it takes a ticket for each.
func TestCheckByAFormerNameCountsATicketForEachOperation(t *testing.T) {
	s := newStage(t)
	s.Run("web", tooltest.UUID1, `<protection xmlns="urn:stopguard:protection:1" operations="modify"/>`)
	grant := func(operation string) {
		t.Helper()
		_, err := ticket.Store{Root: s.Root}.Grant(ticket.Ticket{Domain: tooltest.UUID1, Operation: operation, Reason: "x", Requester: "x", NotAfter: time.Now().Add(time.Hour)}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Tool("check", "--exit-code", "--operation", "tamper", "web").Is(t, 1)
	grant("modify")
	s.Tool("check", "--exit-code", "--operation", "tamper", "web").Is(t, 1)
	grant("delete")
	s.Tool("check", "--exit-code", "--operation", "tamper", "web").Is(t, 0)
	s.Tool("may-stop", "--operation", "tamper", "web").Is(t, 0)
}
