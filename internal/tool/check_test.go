package tool

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

const freeze = "package stopguard.rules.frozen\n\nveto contains message if {\n\tstartswith(input.domain.name, \"web-\")\n\tmessage := \"frozen\"\n}\n"

// everyKind is a host with a domain of each kind.
func everyKind(t testing.TB) *stage {
	s := newStage(t, "etc/libvirt/protected-domains", "listed-*\n",
		"etc/stopguard/policy/data.json", `{"site": {"block_job": {}, "monitor": ["block_job"]}}`)
	s.run("pg-primary-01", uuid1, farMark)
	s.run("listed-domain-with-a-name-that-is-far-too-long", uuid2, "")
	s.run("web-01", uuid3, "")
	s.capture("block-copy-running.xml")
	s.capture("guest-powered-off-at-stop.xml")
	p := s.process("x")
	s.status("broken", p.Pid, "<domstatus")
	return s
}

func TestCheck(t *testing.T) {
	s := everyKind(t)
	got := s.tool("check").is(t, 1)
	golden(t, "check", "table", got.Stdout)
	golden(t, "check", "faults", got.Stderr)
	narrow(t, got.Stdout)
}

func TestCheck_as_metrics(t *testing.T) {
	golden(t, "check", "metrics", everyKind(t).tool("check", "-o", "prometheus").is(t, 1).Stdout)
}

func TestCheck_as_JSON(t *testing.T) {
	got := everyKind(t).tool("check", "-o", "json").is(t, 1)
	text := regexp.MustCompile(`"time": "[^"]*"`).ReplaceAllString(got.Stdout, `"time": "TIME"`)
	golden(t, "check", "json", text)
	decode[surveyJSON](t, got.Stdout)
}

func TestCheck_of_files(t *testing.T) {
	s := newStage(t)
	file := s.put("pg.xml", domainXML("pg", uuid1, farMark))
	got := s.tool("check", file, s.put("web.xml", domainXML("web", uuid2, "")))
	golden(t, "check", "files", got.is(t, 0).Stdout)
	if _, err := os.Stat(filepath.Join(s.root, protection.MarksFile)); err == nil {
		t.Error("marks of files are remembered")
	}
	got = s.tool("check", filepath.Join(s.root, "nope.xml"))
	holds(t, "stderr", got.Stderr, "no such file or directory; give XML as of virsh dumpxml")
	if got.Code != 1 {
		t.Errorf("exit %d", got.Code)
	}
}

func TestCheck_of_a_command_line_that_is_wrong(t *testing.T) {
	s := newStage(t)
	for _, args := range [][]string{{"-o", "xml"}, {"--key", "x"}, {"--policy", "x", "-o", "prometheus"}, {"--nope"}, {"--operation", "destroy"}, {"--operation", "reset", "-o", "prometheus"}} {
		got := s.tool(append([]string{"check"}, args...)...)
		if got.Code != 2 || got.Stdout != "" || !strings.HasSuffix(got.Stderr, "See stopguard check --help.\n") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestCheck_of_a_host_that_cannot_be_read(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*stage)
		text   string
	}{
		"a_broken_policy":    {func(s *stage) { s.put("etc/stopguard/policy/half.rego", "package") }, "/etc/stopguard/policy/half.rego"},
		"no_state_directory": {func(s *stage) { os.Remove(filepath.Join(s.root, "run/libvirt/qemu")) }, "the running domains cannot be listed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			tt.change(s)
			got := s.tool("check")
			if got.Code != 1 || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("%+v", got)
			}
			holds(t, "stderr", got.Stderr, tt.text)
		})
	}
}

// A check is worth nothing if the hook would be asked something else.
func TestCheck_asks_what_the_hook_would(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/data.json", `{"site": {"block_job": {}, "min_running": {"groups": [{"name": "all", "min": 9, "members": ["*"]}]}}}`)
	for _, file := range []string{"backup-running.xml", "block-copy-running.xml", "paused-user.xml", "running.xml"} {
		s.capture(file)
	}
	config, err := hostpolicy.Load(s.root)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	guests, err := running()
	if err != nil || len(guests) != 4 {
		t.Fatalf("%d domains, %v", len(guests), err)
	}
	subjects := ofGuests(guests)
	input := inputs(engine, subjects)
	for _, subject := range subjects {
		want, err := stopguard.Config{Root: s.root}.Input(engine, subject.domain, subject.process)
		if err != nil {
			t.Fatal(err)
		}
		got, err := input(subject)
		if err != nil {
			t.Fatal(err)
		}
		opts := cmp.Options{cmpopts.IgnoreFields(policy.Input{}, "Time"), cmpopts.IgnoreUnexported(domainxml.Domain{}, policy.Host{})}
		if diff := cmp.Diff(want, got, opts); diff != "" {
			t.Errorf("%s (-hook +check):\n%s", subject.name, diff)
		}
		if len(got.Host.Domains) != 4 {
			t.Errorf("%d domains are counted", len(got.Host.Domains))
		}
	}
}

func TestCheck_reports_marks_that_went(t *testing.T) {
	s := newStage(t)
	lapsed := strings.Replace(farMark, "2099", "2020", 1)
	marked := s.run("marked", uuid1, farMark)
	changed := s.run("changed", uuid2, farMark)
	stopped := s.run("stopped", uuid3, farMark)
	if got := s.tool("check"); strings.Contains(got.Stdout, "gone") {
		t.Fatal(got.Stdout)
	}
	info, err := os.Stat(filepath.Join(s.root, protection.MarksFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file of marks: %v, %v", info, err)
	}
	s.rerun(marked, "marked", uuid1, lapsed)
	s.rerun(changed, "changed", uuid2, strings.Replace(farMark, "billing", "other", 1))
	_ = os.Remove(filepath.Join(s.root, "run/libvirt/qemu/stopped.pid"))

	got := s.tool("check", "-o", "json")
	gone := decode[surveyJSON](t, got.Stdout).Gone
	if len(gone) != 1 || gone[0].Name != "marked" || gone[0].Message != "protected until 2099-06-30: billing primary" || gone[0].Until.IsZero() {
		t.Errorf("gone: %+v", gone)
	}
	if got := s.tool("check"); strings.Contains(got.Stdout, "gone") {
		t.Errorf("it is reported again:\n%s", got.Stdout)
	}
	// It was remembered while it did not run.
	s.rerun(stopped, "stopped", uuid3, "")
	got = s.tool("check")
	holds(t, "stdout", got.Stdout, "\nmark gone: stopped: protected until 2099-06-30: billing primary\n  last seen at ")
	narrow(t, got.Stdout)
}

func TestCheck_of_another_operation(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "listed\n", "etc/stopguard/policy/data.json", `{"site": {"protected_list": {"operations": ["stop", "tamper"]}}}`)
	s.run("listed", uuid1, "")
	s.run("marked", uuid2, farMark)
	s.run("more", uuid3, strings.Replace(farMark, "reason=", `operations="tamper" reason=`, 1))
	s.tool("check").is(t, 0)
	remembered := readFileText(t, filepath.Join(s.root, protection.MarksFile))
	got := s.tool("check", "--operation", "tamper").is(t, 0)
	want(t, got, 0, `DOMAIN                       TAMPER  UNTIL              RULE
listed                       veto    -                  protected_list
marked                       allow   -                  -
more                         veto    2099-07-01T00:00Z  protection_mark

3 running domains, 2 protected, 0 could not be decided
`, "")
	narrow(t, got.Stdout)
	holds(t, "JSON", s.tool("check", "-o", "json", "--operation", "tamper").Stdout, `"operation": "tamper"`)
	if now := readFileText(t, filepath.Join(s.root, protection.MarksFile)); now != remembered {
		t.Errorf("marks that are for a stop are forgotten:\n%s", now)
	}
}

func readFileText(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestCheck_goes_on_where_marks_cannot_be_remembered(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*stage)
		text   string
	}{
		"a_file_in_the_way": {func(s *stage) { s.put("var/lib/stopguard", "") }, "var/lib/stopguard"},
		"not_as_written":    {func(s *stage) { s.put(protection.MarksFile, "{") }, "is not as it was written"},
		"of_anybody": {func(s *stage) {
			if err := os.Chmod(s.put(protection.MarksFile, "{}"), 0o666); err != nil {
				s.t.Fatal(err)
			}
		}, "writable"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.run("pg", uuid1, farMark)
			tt.change(s)
			got := s.tool("check")
			if got.Code != 0 {
				t.Errorf("exit %d", got.Code)
			}
			holds(t, "stdout", got.Stdout, "1 protected")
			holds(t, "stderr", got.Stderr, "stopguard: marks that go cannot be told the next time: ", tt.text)
		})
	}
}

func TestCheck_of_a_candidate(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "listed\n", "etc/stopguard/policy/old.rego", strings.Replace(freeze, "web-", "ci-", 1),
		"candidate/new.rego", freeze)
	s.run("web-01", uuid1, "")
	s.run("ci-01", uuid2, "")
	s.run("listed", uuid3, "")
	s.run("web-02", "44444444-2b11-40de-a128-75e3f4a5fe44", farMark)
	candidate := filepath.Join(s.root, "candidate")
	got := s.tool("check", "--policy", candidate)
	golden(t, "check", "candidate", got.is(t, 0).Stdout)
	narrow(t, got.Stdout)
	if _, err := os.Stat(filepath.Join(s.root, protection.MarksFile)); err == nil {
		t.Error("a trial is remembered")
	}
	j := decode[surveyJSON](t, s.tool("check", "-o", "json", "--policy", candidate).Stdout)
	changes := map[string]string{}
	for _, d := range j.Domains {
		changes[d.Name] = d.Change + ": " + d.Outcome + " " + d.Candidate.Outcome
	}
	if diff := cmp.Diff(map[string]string{"web-01": "newly vetoed: allow veto", "ci-01": "newly allowed: veto allow",
		"listed": ": veto veto", "web-02": "other reason: veto veto"}, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}

	// What is to mend a broken policy can be tried, too.
	s.put("etc/stopguard/policy/half.rego", "package")
	got = s.tool("check", "--policy", candidate)
	holds(t, "stdout", got.Stdout, "of 4 domains: 3 newly vetoed, 1 newly allowed, 0 other reason, 0 newly a fault")
	if got.Code != 1 || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", got.Code, got.Stderr)
	}
	got = s.tool("check", "--policy", s.folder("etc/stopguard/policy"))
	holds(t, "stderr", got.Stderr, "stopguard: --policy: ")
}

// With a key, of the command line or of the host, a bundle that is not signed by it is no candidate.
func TestCheck_of_a_bundle(t *testing.T) {
	key := "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEkCJbnsU1nwAmDk8DIGQODsu7QU7b\nKnPa0rk4EQKRXVZS0nBQbrBQV8vsUnXc4fSCnmXj1FVxUqhVVJ8eIqMBAQ==\n-----END PUBLIC KEY-----\n"
	s := newStage(t, "key.pem", key)
	s.run("web-01", uuid1, "")
	packed := string(testhost.Bundle(t, map[string]string{"new.rego": freeze}))
	bundle := s.put("new.tar.gz", packed)
	holds(t, "stdout", s.tool("check", "--policy", bundle).is(t, 0).Stdout, "web-01                     newly vetoed   -                   frozen\n")
	holds(t, "stderr", s.tool("check", "--policy", bundle, "--key", filepath.Join(s.root, "key.pem")).is(t, 1).Stderr, "stopguard: --policy: policy: "+bundle)
	holds(t, "stderr", s.tool("check", "--policy", s.root, "--key", "x").is(t, 2).Stderr, "is a folder; leave it out")
	holds(t, "stderr", s.tool("check", "--policy", filepath.Join(s.root, "none")).is(t, 1).Stderr, "no such file or directory; name a policy folder or a bundle")
	s.put("etc/stopguard/bundle.pem", key)
	s.put("etc/stopguard/bundle.tar.gz", packed)
	s.tool("check", "--policy", bundle).is(t, 1)
}

// TestNoCommandPrintsAPassword has every command that reads a status file read real ones, which hold a planted password.
func TestNoCommandPrintsAPassword(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/raw.rego", "package stopguard.rules.raw\n\nveto contains \"has children\" if count(input.xml.children) > 0\n",
		"candidate/new.rego", freeze)
	files, err := filepath.Glob(captures + "*.xml")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var name string
	planted := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		planted += strings.Count(string(content), "hunter2x")
		if !strings.HasSuffix(file, ".stdin.xml") {
			name = s.capture(filepath.Base(file))
		}
	}
	if planted == 0 {
		t.Fatal("no password is planted")
	}
	p := s.process("x")
	s.status("torn", p.Pid, "<domstatus state='running' pid='7'><domain passwd='hunter2x'><name>torn</name></domstatus>")
	password := s.put("pw.xml", domainXML("pw", uuid1, farMark))
	bad := s.put("bad.xml", "<domain passwd='hunter2x' passwd='hunter2x'/>")
	s.withVirsh(standInDomain{Name: name, UUID: uuid1, ID: "7"})
	for _, args := range [][]string{
		{"check"}, {"check", "-o", "json"}, {"check", "-o", "prometheus"}, {"check", "--policy", filepath.Join(s.root, "candidate")},
		{"check", "--policy", filepath.Join(s.root, "candidate"), "-o", "json"}, {"check", password, bad}, {"explain", name},
		{"explain", "pw", "--xml", password}, {"explain", "torn"}, {"explain", "bad", "--xml", bad},
		{"protect", name, "--until", "2099-06-30", "--reason", "x"}, {"unprotect", name},
		{"ticket", "grant", name, "--reason", "x"}, {"ticket", "list"}, {"__complete", "explain", ""}, {"log"},
	} {
		got := s.tool(args...)
		if strings.Contains(got.Stdout+got.Stderr, "hunter2x") {
			t.Errorf("%q prints it:\n%s%s", args, got.Stdout, got.Stderr)
		}
	}
	err = filepath.WalkDir(filepath.Join(s.root, "var"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), "hunter2x") {
			t.Errorf("%s holds it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// What a domain's owner writes cannot move the cursor: every output goes through stage.fit.
func TestTextOfADomainIsShownAsText(t *testing.T) {
	const evil = "a\x7f\u202eb\u2066\u200b\u2800c"
	s := newStage(t)
	s.run(evil, uuid1, strings.Replace(farMark, "billing", evil, 1))
	for _, args := range [][]string{{"check"}, {"check", "-o", "json"}, {"check", "-o", "prometheus"}, {"explain", evil},
		{"ticket", "grant", evil, "--reason", "x"}, {"ticket", "list"}, {"__complete", "explain", ""}} {
		if got := s.tool(args...); got.Code != 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if d := decode[surveyJSON](t, s.tool("check", "-o", "json").Stdout).Domains[0]; d.Name != evil {
		t.Errorf("JSON loses the name: %q", d.Name)
	}
	narrow(t, s.tool("check").Stdout)
}

// TestCheck_of_a_thousand_domains is no timed test; its bounds are for what goes wrong by a factor. That a domain is alive
// is told by its process, and 1,000 processes would measure the machine: each child stands for 50 domains, whose UUIDs are
// all on its command line.
func TestCheck_of_a_thousand_domains(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 20 processes")
	}
	s := thousand(t)
	began := time.Now()
	out, usage := s.child("check", "-o", "json")
	took, memory := time.Since(began), usage.Maxrss<<10
	if j := decode[surveyJSON](t, out); len(j.Domains) != 1000 || j.Domains[0].Outcome != "veto" || j.Domains[1].Outcome != "allow" {
		t.Errorf("%d domains, %+v", len(j.Domains), j.Domains[:2])
	}
	t.Logf("1,000 domains: %v, %d MiB", took.Round(time.Millisecond), memory>>20)
	if took > 20*time.Second || memory > 1<<30 {
		t.Errorf("it took %v and %d MiB", took, memory>>20)
	}
}

func BenchmarkCheck_of_a_thousand_domains(b *testing.B) {
	s := thousand(b)
	var most int64
	for b.Loop() {
		_, usage := s.child("check")
		most = max(most, usage.Maxrss<<10)
	}
	b.ReportMetric(float64(most)/(1<<20), "MiB")
}

// thousand is a host with 1,000 domains, every other one with a mark, in status files of a real libvirt's size.
func thousand(t testing.TB) *stage {
	t.Helper()
	s := newStage(t, "etc/libvirt/protected-domains", "vm-9999\n")
	content, err := os.ReadFile(captures + "running.xml")
	if err != nil {
		t.Fatal(err)
	}
	name := captureName.FindStringSubmatch(string(content))[1]
	uuid := captureUUID.FindStringSubmatch(string(content))[1]
	const each = 50
	for i := 0; i < 1000; i += each {
		var uuids []string
		for j := i; j < i+each; j++ {
			uuids = append(uuids, fmt.Sprintf("%08d%s", j, uuid[8:]))
		}
		p := s.process(uuids...)
		for j, own := range uuids {
			status := strings.NewReplacer(name, fmt.Sprintf("vm-%04d", i+j), uuid, own).Replace(string(content))
			if (i+j)%2 == 1 {
				status = strings.ReplaceAll(status, "urn:stopguard:protection:1", "urn:other")
			}
			s.status(fmt.Sprintf("vm-%04d", i+j), p.Pid, capturePID.ReplaceAllString(status, fmt.Sprintf("${1}%d'", p.Pid)))
		}
	}
	return s
}

// child runs the tool in a process of its own.
func (s *stage) child(args ...string) (string, *syscall.Rusage) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), stageRole+"=tool")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.SysUsage().(*syscall.Rusage)
}
