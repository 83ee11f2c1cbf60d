package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/ticket"
)

const uuid4 = "44444444-2b11-40de-a128-75e3f4a5fe44"

// define writes a definition as libvirt does.
func define(s *tooltest.Stage, name, uuid, metadata string) {
	s.Put("etc/libvirt/qemu/"+name+".xml", "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\nOVERWRITTEN AND LOST.\n-->\n\n"+
		strings.Replace(tooltest.DomainXML(name, uuid, metadata), " id='7'", "", 1)+"\n")
}

// runningAndOff is a host with domains of which some do not run.
func runningAndOff(t *testing.T) *tooltest.Stage {
	s := mixed(t)
	define(s, "pg-01", tooltest.UUID1, "") // its definition does not count while it runs
	define(s, "pg-02", uuid4, tooltest.FarMark)
	define(s, "listed-02", "55555555-2b11-40de-a128-75e3f4a5fe55", "")
	define(s, "stop-only", "66666666-2b11-40de-a128-75e3f4a5fe66", strings.Replace(tooltest.FarMark, "reason=", `operations="stop" reason=`, 1))
	define(s, "-c", "77777777-2b11-40de-a128-75e3f4a5fe77", "")
	s.Put("etc/libvirt/qemu/copy.xml", tooltest.DomainXML("pg-02", uuid4, ""))
	s.Put("etc/libvirt/qemu/networks/default.xml", "<network/>")
	s.Put("etc/libvirt/qemu/half.xml", "<domain>")
	return s
}

func TestCheckOfAllDomainsShowsThoseThatAreOff(t *testing.T) {
	s := runningAndOff(t)
	got := s.Tool("check", "--all").Is(t, 1)
	tooltest.Golden(t, "check", "all", got.Stdout)
	tooltest.Golden(t, "check", "all-faults", got.Stderr)
	if _, err := os.Stat(filepath.Join(s.Root, protection.MarksFile)); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"half.xml", "copy.xml"} {
		if err := os.Remove(filepath.Join(s.Root, "etc/libvirt/qemu", file)); err != nil {
			t.Fatal(err)
		}
	}
	states := map[string]string{}
	for _, d := range tooltest.Decode[ReportJSON](t, s.Tool("check", "--all", "-o", "json").Is(t, 0).Stdout).Domains {
		states[d.Name] = d.State + " " + d.Operation + " " + d.Outcome
	}
	if diff := cmp.Diff(map[string]string{
		"pg-01": "running  veto", "listed-01": "running  veto", "web-01": "running  allow",
		"pg-02": "off delete veto", "listed-02": "off delete veto", "stop-only": "off delete allow", "-c": "off delete allow",
	}, states); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		why  string
		args []string
		want string
	}{
		{"by name", []string{"pg-02"}, "pg-02\n"},
		{"by UUID", []string{strings.ToUpper(uuid4)}, "pg-02\n"},
		{"a name like an option", []string{"--", "-c"}, "-c\n"},
		{"a running domain comes first", []string{"pg-01"}, "pg-01\n"},
		{"a filter", []string{"--protected", "--domain", "*-02"}, "listed-02\npg-02\n"},
		{"an operation is about all of them", []string{"--operation", "stop", "--protected"}, "listed-01\npg-01\nlisted-02\npg-02\nstop-only\n"},
	} {
		if got := s.Tool(append([]string{"check", "--all", "-o", "name"}, tt.args...)...).Is(t, 0); got.Stdout != tt.want {
			t.Errorf("%s: %q", tt.why, got.Stdout)
		}
	}
	s.Tool("check", "pg-02").Is(t, 1) // without --all it is not found
	tooltest.Holds(t, "a wrong name", s.Tool("check", "--all", "nope").Is(t, 1).Stderr, "nope: no domain of this name or UUID is on this host", "see virsh list --all")
	tooltest.Holds(t, "metrics", s.Tool("check", "--all", "-o", "prometheus").Is(t, 2).Stderr, "leave out --all")
}

// virsh takes a text for a UUID first, and so does the tool: whoever calls a domain like the UUID
// of another one gets no ticket for it, and does not hide it.
func TestADomainThatIsCalledLikeAUUIDTakesNoOthersPlace(t *testing.T) {
	s := newStage(t)
	s.Run(uuid4, tooltest.UUID1, "")
	s.Run(tooltest.UUID2, tooltest.UUID3, "")
	s.Run("pg-01", tooltest.UUID2, tooltest.FarMark)
	define(s, "pg-02", uuid4, tooltest.FarMark)
	for _, tt := range []struct {
		why  string
		args []string
		want string
	}{
		{"all of them are there", nil, tooltest.UUID2 + "\n" + uuid4 + "\npg-01\npg-02\n"},
		{"the UUID of one that runs", []string{tooltest.UUID2}, "pg-01\n"},
		{"the UUID of one that is off", []string{uuid4}, "pg-02\n"},
	} {
		if got := s.Tool(append([]string{"check", "--all", "-o", "name"}, tt.args...)...).Is(t, 0); got.Stdout != tt.want {
			t.Errorf("%s: %q", tt.why, got.Stdout)
		}
	}
	for arg, want := range map[string]string{tooltest.UUID2: "pg-01", uuid4: uuid4, strings.ToUpper(tooltest.UUID1): uuid4} {
		id, whom, err := domains.Identify(arg)
		if !strings.EqualFold(id, arg) || whom != want || err != nil {
			t.Errorf("a ticket for %s is for %s, %s (%v)", arg, id, whom, err)
		}
	}
}

// A mark of a domain that is off is neither new nor gone: the verdict is about a delete, and the
// mark may be for a stop alone.
func TestCheckOfAllDomainsForgetsNoMark(t *testing.T) {
	s := newStage(t)
	mark := strings.Replace(tooltest.FarMark, "reason=", `operations="stop" reason=`, 1)
	p := s.Run("pg", tooltest.UUID1, mark)
	s.Tool("check").Is(t, 0)
	for _, file := range []string{"pg.pid", "pg.xml"} {
		if err := os.Remove(filepath.Join(s.Root, "run/libvirt/qemu", file)); err != nil {
			t.Fatal(err)
		}
	}
	define(s, "pg", tooltest.UUID1, mark)
	if got := s.Tool("check", "--all").Is(t, 0); strings.Contains(got.Stdout, "gone") {
		t.Errorf("%s", got.Stdout)
	}
	s.Rerun(p, "pg", tooltest.UUID1, "")
	tooltest.Holds(t, "when it runs without its mark", s.Tool("check", "--all").Is(t, 0).Stdout, "mark gone: pg: ")
}

func TestCheckOfAllDomainsNamesTheTicketOfADelete(t *testing.T) {
	s := runningAndOff(t)
	granted, err := ticket.Store{Root: s.Root}.Grant(ticket.Ticket{Domain: uuid4, Operation: policy.OperationDelete, Reason: "old", Requester: "ann", NotAfter: time.Now().Add(time.Hour)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tooltest.Holds(t, "check", s.Tool("check", "--all", "pg-02").Is(t, 0).Stdout, "\nticket "+granted.ID+" lets pg-02 be deleted\n")
}

func TestCheckOfAllDomainsWhereNoneIsDefined(t *testing.T) {
	s := mixed(t)
	tooltest.Holds(t, "no folder", s.Tool("check", "--all").Is(t, 0).Stdout, "\n3 domains, 2 protected, ")
	s.Put("etc/libvirt/qemu", "")
	tooltest.Holds(t, "no folder, but a file", s.Tool("check", "--all").Is(t, 1).Stderr, "the defined domains cannot be listed: ", "; run as root")
	s.Tool("check").Is(t, 0)
}

func TestCheckCompletesDomainsThatAreOffWithAll(t *testing.T) {
	s := runningAndOff(t)
	if got := s.Tool("__complete", "check", "").Stdout; strings.Contains(got, "pg-02\n") || !strings.Contains(got, "pg-01\n") {
		t.Errorf("without --all: %q", got)
	}
	got := s.Tool("__complete", "check", "--all", "").Stdout
	if !strings.Contains(got, "pg-01\n") || !strings.Contains(got, "pg-02\n") || strings.Contains(got, "-c\n") {
		t.Errorf("with --all: %q", got)
	}
}
