package explain

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/tool/explanation"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

const clock = "2026-11-22T12:00:00Z"

// untimed puts one time in place of the present one.
func untimed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  reads input.time = ") {
			line = "  reads input.time = \"" + clock + "\"\n"
		}
		if before, _, ok := strings.Cut(line, "process "); ok && before == "" {
			line = "process PID is alive, state running (booted)\n"
		}
		if strings.HasPrefix(line, "  written at the library's ") { // a rule may move within its file
			line = line[:strings.LastIndexByte(line, ':')] + ":LINE\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "pg-*\n", "etc/stopguard/policy/site.rego", `package stopguard.rules.site

veto contains "has a display" if {
	some child in input.xml.children
	child.name == "devices"
}

veto contains {"message": "monitored groups", "until": "2099-01-01T00:00:00Z"} if {
	input.domain.name in data.site.site.names
}
`, "etc/stopguard/policy/data.json", `{"site": {"site": {"names": ["pg-primary-01"]}, "monitor": ["site"]}}`)
	s.Run("pg-primary-01", tooltest.UUID1, "<!-- c -->"+tooltest.FarMark+"<x:app xmlns:x='urn:app' tier='1'><x:team>database &amp; storage</x:team></x:app>")
	got := s.Tool("explain", "pg-primary-01").Is(t, 0)
	tooltest.Golden(t, "explain", "running", untimed(got.Stdout))
	j := tooltest.Decode[explainJSON](t, s.Tool("explain", "pg-primary-01", "-o", "json").Is(t, 0).Stdout)
	if j.Outcome != "veto" || len(j.Reasons) != 2 || j.Evidence == "" || len(j.Rules) < 3 || len(j.Rules[0].Reads) == 0 {
		t.Errorf("%+v", j)
	}

	s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID2, ""))
	got = s.Tool("explain", "web", "--xml", s.Root+"/web.xml").Is(t, 0)
	tooltest.Golden(t, "explain", "file", untimed(got.Stdout))
}

func TestExplainAsJSON(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/site.rego", "package stopguard.rules.site\n\nveto contains {\"message\": \"frozen\", \"until\": \"2099-01-01T00:00:00Z\"} if input.domain.name == \"web\"\n")
	s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID2, ""))
	s.Tool("ticket", "grant", tooltest.UUID2, "--reason", "x")
	j := tooltest.Decode[explainJSON](t, s.Tool("explain", "web", "--xml", s.Root+"/web.xml", "-o", "json").Is(t, 0).Stdout)
	j.Rules = slices.DeleteFunc(j.Rules, func(r explanation.Rule) bool { return r.Name != "site" }) // the library's change
	if j.Ticket == "" {
		t.Error("the ticket is not named")
	}
	j.Why, j.Ticket = "", "TICKET"
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	tooltest.Golden(t, "explain", "json", string(text)+"\n")
	s.Tool("explain", "web", "-o", "xml").Is(t, 2)
}

// A file is explained on any machine, where nothing of libvirt need be.
func TestExplain_of_a_file_says_nothing_of_the_machine(t *testing.T) {
	s := newStage(t)
	s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID2, ""))
	if err := os.RemoveAll(s.Root + "/run"); err != nil {
		t.Fatal(err)
	}
	got := s.Tool("explain", "web", "--xml", s.Root+"/web.xml").Is(t, 0).Stdout
	if !strings.HasPrefix(got, "web may be stopped: allow\n\nhold\n") {
		t.Error(got)
	}
}

func TestExplain_says_what_is_wrong(t *testing.T) {
	s := newStage(t)
	s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID2, ""))
	p := s.Process("x")
	s.Status("broken", p.Pid, "<domstatus")
	for name, tt := range map[string]struct {
		args []string
		code int
		text string
		why  string
	}{
		"not_running":    {[]string{"nope"}, 1, "no domain nope runs on this host; give its XML with --xml", "there may be a file of it"},
		"another_domain": {[]string{"db", "--xml", s.Root + "/web.xml"}, 1, "describes the domain web, not db", "a slip"},
		"no_file":        {[]string{"db", "--xml", s.Root + "/none.xml"}, 1, "no such file or directory", "a slip"},
		"unreadable":     {[]string{"broken"}, 1, "broken: the status file cannot be read", "the hook would refuse"},
		"no_name":        {nil, 2, "nothing is named; name one domain", "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.Tool(append([]string{"explain"}, tt.args...)...).Is(t, tt.code)
			tooltest.Holds(t, tt.why, got.Stderr, tt.text)
		})
	}
}

func TestExplain_of_another_operation(t *testing.T) {
	s := newStage(t)
	s.Run("pg", tooltest.UUID1, strings.Replace(tooltest.FarMark, "reason=", `operations="reset" reason=`, 1))
	tooltest.Holds(t, "reset", s.Tool("explain", "pg", "--operation", "reset").Is(t, 0).Stdout, "pg may not be reset: veto\n", "  protected until 2099-06-30: billing primary\n", `reads input.operation = "reset"`)
	tooltest.Holds(t, "modify", s.Tool("explain", "pg", "--operation", "modify").Is(t, 0).Stdout, "pg may be changed: allow\n")
	s.Tool("explain", "pg", "--operation", "destroy").Is(t, 2)
	s.Tool("ticket", "grant", "pg", "--reason", "disk swap", "--requester", "ann").Is(t, 0)
	if got := s.Tool("explain", "pg", "--operation", "reset"); strings.Contains(got.Stdout, "ann") {
		t.Errorf("a ticket to stop lets it be reset:\n%s", got.Stdout)
	}
	s.Tool("ticket", "grant", "pg", "--reason", "hangs", "--requester", "bob", "--operation", "reset").Is(t, 0)
	tooltest.Holds(t, "ticket", s.Tool("explain", "pg", "--operation", "reset").Stdout, " of bob lets it be reset nevertheless: hangs\n")
}

func TestExplain_names_a_ticket_and_takes_none(t *testing.T) {
	s := newStage(t)
	s.Run("pg", tooltest.UUID1, tooltest.FarMark)
	s.Tool("ticket", "grant", "pg", "--reason", "disk swap", "--requester", "ann").Is(t, 0)
	for range 2 {
		tooltest.Holds(t, "stdout", s.Tool("explain", "pg").Is(t, 0).Stdout, " of ann lets it be stopped nevertheless: disk swap\n")
	}
	tooltest.Holds(t, "list", s.Tool("ticket", "list").Stdout, "  open ")
}

func TestExplain_names_a_ticket_that_this_run_holds(t *testing.T) {
	for _, tt := range []struct {
		why   string
		later int // of the run that has taken it
		want  bool
	}{
		{"a stop that failed has taken it, and the next one gets it again", 0, true},
		{"an earlier run has taken it", 1, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := newStage(t)
			s.Run("pg", tooltest.UUID1, tooltest.FarMark)
			s.Tool("ticket", "grant", "pg", "--reason", "disk swap", "--requester", "ann").Is(t, 0)
			p := hookproto.Host{Root: s.Root}.Process("pg")
			run := policy.Incarnation{UUID: tooltest.UUID1, PID: p.PID, Start: p.Start + uint64(tt.later)}
			if _, taken, reports := (ticket.Store{Root: s.Root}).Take(run, "pg", policy.OperationStop, time.Now()); !taken {
				t.Fatal(reports)
			}
			got := s.Tool("explain", "pg").Is(t, 0).Stdout
			if strings.Contains(got, " of ann lets it be stopped nevertheless: disk swap\n") != tt.want {
				t.Error(got)
			}
		})
	}
}

// Without a word of it, an allow would seem to be the whole answer.
func TestExplain_names_the_rules_in_Go_that_it_cannot_ask(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/data.json", `{"site": {"go_rules": ["quorum"]}}`)
	s.Run("pg", tooltest.UUID1, "")
	tooltest.Holds(t, "stderr", s.Tool("explain", "pg").Is(t, 0).Stderr, "stopguard: rules written in Go were not asked, for they are in the site's own hook alone: quorum; ")
}
