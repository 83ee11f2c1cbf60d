package ticket

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/approval"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

const needsTwo = `{"site": {"tickets": {"approvers": 2, "who": ["user:61001", "user:61002", "user:61003"], "for": ["pg-*"], "break_glass": true}}}`

// newBoard returns a host whose agent has tickets approved.
func newBoard(t *testing.T) *tooltest.Stage {
	s := newStage(t, "etc/stopguard/policy/data.json", needsTwo)
	s.Run("pg-primary-01", tooltest.UUID1, tooltest.FarMark)
	testhost.OpenToAll(t, s.Root)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	board := &approval.Board{Root: s.Root, DomainName: func(string) string { return "pg-primary-01" }, Approvals: func() (*policy.Approvals, error) {
		config, err := hostpolicy.Load(s.Root)
		if err != nil {
			return nil, err
		}
		engine, err := policy.New(ctx, config)
		if err != nil {
			return nil, err
		}
		return engine.Approvals(), nil
	}}
	go func() {
		defer close(ended)
		board.Serve(ctx, func(err error) { t.Error(err) })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	for err := approval.ErrNoAgent; errors.Is(err, approval.ErrNoAgent); time.Sleep(time.Millisecond) {
		testhost.As(t, 61001, func() { _, err = approval.Client{Root: s.Root}.List(ctx) })
	}
	return s
}

// The commands of docs/tickets.md, each by another person.
func TestTicket_requestAndApprove(t *testing.T) {
	s := newBoard(t)
	document, err := os.ReadFile("../../../docs/tickets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(document), "## Approvals\n")
	_, section, _ = strings.Cut(section, "```sh\n")
	section, _, found := strings.Cut(section, "```\n")
	if !found {
		t.Fatal("docs/tickets.md has no commands below Approvals")
	}
	as := func(uid int, args ...string) (code int, text string) {
		testhost.As(t, uid, func() {
			got := s.Tool(args...)
			code, text = got.Code, got.Stdout+got.Stderr
		})
		return code, text
	}
	var id string
	people := []int{61001, 61002, 61002, 61003} // who requests, lists, approves and approves
	wants := []string{"once 2 others approve", "pg-primary-01 ", "has 1 of 2 approvals", "may be stopped until"}
	i := 0
	for line := range strings.Lines(section) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
		line = strings.ReplaceAll(line, "pg-primary-01", tooltest.UUID1) // its name is root's to read
		args := splitLine(strings.ReplaceAll(line, "1f0c5be2a94d7763", id))
		code, text := as(people[i], args[1:]...)
		if code != 0 || !strings.Contains(text, wants[i]) {
			t.Fatalf("%s: %d, %s\nwant %s", line, code, text, wants[i])
		}
		if i == 0 {
			id = strings.TrimSuffix(strings.Fields(text)[1], ":")
		}
		i++
	}
	if i != len(people) {
		t.Errorf("%d commands", i)
	}
	list := tooltest.Decode[[]ticketJSON](t, s.Tool("ticket", "list", "-o", "json").Is(t, 0).Stdout)
	if len(list) != 1 || list[0].ID != id || len(list[0].Approval.Approvers) != 2 {
		t.Errorf("%+v", list)
	}
}

// splitLine splits a command line with plain quotes.
func splitLine(line string) (args []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			args = append(args, part)
		} else {
			args = append(args, strings.Fields(part)...)
		}
	}
	return args
}

func TestTicket_needsApprovals(t *testing.T) {
	s := newBoard(t)
	got := s.Tool("ticket", "grant", "pg-primary-01", "--reason", "x").Is(t, 1)
	tooltest.Holds(t, "stderr", got.Stderr, "pg-primary-01 needs a ticket with 2 approvals (data.site.tickets); use stopguard ticket request")
	got = s.Tool("ticket", "grant", "--all", "--reason", "x").Is(t, 0)
	tooltest.Holds(t, "stderr", got.Stderr, "does not lift the vetoes of domains that need 2 approvals")
	s.Tool("ticket", "grant", tooltest.UUID2, "--reason", "another domain").Is(t, 0)

	var code int
	var text string
	testhost.As(t, 61001, func() {
		got := s.Tool("ticket", "request", tooltest.UUID1, "--reason", "the pager rang", "--break-glass")
		code, text = got.Code, got.Stdout
	})
	if code != 0 || !strings.Contains(text, "without approvals (break-glass)") {
		t.Error(code, text)
	}
	testhost.As(t, 61001, func() {
		got := s.Tool("ticket", "request", tooltest.UUID1, "--reason", "x")
		code, text = got.Code, got.Stdout
	})
	id := strings.TrimSuffix(strings.Fields(text)[1], ":")
	testhost.As(t, 61002, func() {
		got := s.Tool("ticket", "reject", id)
		code, text = got.Code, got.Stdout
	})
	if code != 0 || text != "request "+id+" is rejected\n" {
		t.Error(code, text)
	}
}

func TestTicket_withoutAnAgent(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/data.json", needsTwo)
	s.Run("pg-primary-01", tooltest.UUID1, tooltest.FarMark)
	got := s.Tool("ticket", "request", "pg-primary-01", "--reason", "x").Is(t, 1)
	tooltest.Holds(t, "stderr", got.Stderr, "no agent answers at", "only an agent can have a ticket approved")
	s.Tool("ticket", "list").Is(t, 0)
}

// The former name of two operations needs the approvals of either: a ticket that lifts half of what
// it names is not granted.
func TestTicketGrantByAFormerNameNeedsTheApprovalsOfEither(t *testing.T) {
	for _, operations := range []string{"delete", "modify", "tamper"} {
		s := newStage(t, "etc/stopguard/policy/data.json", `{"site": {"tickets": {"approvers": 2, "who": ["user:61001"], "operations": ["`+operations+`"]}}}`)
		s.Run("pg-primary-01", tooltest.UUID1, tooltest.FarMark)
		got := s.Tool("ticket", "grant", "pg-primary-01", "--operation", "tamper", "--reason", "x").Is(t, 1)
		tooltest.Holds(t, operations, got.Stderr, "pg-primary-01 needs a ticket with 2 approvals (data.site.tickets); use stopguard ticket request")
		s.Tool("ticket", "grant", "pg-primary-01", "--operation", "stop", "--reason", "x").Is(t, 0)
	}
}
