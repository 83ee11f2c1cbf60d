package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/ticket"
)

// The agent takes requests for tickets while its policy has approvers, and not without them.
func TestTheAgentHasTicketsApproved(t *testing.T) {
	t.Parallel()
	h := newHost(t, "{}")
	testhost.OpenToAll(t, h.root)
	client := approval.Client{Root: h.root}
	if _, err := client.List(t.Context()); !errors.Is(err, approval.ErrNoAgent) {
		t.Error("without an agent:", err)
	}
	h.write("/etc/stopguard/policy/data.json", `{"site": {"tickets": {"approvers": 1, "who": ["user:61001", "user:61002"]}}}`)
	h.domain("web-01", markUUID)("")
	h.start()
	ask := approval.Ask{Domain: markUUID, Operation: "stop", Reason: "drain", For: time.Hour}
	var r approval.Request
	for err := approval.ErrNoAgent; errors.Is(err, approval.ErrNoAgent); {
		testhost.As(t, 61001, func() { r, _, err = client.Request(t.Context(), ask) })
		if err != nil && !errors.Is(err, approval.ErrNoAgent) {
			t.Fatal(err)
		}
	}
	if r.DomainName != "web-01" {
		t.Errorf("whoever approves reads the name %q", r.DomainName)
	}
	var granted *ticket.Ticket
	var err error
	testhost.As(t, 61002, func() { _, granted, err = client.Approve(t.Context(), r.ID) })
	if err != nil || granted == nil || granted.ID != r.ID {
		t.Fatal(granted, err)
	}
	h.write("/etc/stopguard/policy/data.json", `{"site": {}}`)
	for err = nil; !errors.Is(err, approval.ErrNoAgent); { // the socket goes with the setting
		_, err = client.List(t.Context())
	}
}
