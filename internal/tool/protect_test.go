package tool

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/policy"
)

// There is no virsh where only Go is. These tests have a stand-in on the PATH, which knows the few commands that are used,
// answers in virsh's own words (as of 9.0.0), and keeps its domains in a file.

const standInFile = "STOPGUARD_TEST_VIRSH"

type standInDomain struct {
	Name, UUID, ID string // ID is "-" where it does not run
	Persistent     bool
	Live, Config   string // the mark
	Deaf           bool   // it forgets what is set
	Saved          bool   // it has a managed save
	Refused        string // what a gate says to any change of it
}

var yesNo = map[bool]string{true: "yes", false: "no"}

type standInHost struct {
	Domains []standInDomain
	Calls   [][]string
}

func (h *standInHost) find(name string) *standInDomain {
	for _, by := range []func(standInDomain) string{
		func(d standInDomain) string { return d.ID }, func(d standInDomain) string { return d.UUID }, func(d standInDomain) string { return d.Name },
	} {
		if i := slices.IndexFunc(h.Domains, func(d standInDomain) bool { return by(d) == name && name != "-" }); i >= 0 {
			return &h.Domains[i]
		}
	}
	return nil
}

func standIn(args []string) int {
	file := os.Getenv(standInFile)
	content, err := os.ReadFile(file)
	var h standInHost
	if err == nil {
		err = json.Unmarshal(content, &h)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		return 99
	}
	h.Calls = append(h.Calls, args)
	code := h.do(args)
	content, _ = json.Marshal(h)
	if os.WriteFile(file, content, 0o600) != nil {
		return 99
	}
	return code
}

func (h *standInHost) do(args []string) int {
	fail := func(text string) int {
		fmt.Fprintln(os.Stderr, "error: "+text)
		return 1
	}
	option := func(name string) (string, bool) {
		for _, arg := range args {
			if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
				return value, true
			}
		}
		return "", slices.Contains(args, "--"+name)
	}
	command := args[slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })]
	name, _ := option("domain")
	d := h.find(name)
	if d == nil {
		return fail("failed to get domain '" + name + "'")
	}
	if command == "dominfo" {
		fmt.Printf("Id:             %s\nName:           %s\nUUID:           %s\nState:          running\nPersistent:     %s\nManaged save:   %s\n\n",
			d.ID, d.Name, d.UUID, yesNo[d.Persistent], yesNo[d.Saved])
		return 0
	}
	text, set := option("set")
	_, remove := option("remove")
	if d.Refused != "" && (set || remove) {
		return fail(d.Refused)
	}
	var places []*string
	for flag, place := range map[string]*string{"live": &d.Live, "config": &d.Config} {
		if _, ok := option(flag); ok {
			places = append(places, place)
		}
	}
	for _, place := range places {
		switch {
		case set && !d.Deaf:
			var m mark
			if err := xml.Unmarshal([]byte(text), &m); err != nil {
				return fail("(metadata_xml):1: " + err.Error())
			}
			*place = text
		case remove:
			*place = ""
		case !set && *place == "":
			return fail("metadata not found: Requested metadata element is not present")
		case !set:
			fmt.Println(*place)
		}
	}
	return 0
}

// withVirsh puts the stand-in on the PATH, and gives what tells about it afterwards.
func (s *stage) withVirsh(domains ...standInDomain) func() standInHost {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	// A shell script would have to quote what it is given; a link to this binary gets it as it is.
	path := s.t.TempDir()
	if err := os.Symlink(self, filepath.Join(path, "virsh")); err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(path, "domains.json")
	content, err := json.Marshal(standInHost{Domains: domains})
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Setenv("PATH", path)
	s.t.Setenv(standInFile, file)
	s.t.Setenv(stageRole, "virsh")
	return func() (h standInHost) {
		content, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(content, &h)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return h
	}
}

func TestProtect(t *testing.T) {
	plain := standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true}
	with := func(change func(*standInDomain)) standInDomain {
		d := plain
		change(&d)
		return d
	}
	for name, tt := range map[string]struct {
		domain       standInDomain
		args         []string
		reason       string
		live, config bool
		stdout       string
		why          string
	}{
		"runs_and_is_stored": {plain, []string{"pg"}, "billing", true, true,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n", "both, or one would go with the other"},
		"is_stored": {with(func(d *standInDomain) { d.ID = "-" }), []string{"pg"}, "billing", false, true,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in its stored definition; it does not run.\n", "libvirt refuses --live"},
		"is_transient": {with(func(d *standInDomain) { d.Persistent = false }), []string{"pg"}, "billing", true, false,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain only: it is transient, and its definition ends with it.\n", "libvirt refuses --config"},
		"by_UUID": {plain, []string{uuid1}, "billing", true, true,
			"pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n", "names may be ambiguous"},
		"name_like_an_option": {with(func(d *standInDomain) { d.Name = "--live" }), []string{"--", "--live"}, "billing", true, true,
			"--live is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n", "libvirt allows such names"},
		"text_like_XML_and_shell": {with(func(d *standInDomain) { d.Name = "a b$(reboot)" }), []string{"a b$(reboot)"}, `<a & "b" 'c'> $(reboot) =`, true, true,
			"a b$(reboot) is protected until the end of 2099-06-30 in UTC: <a & \"b\" 'c'> $(reboot) =\nThe mark is in the running domain and in its stored definition.\n", "everything is passed as it is"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.withVirsh(tt.domain)
			got := s.tool(append([]string{"protect", "--until", "2099-06-30", "--reason", tt.reason, "--owner", "dba"}, tt.args...)...)
			want(t, got, 0, tt.stdout, "")
			d := after().Domains[0]
			for place, there := range map[string]bool{d.Live: tt.live, d.Config: tt.config} {
				if !there {
					continue
				}
				var m mark
				if err := xml.Unmarshal([]byte(place), &m); err != nil {
					t.Fatal(err)
				}
				m.XMLName = xml.Name{}
				if diff := cmp.Diff(mark{Reason: tt.reason, Owner: "dba", Until: "2099-06-30", Domain: uuid1}, m); diff != "" {
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
		"one_more":   {"reset", "stop reset", "A gate refuses to stop or reset it; a hook can refuse a stop only.\n", "a stop is always among them"},
		"all":        {"tamper,move,reset,pause,stop", "stop pause reset move tamper", "A gate refuses to stop, pause, reset, move or tamper with it; a hook can refuse a stop only.\n", "in one order"},
		"with_blank": {"move, move  reset", "stop reset move", "A gate refuses to stop, reset or move it; a hook can refuse a stop only.\n", "as it stands in a mark"},
		"stop":       {"stop", "", "", "it is what every mark is for"},
		"nothing":    {"", "", "", "likewise"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true})
			got := s.tool("protect", "pg", "--until", "2099-06-30", "--reason", "billing", "--operations", tt.operations)
			want(t, got, 0, "pg is protected until the end of 2099-06-30 in UTC: billing\nThe mark is in the running domain and in its stored definition.\n"+tt.stdout, "")
			var m mark
			if err := xml.Unmarshal([]byte(after().Domains[0].Live), &m); err != nil {
				t.Fatal(err)
			}
			if m.Operations != tt.mark {
				t.Errorf("%s: %q", tt.why, m.Operations)
			}
			// What the tool writes the rule must read: what is named is refused, and nothing else.
			s.run("pg", uuid1, strings.Replace(after().Domains[0].Live, "<protection ", "<protection xmlns='"+protection.Namespace+"' ", 1))
			for _, operation := range policy.Operations() {
				want := "allow"
				if operation == policy.OperationStop || slices.Contains(strings.Fields(tt.mark), operation) {
					want = "veto"
				}
				got := s.tool("check", "-o", "json", "--operation", operation).is(t, 0)
				if d := decode[surveyJSON](t, got.Stdout).Domains; len(d) != 1 || d[0].Outcome != want {
					t.Errorf("%s: %+v, not %s", operation, d, want)
				}
			}
		})
	}
}

func TestProtect_says_what_a_mark_is_no_longer_for(t *testing.T) {
	s := newStage(t)
	s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true})
	again := func(operations string) string {
		return s.tool("protect", "pg", "--until", "2099-06-30", "--reason", "billing", "--operations", operations).is(t, 0).Stderr
	}
	for _, tt := range []struct{ operations, warning, why string }{
		{"reset,tamper", "", "there was none"},
		{"reset,tamper,move", "", "it is for more"},
		{"reset", "the mark that this one replaces was for move, tamper, too; give them with --operations to keep that\n", "an extension must not weaken it in silence"},
		{"stop", "was for reset, too;", "likewise"},
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
		"an_unknown_operation": {[]string{"pg", "--until", "2099-01-01", "--reason", "x", "--operations", "stop,rest"}, 2, `--operations names "rest", which is unknown; write stop, pause, reset, move or tamper, with commas between`, "it would be for all of them"},
		"a_time_gone_by":       {[]string{"pg", "--until", "2020-01-01", "--reason", "x"}, 2, `--until 2020-01-01 has passed; give a time in the future`, "it would protect nothing"},
		"no_time":              {[]string{"pg", "--until", "tomorrow", "--reason", "x"}, 2, `--until "tomorrow" is not a time; write 2027-06-30`, "a mark with it would never lapse"},
		"no_day":               {[]string{"pg", "--until", "2099-02-30", "--reason", "x"}, 2, "is not a time", "there is none"},
		"no_reason":            {[]string{"pg", "--until", "2099-01-01"}, 2, `required flag(s) "reason" not set`, "whoever is refused has to know"},
		"an_empty_reason":      {[]string{"pg", "--until", "2099-01-01", "--reason", " "}, 2, "--reason is empty", "the same"},
		"two_lines":            {[]string{"pg", "--until", "2099-01-01", "--reason", "a\nb"}, 2, "is not one line of printable text", "a refusal is one line"},
		"a_terminal's_codes":   {[]string{"pg", "--until", "2099-01-01", "--reason", "a\x1b[2Jb"}, 2, "is not one line of printable text", "a refusal is shown as it is"},
		"a_long_reason":        {[]string{"pg", "--until", "2099-01-01", "--reason", strings.Repeat("x", 201)}, 2, "is longer than 200 bytes", "a refusal would show a part"},
		"no_domain":            {[]string{"--until", "2099-01-01", "--reason", "x"}, 2, "nothing is named; name one domain", "there is no other way to name it"},
		"two_domains":          {[]string{"pg", "deaf", "--until", "2099-01-01", "--reason", "x"}, 2, "2 arguments are given (pg, deaf); name one domain", "a mark has one reason"},
		"an_unknown_domain":    {[]string{"nope", "--until", "2099-01-01", "--reason", "x"}, 1, "virsh: failed to get domain 'nope' (exit status 1); correct this and try again", "virsh knows best"},
		"a_name_like_an_ID":    {[]string{"8", "--until", "2099-01-01", "--reason", "x"}, 1, "virsh takes 8 for the number of domain deaf; give the UUID instead", "virsh looks for IDs first"},
		"a_mark_not_kept":      {[]string{"deaf", "--until", "2099-01-01", "--reason", "x"}, 1, "was set and is not what virsh metadata --live gives", "it is read back"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true},
				standInDomain{Name: "deaf", UUID: uuid2, ID: "8", Persistent: true, Deaf: true}, standInDomain{Name: "8", UUID: uuid3, ID: "9"})
			got := s.tool(append([]string{"protect"}, tt.args...)...)
			if got.Code != tt.code || got.Stdout != "" || !strings.HasPrefix(got.Stderr, "stopguard: ") {
				t.Errorf("%s: %+v", tt.why, got)
			}
			holds(t, "stderr", got.Stderr, tt.text)
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
		s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "7", Live: "<protection/>", Refused: refusal})
		want(t, s.tool(args...), 1, "", "stopguard: the gate refuses it: pg: protected until 2099-06-30: billing (rule protection_mark); "+
			"to do it nevertheless: stopguard ticket grant NAME --operation tamper --reason TEXT, and then this again\n")
	}
}

// A domain that was saved starts with what its metadata was then.
func TestProtect_says_when_a_managed_save_will_undo_it(t *testing.T) {
	const warning = "pg has a managed save, and will start from it with the mark that it had then"
	s := newStage(t)
	s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "-", Persistent: true, Saved: true})
	for _, args := range [][]string{{"protect", "pg", "--until", "2099-06-30", "--reason", "x"}, {"unprotect", "pg"}} {
		if got := s.tool(args...); got.Code != 0 || !strings.Contains(got.Stderr, warning) {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestProtect_connects_where_it_is_told(t *testing.T) {
	s := newStage(t)
	after := s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "7"})
	s.tool("protect", "-c", "qemu:///system", "pg", "--until", "2099-06-30T12:00:00+02:00", "--reason", "x")
	for _, call := range after().Calls {
		if !slices.Equal(call[:2], []string{"--quiet", "--connect=qemu:///system"}) {
			t.Errorf("got %q", call)
		}
	}
	holds(t, "the mark", after().Domains[0].Live, `until="2099-06-30T10:00:00Z"`)
}

func TestProtect_without_virsh(t *testing.T) {
	s := newStage(t)
	t.Setenv("PATH", s.folder("empty"))
	want(t, s.tool("protect", "pg", "--until", "2099-06-30", "--reason", "x"), 1, "",
		"stopguard: virsh is not on the PATH; install it: libvirt-clients on Debian, libvirt-client on Fedora\n")
}

func TestUnprotect(t *testing.T) {
	const set = `<protection reason="billing" until="2099-06-30" domain="` + uuid1 + `"></protection>`
	for name, tt := range map[string]struct {
		domain standInDomain
		stdout string
	}{
		"a_mark_at_both_places": {standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true, Live: set, Config: set},
			"pg is no longer protected by a mark. It was, until 2099-06-30: billing\n"},
		"a_mark_at_one_place": {standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true, Config: set},
			"pg is no longer protected by a mark. It was, until 2099-06-30: billing\n"},
		"no_mark": {standInDomain{Name: "pg", UUID: uuid1, ID: "7", Persistent: true}, "pg carries no mark.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			after := s.withVirsh(tt.domain)
			want(t, s.tool("unprotect", "pg"), 0, tt.stdout, "")
			if d := after().Domains[0]; d.Live != "" || d.Config != "" {
				t.Errorf("left: %+v", d)
			}
		})
	}
}

// What is removed on purpose is not reported.
func TestUnprotect_is_not_reported_as_a_mark_that_went(t *testing.T) {
	s := newStage(t)
	p := s.run("pg", uuid1, farMark)
	s.tool("check")
	s.withVirsh(standInDomain{Name: "pg", UUID: uuid1, ID: "7", Live: "<protection/>"})
	if got := s.tool("unprotect", "pg"); got.Code != 0 || got.Stderr != "" {
		t.Fatalf("%+v", got)
	}
	s.rerun(p, "pg", uuid1, "")
	if got := s.tool("check"); strings.Contains(got.Stdout, "gone") {
		t.Error(got.Stdout)
	}
}
