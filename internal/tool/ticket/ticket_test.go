package ticket

import (
	"cmp"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

func TestTicket(t *testing.T) {
	s := newStage(t)
	s.Run("pg-primary-01", tooltest.UUID1, tooltest.FarMark)
	for name, tt := range map[string]struct {
		args   []string
		want   ticket.Ticket
		hold   time.Duration
		stdout string
		why    string
	}{
		"by_name":    {[]string{"pg-primary-01", "--reason", "disk swap"}, ticket.Ticket{Domain: tooltest.UUID1, Requester: "ann"}, time.Hour, ": pg-primary-01 may be stopped until ", "what people know"},
		"by_UUID":    {[]string{tooltest.UUID2, "--reason", "disk swap", "--for", "2h"}, ticket.Ticket{Domain: tooltest.UUID2, Requester: "ann"}, 2 * time.Hour, ": " + tooltest.UUID2 + " may be stopped until ", "it need not run yet"},
		"for_all":    {[]string{"--all", "--reason", "disk swap", "--requester", "bob"}, ticket.Ticket{Name: "*", Requester: "bob"}, time.Hour, ": every domain may be stopped until ", "draining"},
		"by_pattern": {[]string{"--all", "web-*", "--reason", "disk swap"}, ticket.Ticket{Name: "web-*", Requester: "ann"}, time.Hour, ": every domain like web-* may be stopped until ", "draining a part"},
		"to_move":    {[]string{"--all", "--operation", "move", "--reason", "disk swap"}, ticket.Ticket{Name: "*", Operation: policy.OperationMove, Requester: "ann"}, time.Hour, ": every domain may be moved until ", "evacuating a host"},
		"to_modify":  {[]string{tooltest.UUID2, "--operation=modify", "--reason", "disk swap"}, ticket.Ticket{Domain: tooltest.UUID2, Operation: policy.OperationModify, Requester: "ann"}, time.Hour, ": " + tooltest.UUID2 + " may be changed until ", "to take a mark away"},
		"to_delete":  {[]string{tooltest.UUID2, "--operation=delete", "--reason", "disk swap"}, ticket.Ticket{Domain: tooltest.UUID2, Operation: policy.OperationDelete, Requester: "ann"}, time.Hour, ": " + tooltest.UUID2 + " may be deleted until ", "to undefine"},
		"to_tamper":  {[]string{tooltest.UUID2, "--operation=tamper", "--reason", "disk swap"}, ticket.Ticket{Domain: tooltest.UUID2, Operation: "tamper", Requester: "ann"}, time.Hour, ": " + tooltest.UUID2 + " may be changed or deleted until ", "the former name of two operations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SUDO_USER", "ann")
			got := s.Tool(append([]string{"ticket", "grant"}, tt.args...)...).Is(t, 0)
			tooltest.Holds(t, tt.why, got.Stdout, tt.stdout, "requested by "+tt.want.Requester+": disk swap\n")
			list := tooltest.Decode[[]ticketJSON](t, s.Tool("ticket", "list", "-o", "json").Is(t, 0).Stdout)
			if len(list) != 1 {
				t.Fatalf("%d tickets", len(list))
			}
			l := list[0]
			if l.Domain != tt.want.Domain || l.Name != tt.want.Name || l.Requester != tt.want.Requester || l.Reason != "disk swap" ||
				l.Operation != cmp.Or(tt.want.Operation, policy.OperationStop) || l.State != ticket.Open || l.NotAfter.Sub(l.Granted).Round(time.Minute) != tt.hold {
				t.Errorf("%s: %+v", tt.why, l)
			}
			table := s.Tool("ticket", "list").Is(t, 0).Stdout
			tooltest.Holds(t, "list", table, l.ID+"  open   ", tt.want.Requester+": disk")
			tooltest.Want(t, s.Tool("ticket", "revoke", l.ID), 0, "ticket "+l.ID+" is revoked\n", "")
			tooltest.Holds(t, "stderr", s.Tool("ticket", "revoke", l.ID).Is(t, 1).Stderr, "there is no ticket")
		})
	}
}

func TestTicket_refuses(t *testing.T) {
	s := newStage(t)
	for name, tt := range map[string]struct {
		args []string
		code int
		text string
	}{
		"an_operation":   {[]string{tooltest.UUID1, "--reason", "x", "--operation", "destroy"}, 2, `--operation "destroy" is unknown; write stop, delete, pause, reset, move or modify`},
		"no_reason":      {[]string{tooltest.UUID1}, 2, `required flag(s) "reason" not set`},
		"no_domain":      {[]string{"--reason", "x"}, 2, "no domain is named; name one, or write --all"},
		"two_times":      {[]string{tooltest.UUID1, "--reason", "x", "--for", "1h", "--until", "2099-01-01"}, 2, "[for until]"},
		"unknown_domain": {[]string{"nope", "--reason", "x"}, 1, "no domain nope runs on this host; correct the name, or give the UUID"},
		"too_long":       {[]string{tooltest.UUID1, "--reason", "x", "--until", "2099-01-01"}, 1, "more than 30 days"},
		"gone_by":        {[]string{tooltest.UUID1, "--reason", "x", "--until", "2020-01-01"}, 2, "has passed"},
		"negative":       {[]string{tooltest.UUID1, "--reason", "x", "--for", "-1h"}, 1, "expired from the beginning"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.Tool(append([]string{"ticket", "grant"}, tt.args...)...).Is(t, tt.code)
			tooltest.Holds(t, "stderr", got.Stderr, tt.text)
		})
	}
	if got := s.Tool("ticket", "list", "-o", "json"); got.Stdout != "[]\n" {
		t.Errorf("left: %s", got.Stdout)
	}
}

func TestTicket_list_tells_of_the_taken_and_the_unreadable(t *testing.T) {
	s := newStage(t)
	s.Tool("ticket", "grant", "--all", "--reason", "drain").Is(t, 0)
	store := ticket.Store{Root: s.Root}
	if _, ok, reports := store.Take(policy.Incarnation{UUID: tooltest.UUID1, PID: 7, Start: 9}, "pg", policy.OperationStop, time.Now()); !ok {
		t.Fatal(reports)
	}
	list := tooltest.Decode[[]ticketJSON](t, s.Tool("ticket", "list", "-o", "json").Is(t, 0).Stdout)
	if len(list) != 1 || len(list[0].Claims) != 1 || list[0].Claims[0].Name != "pg" || list[0].Claims[0].PID != 7 {
		t.Errorf("got %+v", list)
	}
	s.Put("var/lib/stopguard/tickets/0123456789abcdef.json", "{")
	got := s.Tool("ticket", "list").Is(t, 1)
	if !strings.HasPrefix(got.Stdout, "TICKET") || !strings.HasPrefix(got.Stderr, "stopguard: ticket: ") {
		t.Errorf("%+v", got)
	}
}

func TestTheRequesterIsWhoIsLoggedIn(t *testing.T) {
	t.Setenv("SUDO_USER", "")
	id, err := os.ReadFile("/proc/self/loginuid")
	if got := login(); got == "" || err == nil && strings.TrimSpace(string(id)) == "4294967295" && strings.Contains(got, "4294967295") {
		t.Errorf("got %q", got)
	}
	t.Setenv("SUDO_USER", "ann")
	if got := login(); got != "ann" {
		t.Errorf("got %q", got)
	}
}
