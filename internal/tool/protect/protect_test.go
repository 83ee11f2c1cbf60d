package protect

import (
	"encoding/xml"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/tool/check"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/internal/virsh"
	"github.com/stopguard/stopguard/policy"
)

// A machine with only Go lacks virsh. These tests put a stand-in on the PATH, which implements the
// few commands that are used, answers in virsh's own words (as of 9.0.0), and stores its domains in
// a file.

func TestProtect(t *testing.T) {
	plain := tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true}
	with := func(change func(*tooltest.StandInDomain)) tooltest.StandInDomain {
		d := plain
		change(&d)
		return d
	}
	for name, tt := range map[string]struct {
		domain       tooltest.StandInDomain
		args         []string
		reason       string
		live, config bool
		stdout       string
		why          string
	}{
		"runs_and_is_stored": {plain, []string{"pg"}, "billing", true, true,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n", "both, or one would go with the other"},
		"is_stored": {with(func(d *tooltest.StandInDomain) { d.ID = "-" }), []string{"pg"}, "billing", false, true,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in its stored definition; it does not run.\n", "libvirt refuses --live"},
		"is_transient": {with(func(d *tooltest.StandInDomain) { d.Persistent = false }), []string{"pg"}, "billing", true, false,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain only: it is transient, and its definition ends with it.\n", "libvirt refuses --config"},
		"by_UUID": {plain, []string{tooltest.UUID1}, "billing", true, true,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n", "names may be ambiguous"},
		"name_like_an_option": {with(func(d *tooltest.StandInDomain) { d.Name = "--live" }), []string{"--", "--live"}, "billing", true, true,
			"--live is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n", "libvirt allows such names"},
		"text_like_XML_and_shell": {with(func(d *tooltest.StandInDomain) { d.Name = "a b$(reboot)" }), []string{"a b$(reboot)"}, `<a & "b" 'c'> $(reboot) =`, true, true,
			"a b$(reboot) is protected until the end of 2099-06-30 in UTC: <a & \"b\" 'c'> $(reboot) =\nThe mark is in the running domain and in its stored definition.\n", "everything is passed as it is"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.WithVirsh(tt.domain)
			got := s.Tool(append([]string{"protect", "--until", "2099-06-30", "--reason", tt.reason, "--owner", "dba"}, tt.args...)...)
			tooltest.Want(t, got, 0, tt.stdout, "")
			d := after().Domains[0]
			for place, there := range map[string]bool{d.Live: tt.live, d.Config: tt.config} {
				if !there {
					continue
				}
				var m virsh.Mark
				if err := xml.Unmarshal([]byte(place), &m); err != nil {
					t.Fatal(err)
				}
				m.XMLName = xml.Name{}
				if diff := cmp.Diff(virsh.Mark{Reason: tt.reason, Owner: "dba", Until: "2099-06-30", Domain: tooltest.UUID1}, m); diff != "" {
					t.Errorf("%s: mark (-want +got):\n%s", tt.why, diff)
				}
			}
			if (d.Live != "") != tt.live || (d.Config != "") != tt.config {
				t.Errorf("%s: live %q, config %q", tt.why, d.Live, d.Config)
			}
		})
	}
}

func TestProtect_against_more_than_a_stop(t *testing.T) {
	for name, tt := range map[string]struct {
		operations, mark, stdout string
		why                      string
	}{
		"one_more":   {"reset", "reset", "A gate refuses to stop, delete or reset it; a hook can refuse a stop only.\n", "it comes on top of a plain mark's"},
		"exactly":    {"stop,reset", "stop reset", "A gate refuses to stop or reset it; a hook can refuse a stop only.\n", "a stop among them makes them all"},
		"all":        {"modify,move,reset,pause,stop,delete", "stop delete pause reset move modify", "A gate refuses to stop, delete, pause, reset, move or modify it; a hook can refuse a stop only.\n", "in one order"},
		"tamper":     {"tamper", "delete modify", "A gate refuses to stop, delete or modify it; a hook can refuse a stop only.\n", "the former name"},
		"with_blank": {"move, move  reset", "reset move", "A gate refuses to stop, delete, reset or move it; a hook can refuse a stop only.\n", "as it stands in a mark"},
		"stop":       {"stop", "stop", "", "a stop alone"},
		"nothing":    {"", "", "", "a plain mark"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true})
			got := s.Tool("protect", "pg", "--until", "2099-06-30", "--reason", "billing", "--operations", tt.operations)
			tooltest.Want(t, got, 0, "pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n"+tt.stdout, "")
			var m virsh.Mark
			if err := xml.Unmarshal([]byte(after().Domains[0].Live), &m); err != nil {
				t.Fatal(err)
			}
			if m.Operations != tt.mark {
				t.Errorf("%s: %q", tt.why, m.Operations)
			}
			// The rule must read the tool's mark: the named operations are refused, and no others.
			s.Run("pg", tooltest.UUID1, strings.Replace(after().Domains[0].Live, "<protection ", "<protection xmlns='"+protection.Namespace+"' ", 1))
			for _, operation := range policy.Operations() {
				want := "allow"
				isPlain := operation == policy.OperationDelete && !slices.Contains(strings.Fields(tt.mark), policy.OperationStop)
				if operation == policy.OperationStop || isPlain || slices.Contains(strings.Fields(tt.mark), operation) {
					want = "veto"
				}
				got := s.Tool("check", "-o", "json", "--operation", operation).Is(t, 0)
				if d := tooltest.Decode[check.ReportJSON](t, got.Stdout).Domains; len(d) != 1 || d[0].Outcome != want {
					t.Errorf("%s: %+v, not %s", operation, d, want)
				}
			}
		})
	}
}

func TestProtect_says_what_a_mark_is_no_longer_for(t *testing.T) {
	s := newStage(t)
	s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true})
	again := func(operations string) string {
		return s.Tool("protect", "pg", "--until", "2099-06-30", "--reason", "billing", "--operations", operations).Is(t, 0).Stderr
	}
	for _, tt := range []struct{ operations, warning, why string }{
		{"reset,modify", "", "there was none"},
		{"reset,modify,move", "", "it is for more"},
		{"reset", "the mark that this one replaces was for move, modify, too; give them with --operations to keep that\n", "an extension must not weaken it in silence"},
		{"stop", "was for delete, reset, too;", "likewise"},
		{"stop", "", "there is nothing to lose"},
	} {
		if got := again(tt.operations); (got == "") != (tt.warning == "") || !strings.Contains(got, tt.warning) {
			t.Errorf("%s (%s): %q", tt.operations, tt.why, got)
		}
	}
}

func TestProtect_refuses(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		code int
		text string
		why  string
	}{
		"an_unknown_operation": {[]string{"pg", "--until", "2099-01-01", "--reason", "x", "--operations", "stop,rest"}, 2, `--operations names "rest", which is unknown; write stop, delete, pause, reset, move or modify, with commas between`, "it would be for all of them"},
		"a_time_gone_by":       {[]string{"pg", "--until", "2020-01-01", "--reason", "x"}, 2, `--until 2020-01-01 has passed; give a time in the future`, "it would protect nothing"},
		"no_time":              {[]string{"pg", "--until", "tomorrow", "--reason", "x"}, 2, `--until "tomorrow" is not a time; write 2027-06-30`, "a mark with it would never lapse"},
		"no_day":               {[]string{"pg", "--until", "2099-02-30", "--reason", "x"}, 2, "is not a time", "there is none"},
		"no_reason":            {[]string{"pg", "--until", "2099-01-01"}, 2, `required flag(s) "reason" not set`, "whoever is refused has to know"},
		"an_empty_reason":      {[]string{"pg", "--until", "2099-01-01", "--reason", " "}, 2, "--reason is empty", "the same"},
		"two_lines":            {[]string{"pg", "--until", "2099-01-01", "--reason", "a\nb"}, 2, "is not one line of printable text", "a refusal is one line"},
		"a_terminal's_codes":   {[]string{"pg", "--until", "2099-01-01", "--reason", "a\x1b[2Jb"}, 2, "is not one line of printable text", "a refusal is shown as it is"},
		"a_long_reason":        {[]string{"pg", "--until", "2099-01-01", "--reason", strings.Repeat("x", 201)}, 2, "is longer than 200 bytes", "a refusal would show a part"},
		"no_domain":            {[]string{"--until", "2099-01-01", "--reason", "x"}, 2, "nothing is named; name one domain", "there is no other way to name it"},
		"an_unknown_domain":    {[]string{"nope", "--until", "2099-01-01", "--reason", "x"}, 1, "virsh dominfo: failed to get domain 'nope' (exit status 1); correct this and try again", "virsh knows best"},
		"a_name_like_an_ID":    {[]string{"8", "--until", "2099-01-01", "--reason", "x"}, 1, "virsh takes 8 for the number of domain deaf; give the UUID instead", "virsh looks for IDs first"},
		"a_mark_not_kept":      {[]string{"deaf", "--until", "2099-01-01", "--reason", "x"}, 1, "was set and is not what virsh metadata --live gives", "it is read back"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true},
				tooltest.StandInDomain{Name: "deaf", UUID: tooltest.UUID2, ID: "8", Persistent: true, Deaf: true}, tooltest.StandInDomain{Name: "8", UUID: tooltest.UUID3, ID: "9"})
			got := s.Tool(append([]string{"protect"}, tt.args...)...)
			if got.Code != tt.code || got.Stdout != "" || !strings.HasPrefix(got.Stderr, "stopguard: ") {
				t.Errorf("%s: %+v", tt.why, got)
			}
			tooltest.Holds(t, "stderr", got.Stderr, tt.text)
			if h := after(); tt.code == 2 && len(h.Calls) > 0 {
				t.Errorf("%s: virsh was called: %q", tt.why, h.Calls)
			}
		})
	}
}

func TestWhatAGateRefusesIsSaidWithItsCure(t *testing.T) {
	const refusal = "stopguard: veto: pg: protected until 2099-06-30: billing (rule protection_mark)"
	for _, args := range [][]string{{"unprotect", "pg"}, {"protect", "pg", "--until", "2099-06-30", "--reason", "x"}} {
		s := newStage(t)
		s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Live: "<protection/>", Refused: refusal})
		tooltest.Want(t, s.Tool(args...), 1, "", "stopguard: the gate refuses it: pg: protected until 2099-06-30: billing (rule protection_mark); "+
			"to do it nevertheless: stopguard ticket grant NAME --operation modify --reason TEXT, and then this again\n")
	}
}

// A saved domain starts with the metadata that it had when it was saved.
func TestProtect_says_when_a_managed_save_will_undo_it(t *testing.T) {
	const warning = "pg has a managed save, and will start from it with the mark that it had then"
	s := newStage(t)
	s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "-", Persistent: true, Saved: true})
	for _, args := range [][]string{{"protect", "pg", "--until", "2099-06-30", "--reason", "x"}, {"unprotect", "pg"}} {
		if got := s.Tool(args...); got.Code != 0 || !strings.Contains(got.Stderr, warning) {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestProtect_connects_where_it_is_told(t *testing.T) {
	s := newStage(t)
	after := s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7"})
	s.Tool("protect", "-c", "qemu:///system", "pg", "--until", "2099-06-30T12:00:00+02:00", "--reason", "x")
	for _, call := range after().Calls {
		if !slices.Equal(call[:2], []string{"--quiet", "--connect=qemu:///system"}) {
			t.Errorf("got %q", call)
		}
	}
	tooltest.Holds(t, "the mark", after().Domains[0].Live, `until="2099-06-30T10:00:00Z"`)
}

func TestProtect_without_virsh(t *testing.T) {
	s := newStage(t)
	t.Setenv("PATH", s.Folder("empty"))
	tooltest.Want(t, s.Tool("protect", "pg", "--until", "2099-06-30", "--reason", "x"), 1, "",
		"stopguard: virsh is not on the PATH; install it: libvirt-clients on Debian, libvirt-client on Fedora\n")
}

func TestUnprotect(t *testing.T) {
	const set = `<protection reason="billing" until="2099-06-30" domain="` + tooltest.UUID1 + `"></protection>`
	for name, tt := range map[string]struct {
		domain tooltest.StandInDomain
		stdout string
	}{
		"a_mark_at_both_places": {tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true, Live: set, Config: set},
			"pg is no longer protected by a mark. It was, until 2099-06-30: billing\n"},
		"a_mark_at_one_place": {tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true, Config: set},
			"pg is no longer protected by a mark. It was, until 2099-06-30: billing\n"},
		"by_a_newer_virsh": {tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true, Live: set, Config: set, Newer: true},
			"pg is no longer protected by a mark. It was, until 2099-06-30: billing\n"},
		"no_mark_by_a_newer_virsh": {tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true, Newer: true}, "pg carries no mark.\n"},
		"no_mark":                  {tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Persistent: true}, "pg carries no mark.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.WithVirsh(tt.domain)
			tooltest.Want(t, s.Tool("unprotect", "pg"), 0, tt.stdout, "")
			if d := after().Domains[0]; d.Live != "" || d.Config != "" {
				t.Errorf("left: %+v", d)
			}
		})
	}
}

// A mark that was removed on purpose is not reported.
func TestUnprotect_is_not_reported_as_a_mark_that_went(t *testing.T) {
	s := newStage(t)
	p := s.Run("pg", tooltest.UUID1, tooltest.FarMark)
	s.Tool("check")
	s.WithVirsh(tooltest.StandInDomain{Name: "pg", UUID: tooltest.UUID1, ID: "7", Live: "<protection/>"})
	if got := s.Tool("unprotect", "pg"); got.Code != 0 || got.Stderr != "" {
		t.Fatalf("%+v", got)
	}
	s.Rerun(p, "pg", tooltest.UUID1, "")
	if got := s.Tool("check"); strings.Contains(got.Stdout, "gone") {
		t.Error(got.Stdout)
	}
}

func TestProtectMany(t *testing.T) {
	s := newStage(t)
	host := s.WithVirsh(
		tooltest.StandInDomain{Name: "pg-1", UUID: tooltest.UUID1, ID: "1", Persistent: true},
		tooltest.StandInDomain{Name: "pg-2", UUID: tooltest.UUID2, ID: "-", Persistent: true},
		tooltest.StandInDomain{Name: "web", UUID: tooltest.UUID3, ID: "3", Persistent: true, Refused: "no"},
	)
	marked := func() (names []string) {
		for _, d := range host().Domains {
			if d.Config != "" {
				names = append(names, d.Name)
			}
		}
		return names
	}
	got := s.Tool("protect", "pg-*", "pg-1", "--for", "90d", "--reason", "x", "--dry-run").Is(t, 0)
	if got.Stdout != "pg-1 would be protected\npg-2 would be protected\n" || marked() != nil {
		t.Errorf("%s %q", got.Stdout, marked())
	}
	// The name that is not there is an error before anything is marked.
	tooltest.Holds(t, "a wrong name", s.Tool("protect", "pg-1", "nope", "--for", "90d", "--reason", "x").Is(t, 1).Stderr, "nope")
	tooltest.Holds(t, "a wrong pattern", s.Tool("protect", "x*", "--for", "90d", "--reason", "x").Is(t, 1).Stderr, "no domain is like x*")
	if marked() != nil {
		t.Errorf("%q", marked())
	}
	list := s.Put("names", "# databases\npg-*\n\n")
	s.Tool("protect", "--file", list, "--for", "1d12h", "--reason", "x").Is(t, 0)
	if got := marked(); len(got) != 2 {
		t.Errorf("%q", got)
	}
	// A failure for one domain is reported, and the others are protected.
	got = s.Tool("protect", "web", "pg-1", "--for", "90d", "--reason", "y").Is(t, 1)
	tooltest.Holds(t, "one that fails", got.Stderr, "web: ", "1 of 2 domains failed")
	tooltest.Holds(t, "one that fails", got.Stdout, "pg-1 is protected until ")
	s.Tool("unprotect", "pg-*").Is(t, 0)
	if got := marked(); got != nil {
		t.Errorf("%q", got)
	}
	for _, args := range [][]string{
		{"pg-1", "--reason", "x"}, {"pg-1", "--reason", "x", "--for", "1d", "--until", "2099-06-30"},
		{"--reason", "x", "--for", "1d"}, {"pg-1", "--reason", "x", "--for", "xd"}, {"pg-1", "--reason", "x", "--for", "-1h"},
	} {
		s.Tool(append([]string{"protect"}, args...)...).Is(t, 2)
	}
}
