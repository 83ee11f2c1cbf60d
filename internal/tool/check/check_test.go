package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/host/hosttest"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

const freeze = "package stopguard.rules.frozen\n\nveto contains message if {\n\tstartswith(input.domain.name, \"web-\")\n\tmessage := \"frozen\"\n}\n"

// everyKind is a host with a domain of each kind.
func everyKind(t testing.TB) *tooltest.Stage {
	s := newStage(t, "etc/libvirt/protected-domains", "listed-*\n",
		"etc/stopguard/policy/data.json", `{"site": {"block_job": {}, "monitor": ["block_job"]}}`)
	s.Run("pg-primary-01", tooltest.UUID1, tooltest.FarMark)
	s.Run("listed-domain-with-a-name-that-is-far-too-long", tooltest.UUID2, "")
	s.Run("web-01", tooltest.UUID3, "")
	s.Capture("block-copy-running.xml")
	s.Capture("guest-powered-off-at-stop.xml")
	p := s.Process("x")
	s.Status("broken", p.Pid, "<domstatus")
	return s
}

func TestCheck(t *testing.T) {
	s := everyKind(t)
	got := s.Tool("check").Is(t, 1)
	tooltest.Golden(t, "check", "table", got.Stdout)
	tooltest.Golden(t, "check", "faults", got.Stderr)
}

func TestCheck_as_metrics(t *testing.T) {
	tooltest.Golden(t, "check", "metrics", everyKind(t).Tool("check", "-o", "prometheus").Is(t, 1).Stdout)
}

func TestCheck_as_JSON(t *testing.T) {
	got := everyKind(t).Tool("check", "-o", "json").Is(t, 1)
	text := regexp.MustCompile(`"time": "[^"]*"`).ReplaceAllString(got.Stdout, `"time": "TIME"`)
	tooltest.Golden(t, "check", "json", text)
	tooltest.Decode[ReportJSON](t, got.Stdout)
}

func TestCheck_of_files(t *testing.T) {
	s := newStage(t)
	file := s.Put("pg.xml", tooltest.DomainXML("pg", tooltest.UUID1, tooltest.FarMark))
	got := s.Tool("check", file, s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID2, "")))
	tooltest.Golden(t, "check", "files", got.Is(t, 0).Stdout)
	if _, err := os.Stat(filepath.Join(s.Root, protection.MarksFile)); err == nil {
		t.Error("marks of files are remembered")
	}
	got = s.Tool("check", filepath.Join(s.Root, "nope.xml"))
	tooltest.Holds(t, "stderr", got.Stderr, "no such file or directory; give XML as of virsh dumpxml")
	if got.Code != 1 {
		t.Errorf("exit %d", got.Code)
	}
}

func TestCheck_of_a_command_line_that_is_wrong(t *testing.T) {
	s := newStage(t)
	for _, args := range [][]string{{"-o", "xml"}, {"--key", "x"}, {"--policy", "x", "-o", "prometheus"}, {"--nope"}, {"--operation", "destroy"}, {"--operation", "reset", "-o", "prometheus"}} {
		got := s.Tool(append([]string{"check"}, args...)...)
		if got.Code != 2 || got.Stdout != "" || !strings.HasSuffix(got.Stderr, "See stopguard check --help.\n") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestCheck_of_a_host_that_cannot_be_read(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*tooltest.Stage)
		text   string
	}{
		"a_broken_policy":    {func(s *tooltest.Stage) { s.Put("etc/stopguard/policy/half.rego", "package") }, "/etc/stopguard/policy/half.rego"},
		"no_state_directory": {func(s *tooltest.Stage) { os.Remove(filepath.Join(s.Root, "run/libvirt/qemu")) }, "the running domains cannot be listed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			tt.change(s)
			got := s.Tool("check")
			if got.Code != 1 || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("%+v", got)
			}
			tooltest.Holds(t, "stderr", got.Stderr, tt.text)
		})
	}
}

// check is useless if the hook decides about another input.
func TestCheck_asks_what_the_hook_would(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/data.json", `{"site": {"block_job": {}, "min_running": {"groups": [{"name": "all", "min": 9, "members": ["*"]}]}}}`)
	for _, file := range []string{"backup-running.xml", "block-copy-running.xml", "paused-user.xml", "running.xml"} {
		s.Capture(file)
	}
	config, err := hostpolicy.Load(s.Root)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	guests, err := domains.Running()
	if err != nil || len(guests) != 4 {
		t.Fatalf("%d domains, %v", len(guests), err)
	}
	subjects := domains.OfGuests(guests)
	input := inputs(engine, subjects)
	for _, subject := range subjects {
		want, err := stopguard.Config{Root: s.Root}.Input(engine, subject.Domain, subject.Process)
		if err != nil {
			t.Fatal(err)
		}
		got, err := input(subject)
		if err != nil {
			t.Fatal(err)
		}
		opts := cmp.Options{cmpopts.IgnoreFields(policy.Input{}, "Time"), cmpopts.IgnoreUnexported(domainxml.Domain{}, policy.Host{})}
		if diff := cmp.Diff(want, got, opts); diff != "" {
			t.Errorf("%s (-hook +check):\n%s", subject.Name, diff)
		}
		if len(got.Host.Domains) != 4 {
			t.Errorf("%d domains are counted", len(got.Host.Domains))
		}
	}
}

func TestCheck_reports_marks_that_went(t *testing.T) {
	s := newStage(t)
	lapsed := strings.Replace(tooltest.FarMark, "2099", "2020", 1)
	marked := s.Run("marked", tooltest.UUID1, tooltest.FarMark)
	changed := s.Run("changed", tooltest.UUID2, tooltest.FarMark)
	stopped := s.Run("stopped", tooltest.UUID3, tooltest.FarMark)
	if got := s.Tool("check"); strings.Contains(got.Stdout, "gone") {
		t.Fatal(got.Stdout)
	}
	info, err := os.Stat(filepath.Join(s.Root, protection.MarksFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file of marks: %v, %v", info, err)
	}
	s.Rerun(marked, "marked", tooltest.UUID1, lapsed)
	s.Rerun(changed, "changed", tooltest.UUID2, strings.Replace(tooltest.FarMark, "billing", "other", 1))
	_ = os.Remove(filepath.Join(s.Root, "run/libvirt/qemu/stopped.pid"))

	for range 2 { // it remembers nothing
		if gone := tooltest.Decode[ReportJSON](t, s.Tool("check", "-o", "json", "--read-only").Is(t, 0).Stdout).Gone; len(gone) != 1 {
			t.Errorf("gone, read only: %+v", gone)
		}
	}
	got := s.Tool("check", "-o", "json")
	gone := tooltest.Decode[ReportJSON](t, got.Stdout).Gone
	if len(gone) != 1 || gone[0].Name != "marked" || gone[0].Message != "protected until 2099-06-30: billing primary" || gone[0].Until.IsZero() {
		t.Errorf("gone: %+v", gone)
	}
	if got := s.Tool("check"); strings.Contains(got.Stdout, "gone") {
		t.Errorf("it is reported again:\n%s", got.Stdout)
	}
	// Its mark was remembered while it did not run.
	s.Rerun(stopped, "stopped", tooltest.UUID3, "")
	got = s.Tool("check")
	tooltest.Holds(t, "stdout", got.Stdout, "\nmark gone: stopped: protected until 2099-06-30: billing primary\n  last seen at ")
}

func TestCheck_reports_domains_that_are_off_the_list(t *testing.T) {
	const list = "etc/libvirt/protected-domains"
	s := newStage(t, list, "db-*\nweb-01\n")
	s.Run("db-1", tooltest.UUID1, "")
	stopped := s.Run("db-2", tooltest.UUID2, "")
	s.Run("web-01", tooltest.UUID3, "")
	if got := s.Tool("check"); strings.Contains(got.Stdout, "off the list") {
		t.Fatal(got.Stdout)
	}
	_ = os.Remove(filepath.Join(s.Root, "run/libvirt/qemu/db-2.pid"))
	_ = os.Remove(filepath.Join(s.Root, "run/libvirt/qemu/db-2.xml"))
	s.Put(list, "web-01\n")
	got := s.Tool("check")
	tooltest.Holds(t, "stdout", got.Stdout, "\noff the list: db-1: ", "\n  last matched at ")
	if strings.Contains(got.Stdout, "off the list: web-01") || strings.Contains(got.Stdout, "off the list: db-2") {
		t.Errorf("one that is listed, or does not run, is reported:\n%s", got.Stdout)
	}
	if got := s.Tool("check"); strings.Contains(got.Stdout, "off the list") {
		t.Errorf("it is reported again:\n%s", got.Stdout)
	}
	// Whoever removes the file is found out when the domain runs again, too.
	s.Rerun(stopped, "db-2", tooltest.UUID2, "")
	_ = os.Remove(filepath.Join(s.Root, list))
	got = s.Tool("check", "-o", "json")
	var names []string
	for _, m := range tooltest.Decode[ReportJSON](t, got.Stdout).Unlisted {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"db-2", "web-01"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestCheck_of_another_operation(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "listed\n", "etc/stopguard/policy/data.json", `{"site": {"protected_list": {"operations": ["stop", "modify"]}}}`)
	s.Run("listed", tooltest.UUID1, "")
	s.Run("marked", tooltest.UUID2, tooltest.FarMark)
	s.Run("more", tooltest.UUID3, strings.Replace(tooltest.FarMark, "reason=", `operations="modify" reason=`, 1))
	s.Tool("check").Is(t, 0)
	remembered := hosttest.ReadFileText(t, filepath.Join(s.Root, protection.MarksFile))
	got := s.Tool("check", "--operation", "modify").Is(t, 0)
	tooltest.Want(t, got, 0, `DOMAIN  MODIFY  UNTIL       RULE
listed  veto    -           protected_list
marked  allow   -           -
more    veto    2099-06-30  protection_mark

3 running domains, 2 protected, 0 could not be decided
`, "")
	tooltest.Want(t, s.Tool("check", "--operation", "delete").Is(t, 0), 0, `DOMAIN  DELETE  UNTIL       RULE
listed  allow   -           -
marked  veto    2099-06-30  protection_mark
more    veto    2099-06-30  protection_mark

3 running domains, 2 protected, 0 could not be decided
`, "")
	tooltest.Want(t, s.Tool("check", "--operation", "tamper").Is(t, 0), 0, `DOMAIN  TAMPER  UNTIL       RULE
listed  veto    -           protected_list
marked  veto    2099-06-30  protection_mark
more    veto    2099-06-30  protection_mark

3 running domains, 3 protected, 0 could not be decided
`, "")
	tooltest.Holds(t, "JSON", s.Tool("check", "-o", "json", "--operation", "modify").Stdout, `"operation": "modify"`)
	if now := hosttest.ReadFileText(t, filepath.Join(s.Root, protection.MarksFile)); now != remembered {
		t.Errorf("marks that are for a stop are forgotten:\n%s", now)
	}
}

func TestCheck_goes_on_where_marks_cannot_be_remembered(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*tooltest.Stage)
		text   string
	}{
		"a_file_in_the_way": {func(s *tooltest.Stage) { s.Put("var/lib/stopguard", "") }, "var/lib/stopguard"},
		"not_as_written":    {func(s *tooltest.Stage) { s.Put(protection.MarksFile, "{") }, "is not as it was written"},
		"of_anybody": {func(s *tooltest.Stage) {
			if err := os.Chmod(s.Put(protection.MarksFile, "{}"), 0o666); err != nil {
				s.T.Fatal(err)
			}
		}, "writable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.Run("pg", tooltest.UUID1, tooltest.FarMark)
			tt.change(s)
			got := s.Tool("check")
			if got.Code != 0 {
				t.Errorf("exit %d", got.Code)
			}
			tooltest.Holds(t, "stdout", got.Stdout, "1 protected")
			tooltest.Holds(t, "stderr", got.Stderr, "stopguard: marks that go cannot be told the next time: ", tt.text)
		})
	}
}

func TestCheck_of_a_candidate(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "listed\n", "etc/stopguard/policy/old.rego", strings.Replace(freeze, "web-", "ci-", 1),
		"candidate/new.rego", freeze)
	s.Run("web-01", tooltest.UUID1, "")
	s.Run("ci-01", tooltest.UUID2, "")
	s.Run("listed", tooltest.UUID3, "")
	s.Run("web-02", "44444444-2b11-40de-a128-75e3f4a5fe44", tooltest.FarMark)
	candidate := filepath.Join(s.Root, "candidate")
	got := s.Tool("check", "--policy", candidate)
	tooltest.Golden(t, "check", "candidate", got.Is(t, 0).Stdout)
	if _, err := os.Stat(filepath.Join(s.Root, protection.MarksFile)); err == nil {
		t.Error("a trial is remembered")
	}
	j := tooltest.Decode[ReportJSON](t, s.Tool("check", "-o", "json", "--policy", candidate).Stdout)
	changes := map[string]string{}
	for _, d := range j.Domains {
		changes[d.Name] = d.Change + ": " + d.Outcome + " " + d.Candidate.Outcome
	}
	if diff := cmp.Diff(map[string]string{"web-01": "newly vetoed: allow veto", "ci-01": "newly allowed: veto allow",
		"listed": ": veto veto", "web-02": "other reason: veto veto"}, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}

	// A candidate that repairs a broken policy can be checked, too.
	s.Put("etc/stopguard/policy/half.rego", "package")
	got = s.Tool("check", "--policy", candidate)
	tooltest.Holds(t, "stdout", got.Stdout, "of 4 domains: 3 newly vetoed, 1 newly allowed, 0 other reason, 0 newly a fault")
	if got.Code != 1 || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", got.Code, got.Stderr)
	}
	got = s.Tool("check", "--policy", s.Folder("etc/stopguard/policy"))
	tooltest.Holds(t, "stderr", got.Stderr, "stopguard: --policy: ")
}

// If a key is set, on the command line or on the host, a bundle that is not signed with it is not
// accepted.
func TestCheck_of_a_bundle(t *testing.T) {
	key := "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEkCJbnsU1nwAmDk8DIGQODsu7QU7b\nKnPa0rk4EQKRXVZS0nBQbrBQV8vsUnXc4fSCnmXj1FVxUqhVVJ8eIqMBAQ==\n-----END PUBLIC KEY-----\n"
	s := newStage(t, "key.pem", key)
	s.Run("web-01", tooltest.UUID1, "")
	packed := string(testhost.Bundle(t, map[string]string{"new.rego": freeze}))
	bundle := s.Put("new.tar.gz", packed)
	tooltest.Holds(t, "stdout", s.Tool("check", "--policy", bundle).Is(t, 0).Stdout, "web-01  newly vetoed  -         frozen\n")
	tooltest.Holds(t, "stderr", s.Tool("check", "--policy", bundle, "--key", filepath.Join(s.Root, "key.pem")).Is(t, 1).Stderr, "stopguard: --policy: policy: "+bundle)
	tooltest.Holds(t, "stderr", s.Tool("check", "--policy", s.Root, "--key", "x").Is(t, 2).Stderr, "is a folder; leave it out")
	tooltest.Holds(t, "stderr", s.Tool("check", "--policy", filepath.Join(s.Root, "none")).Is(t, 1).Stderr, "no such file or directory; name a policy folder or a bundle")
	s.Put("etc/stopguard/bundle.pem", key)
	s.Put("etc/stopguard/bundle.tar.gz", packed)
	s.Tool("check", "--policy", bundle).Is(t, 1)
}

func TestCheck_warns_of_what_a_failed_migration_left(t *testing.T) {
	s := newStage(t)
	p := s.Process("-name", "came", "-uuid", tooltest.UUID1, "-incoming", "defer")
	s.Status("came", p.Pid, fmt.Sprintf("<domstatus state='paused' reason='migration' pid='%d'>%s</domstatus>", p.Pid, tooltest.DomainXML("came", tooltest.UUID1, "")))
	s.Run("web", tooltest.UUID2, "")
	got := s.Tool("check").Is(t, 0)
	tooltest.Holds(t, "stderr", got.Stderr, fmt.Sprintf("stopguard: came (process %d) is paused since a migration", p.Pid), "virsh resume it")
	tooltest.Holds(t, "metrics", s.Tool("check", "-o", "prometheus").Is(t, 0).Stdout, `stopguard_domain_husk{domain="came",uuid="`+tooltest.UUID1+`"} 1`)
	if j := tooltest.Decode[ReportJSON](t, s.Tool("check", "-o", "json").Is(t, 0).Stdout); len(j.Husks) != 1 || j.Husks[0].PID != p.Pid {
		t.Errorf("%+v", j.Husks)
	}
}

func TestCheck_warns_of_a_protected_domain_that_ends_with_a_connection(t *testing.T) {
	s := newStage(t, "run/stopguard/gate.prom", `# TYPE stopguard_gate_autodestroy gauge
stopguard_gate_autodestroy{domain="ci",protected="false",uuid="`+tooltest.UUID1+`"} 1
stopguard_gate_autodestroy{domain="pg",protected="true",uuid="`+tooltest.UUID2+`"} 1
`)
	got := s.Tool("check").Is(t, 0)
	tooltest.Holds(t, "stderr", got.Stderr, "stopguard: pg is protected, and ends when the connection closes")
	if strings.Contains(got.Stderr, "ci is") {
		t.Error(got.Stderr)
	}
	tooltest.Holds(t, "metrics", s.Tool("check", "-o", "prometheus").Is(t, 0).Stdout, `stopguard_domain_ends_with_connection{domain="pg",uuid="`+tooltest.UUID2+`"} 1`)
	s.Put("run/stopguard/gate.prom", "no metrics {")
	tooltest.Holds(t, "stderr", s.Tool("check").Is(t, 1).Stderr, "gate.prom cannot be read")
}

// virsh dumpxml writes to a pipe.
func TestCheck_of_XML_that_comes_from_a_pipe(t *testing.T) {
	s := newStage(t)
	fifo := filepath.Join(s.Root, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	xml := tooltest.DomainXML("pg", tooltest.UUID1, tooltest.FarMark)
	go func() { _ = os.WriteFile(fifo, []byte(xml), 0) }()
	for _, tt := range []struct {
		why, file string
		stdin     io.Reader
		stdout    string
		stderr    string
	}{
		{"<( ... )", fifo, strings.NewReader(""), "\npg    ", ""},
		{"a pipe", "-", strings.NewReader(xml), "\npg    ", ""},
		{"nothing comes", "-", strings.NewReader(""), "", "stdin is empty; give XML as of virsh dumpxml"},
		{"it does not end", "-", endless{}, "", "stdin is larger than "},
		{"a folder", s.Root, strings.NewReader(""), "", "is a directory; give XML"},
		{"a device that does not end", "/dev/zero", strings.NewReader(""), "", "/dev/zero is larger than "},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			s.RunTool(context.Background(), []string{"check", tt.file}, tt.stdin, &stdout, &stderr)
			if !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) || tt.stderr == "" && stderr.Len() > 0 {
				t.Errorf("%s\n%s", stdout.String(), stderr.String())
			}
		})
	}
}

// An endless reader returns a command without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestCheck_names_marks_and_how_many_approve(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/data.json", `{"site": {"tickets": {"approvers": 2, "who": ["group:ops"], "for": ["pg-*"]}}}`)
	s.Run("pg-01", tooltest.UUID1, strings.Replace(tooltest.FarMark, "reason=", `owner="anna" operations="reset" reason=`, 1))
	s.Run("web-01", tooltest.UUID2, strings.Replace(tooltest.FarMark, "2099", "2020", 1))
	all := tooltest.Decode[ReportJSON](t, s.Tool("check", "-o", "json").Is(t, 0).Stdout).Domains
	for i, want := range []struct {
		marks     []markJSON
		approvals int
		why       string
	}{
		{[]markJSON{{"billing primary", "anna", "2099-06-30", []string{"reset"}}}, 2, "a page shows who protects it, and asks for a ticket"},
		{nil, 0, "a mark that has lapsed protects nothing"},
	} {
		if diff := cmp.Diff(want.marks, all[i].Marks); diff != "" || all[i].Approvals != want.approvals {
			t.Errorf("%s (%s): %d approvals, %s", all[i].Name, want.why, all[i].Approvals, diff)
		}
	}
}
