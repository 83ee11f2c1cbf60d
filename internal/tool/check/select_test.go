package check

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

// mixed is a host with a marked, a listed and a free domain.
func mixed(t *testing.T) *tooltest.Stage {
	t.Helper()
	s := newStage(t, "etc/libvirt/protected-domains", "listed-*\n")
	s.Run("pg-01", tooltest.UUID1, tooltest.FarMark)
	s.Run("listed-01", tooltest.UUID2, "")
	s.Run("web-01", tooltest.UUID3, "")
	return s
}

func TestCheckByNameAndFile(t *testing.T) {
	s := mixed(t)
	file := s.Put("off.xml", tooltest.DomainXML("off", "44444444-2b11-40de-a128-75e3f4a5fe44", ""))
	t.Chdir(s.Root)
	for _, tt := range []struct {
		why  string
		args []string
		want string
	}{
		{"names", []string{"web-01", "pg-01"}, "web-01\npg-01\n"},
		{"a UUID", []string{strings.ToUpper(tooltest.UUID1)}, "pg-01\n"},
		{"a file by its path", []string{file}, "off\n"},
		{"a file of the current folder", []string{"off.xml"}, "off\n"},
		{"both", []string{"pg-01", "./off.xml"}, "pg-01\noff\n"},
	} {
		got := s.Tool(append([]string{"check", "-o", "name"}, tt.args...)...).Is(t, 0)
		if got.Stdout != tt.want {
			t.Errorf("%s: %q", tt.why, got.Stdout)
		}
	}
	// A running domain comes before a file of the same name.
	s.Put("web-01", tooltest.DomainXML("other", tooltest.UUID1, ""))
	if got := s.Tool("check", "-o", "name", "web-01").Is(t, 0); got.Stdout != "web-01\n" {
		t.Errorf("%q", got.Stdout)
	}
	if got := s.Tool("check", "-o", "name", "./web-01").Is(t, 0); got.Stdout != "other\n" {
		t.Errorf("%q", got.Stdout)
	}
	got := s.Tool("check", "nope").Is(t, 1)
	tooltest.Holds(t, "a wrong name", got.Stderr, "nope: no domain of this name runs on this host, and there is no such file", "virsh dumpxml nope | stopguard check -")
}

func TestCheckFilters(t *testing.T) {
	s := mixed(t)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--protected"}, "listed-01\npg-01\n"},
		{[]string{"--rule", "protection_mark"}, "pg-01\n"},
		{[]string{"--domain", "*-01", "--protected", "--rule", "protected_list"}, "listed-01\n"},
		{[]string{"--domain", "[a-o]*"}, "listed-01\n"},
		{[]string{"--domain", "x*"}, ""},
	} {
		if got := s.Tool(append([]string{"check", "-o", "name"}, tt.args...)...).Is(t, 0); got.Stdout != tt.want {
			t.Errorf("%q: %q", tt.args, got.Stdout)
		}
	}
	tooltest.Holds(t, "a pattern", s.Tool("check", "--domain", "[").Is(t, 2).Stderr, "--domain")
	json := tooltest.Decode[ReportJSON](t, s.Tool("check", "--protected", "-o", "json").Is(t, 0).Stdout)
	if len(json.Domains) != 2 {
		t.Errorf("%+v", json.Domains)
	}
	// A domain that a filter leaves out is not reported as gone.
	s.Tool("check", "--domain", "web-*").Is(t, 0)
	if got := s.Tool("check"); strings.Contains(got.Stdout, "gone") || strings.Contains(got.Stdout, "off the list") {
		t.Errorf("%s", got.Stdout)
	}
}

func TestCheckWide(t *testing.T) {
	got := mixed(t).Tool("check", "-o", "wide", "--protected").Is(t, 0)
	tooltest.Holds(t, "wide", got.Stdout, "UUID  ", tooltest.UUID1, "listed in /etc/libvirt/protected-domains as listed-*; take it off the list to stop it", "protected until 2099-06-30: billing primary")
}

func TestTheTablesWidthIsTheTerminals(t *testing.T) {
	s := newStage(t)
	long := strings.Repeat("long-", 12)
	s.Run(long, tooltest.UUID1, tooltest.FarMark)
	for _, columns := range []int{60, 80, 200} {
		f, written := tooltest.OpenTerminalOf(t, columns)
		s.RunTool(context.Background(), []string{"check"}, strings.NewReader(""), f, io.Discard)
		text := written()
		for line := range strings.Lines(text) {
			line = strings.NewReplacer("\x1b[33m", "", "\x1b[0m", "").Replace(strings.TrimRight(line, "\r\n"))
			if n := terminal.TextWidth(line); n > columns {
				t.Errorf("%d of %d columns: %q", n, columns, line)
			}
		}
		if isWhole := strings.Contains(text, long+"  "); isWhole != (columns == 200) {
			t.Errorf("at %d columns:\n%s", columns, text)
		}
	}
	if got := s.Tool("check"); !strings.Contains(got.Stdout, long+"  veto") {
		t.Errorf("a pipe gets less:\n%s", got.Stdout)
	}
}

// A script tells "may not" from "could not decide" and from its own mistake.
func TestMayStop(t *testing.T) {
	s := mixed(t)
	web, err := os.ReadFile(s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID3, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		why   string
		args  []string
		stdin string
		code  int
		want  string
	}{
		{"it may", []string{"web-01"}, "", 0, "web-01 may be stopped\n"},
		{"it may not", []string{"pg-01"}, "", 1, "pg-01 may not be stopped: protected until 2099-06-30: billing primary (rule protection_mark)\n"},
		{"another operation", []string{"pg-01", "--operation", "reset"}, "", 0, "pg-01 may be reset\n"},
		{"stdin", []string{"-"}, string(web), 0, "web may be stopped\n"},
		{"a file", []string{filepath.Join(s.Root, "web.xml")}, "", 0, "web may be stopped\n"},
		{"a name that nothing has", []string{"nope"}, "", 2, "no domain of this name runs on this host"},
		{"no name", nil, "", 64, "nothing is named; name one domain"},
		{"two names", []string{"a", "b"}, "", 64, "2 arguments are given"},
		{"an unknown operation", []string{"web-01", "--operation", "destroy"}, "", 64, "is unknown"},
		{"an unknown option", []string{"web-01", "--force"}, "", 64, "unknown flag"},
	} {
		var stdout, stderr strings.Builder
		code := s.RunTool(context.Background(), append([]string{"may-stop"}, tt.args...), strings.NewReader(tt.stdin), &stdout, &stderr)
		if code != tt.code || !strings.Contains(stdout.String()+stderr.String(), tt.want) {
			t.Errorf("%s: exit %d\n%s%s", tt.why, code, &stdout, &stderr)
		}
	}
	s.Put("etc/stopguard/policy/half.rego", "package")
	if got := s.Tool("may-stop", "web-01"); got.Code != 2 || got.Stdout != "" || !strings.Contains(got.Stderr, "half.rego") {
		t.Errorf("with a broken policy: %+v", got)
	}
}

func TestCheckExitCode(t *testing.T) {
	s := mixed(t)
	for _, tt := range []struct {
		args []string
		code int
	}{
		{[]string{"web-01"}, 0},
		{[]string{"web-01", "pg-01"}, 1},
		{nil, 1},
		{[]string{"--domain", "web-*"}, 0},
		{[]string{"pg-01", "nope"}, 2},
		{[]string{"--nope"}, 64},
		{[]string{"-o", "xml"}, 64},
	} {
		s.Tool(append([]string{"check", "--exit-code"}, tt.args...)...).Is(t, tt.code)
	}
	s.Tool("check", "--nope").Is(t, 2)
	s.Tool("check").Is(t, 0)
	s.Put("etc/stopguard/policy/half.rego", "package")
	s.Tool("check", "--exit-code").Is(t, 2)
	s.Tool("check").Is(t, 1)
}

// A ticket counts as it would for a stop, and is not taken.
func TestAnOpenTicketIsNamed(t *testing.T) {
	s := mixed(t)
	granted, err := ticket.Store{Root: s.Root}.Grant(ticket.Ticket{Domain: tooltest.UUID1, Operation: policy.OperationStop, Reason: "disk swap", Requester: "ann", NotAfter: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := s.Tool("check").Is(t, 0)
	tooltest.Holds(t, "check", got.Stdout, "pg-01      veto", "\nticket "+granted.ID+" lets pg-01 be stopped\n")
	if strings.Contains(got.Stdout, "lets listed-01") {
		t.Errorf("%s", got.Stdout)
	}
	tooltest.Holds(t, "JSON", s.Tool("check", "-o", "json").Stdout, `"ticket": "`+granted.ID+`"`)
	s.Tool("check", "--exit-code", "pg-01").Is(t, 0)
	tooltest.Holds(t, "may-stop", s.Tool("may-stop", "pg-01").Is(t, 0).Stdout, "pg-01 may be stopped: ticket "+granted.ID+" lifts the veto of rule protection_mark")
	s.Tool("may-stop", "pg-01").Is(t, 0)
	if list, _ := (ticket.Store{Root: s.Root}).List(time.Now()); list[0].State != ticket.Open {
		t.Errorf("the ticket is %s", list[0].State)
	}
}
