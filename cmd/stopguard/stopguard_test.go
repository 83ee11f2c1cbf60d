package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

// TestNoCommandPrintsAPassword has every command that reads a status file read real ones, which
// hold a planted password.
func TestNoCommandPrintsAPassword(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/raw.rego", "package stopguard.rules.raw\n\nveto contains \"has children\" if count(input.xml.children) > 0\n",
		"candidate/new.rego", freeze)
	files, err := filepath.Glob(tooltest.Captures + "*.xml")
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
			name = s.Capture(filepath.Base(file))
		}
	}
	if planted == 0 {
		t.Fatal("no password is planted")
	}
	p := s.Process("x")
	s.Status("torn", p.Pid, "<domstatus state='running' pid='7'><domain passwd='hunter2x'><name>torn</name></domstatus>")
	password := s.Put("pw.xml", tooltest.DomainXML("pw", tooltest.UUID1, tooltest.FarMark))
	bad := s.Put("bad.xml", "<domain passwd='hunter2x' passwd='hunter2x'/>")
	s.WithVirsh(tooltest.StandInDomain{Name: name, UUID: tooltest.UUID1, ID: "7"})
	for _, args := range [][]string{
		{"check"}, {"check", "-o", "json"}, {"check", "-o", "prometheus"}, {"check", "--policy", filepath.Join(s.Root, "candidate")},
		{"check", "--policy", filepath.Join(s.Root, "candidate"), "-o", "json"}, {"check", password, bad}, {"explain", name},
		{"explain", "pw", "--xml", password}, {"explain", "torn"}, {"explain", "bad", "--xml", bad},
		{"protect", name, "--until", "2099-06-30", "--reason", "x"}, {"unprotect", name},
		{"ticket", "grant", name, "--reason", "x"}, {"ticket", "list"}, {"__complete", "explain", ""}, {"log"},
	} {
		got := s.Tool(args...)
		if strings.Contains(got.Stdout+got.Stderr, "hunter2x") {
			t.Errorf("%q prints it:\n%s%s", args, got.Stdout, got.Stderr)
		}
	}
	err = filepath.WalkDir(filepath.Join(s.Root, "var"), func(path string, d os.DirEntry, err error) error {
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

// The texts of a domain's owner cannot move the cursor: every output goes through stage.fit.
func TestTextOfADomainIsShownAsText(t *testing.T) {
	const evil = "a\x7f\u202eb\u2066\u200b\u2800c"
	s := newStage(t)
	s.Run(evil, tooltest.UUID1, strings.Replace(tooltest.FarMark, "billing", evil, 1))
	for _, args := range [][]string{{"check"}, {"check", "-o", "json"}, {"check", "-o", "prometheus"}, {"explain", evil},
		{"ticket", "grant", evil, "--reason", "x"}, {"ticket", "list"}, {"__complete", "explain", ""}} {
		if got := s.Tool(args...); got.Code != 0 {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if d := decodeDomains(t, s.Tool("check", "-o", "json").Stdout).Domains[0]; d.Name != evil {
		t.Errorf("JSON loses the name: %q", d.Name)
	}
}

// TestCheck_of_a_thousand_domains does not measure time; its bounds detect errors of a whole
// factor. 1,000 processes would measure the machine, so each child stands for 50 domains, whose
// UUIDs are all on its command line.
func TestCheck_of_a_thousand_domains(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 20 processes")
	}
	s := thousand(t)
	out, usage := child(s, "check", "-o", "json")
	took := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()) // of a processor: the machine may be busy
	memory := usage.Maxrss << 10
	if j := decodeDomains(t, out); len(j.Domains) != 1000 || j.Domains[0].Outcome != "veto" || j.Domains[1].Outcome != "allow" {
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
		_, usage := child(s, "check")
		most = max(most, usage.Maxrss<<10)
	}
	b.ReportMetric(float64(most)/(1<<20), "MiB")
}

// thousand is a host with 1,000 domains, every other one with a mark, in status files of a real
// libvirt's size.
func thousand(t testing.TB) *tooltest.Stage {
	t.Helper()
	s := newStage(t, "etc/libvirt/protected-domains", "vm-9999\n")
	content, err := os.ReadFile(tooltest.Captures + "running.xml")
	if err != nil {
		t.Fatal(err)
	}
	name := tooltest.CaptureName.FindStringSubmatch(string(content))[1]
	uuid := tooltest.CaptureUUID.FindStringSubmatch(string(content))[1]
	const each = 50
	for i := 0; i < 1000; i += each {
		var uuids []string
		for j := i; j < i+each; j++ {
			uuids = append(uuids, fmt.Sprintf("%08d%s", j, uuid[8:]))
		}
		p := s.Process(uuids...)
		for j, own := range uuids {
			status := strings.NewReplacer(name, fmt.Sprintf("vm-%04d", i+j), uuid, own).Replace(string(content))
			if (i+j)%2 == 1 {
				status = strings.ReplaceAll(status, "urn:stopguard:protection:1", "urn:other")
			}
			s.Status(fmt.Sprintf("vm-%04d", i+j), p.Pid, tooltest.CapturePID.ReplaceAllString(status, fmt.Sprintf("${1}%d'", p.Pid)))
		}
	}
	return s
}

// child runs the tool in a process of its own.
func child(s *tooltest.Stage, args ...string) (string, *syscall.Rusage) {
	s.T.Helper()
	self, err := os.Executable()
	if err != nil {
		s.T.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), toolRole+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		s.T.Fatal(err)
	}
	return string(out), cmd.ProcessState.SysUsage().(*syscall.Rusage)
}

func TestHelpFitsATerminal(t *testing.T) {
	s := newStage(t)
	for _, command := range []string{"", "protect", "unprotect", "check", "may-stop", "policy", "policy test", "policy eval", "policy build", "explain", "coverage", "ticket", "ticket grant", "ticket list", "ticket revoke", "log"} {
		tooltest.Narrow(t, s.Tool(append(strings.Fields(command), "--help")...).Is(t, 0).Stdout)
	}
}

func TestCompletionManAndVersion(t *testing.T) {
	s := newStage(t)
	s.Run("pg-primary-01", tooltest.UUID1, "")
	s.Run("a;b $(reboot)", tooltest.UUID2, "")
	for _, shell := range []string{"bash", "zsh"} {
		if got := s.Tool("completion", shell).Is(t, 0); !strings.Contains(got.Stdout, "stopguard") {
			t.Errorf("%s: %+v", shell, got)
		}
	}
	for _, command := range [][]string{{"explain"}, {"protect"}, {"unprotect"}, {"ticket", "grant"}, {"log", "--domain"}} {
		got := s.Tool(append(append([]string{"__complete"}, command...), "pg")...)
		if !strings.HasPrefix(got.Stdout, "pg-primary-01\n:4\n") {
			t.Errorf("%q: %q", command, got.Stdout)
		}
	}
	pages := filepath.Join(s.Root, "man")
	s.Tool("man", pages).Is(t, 0)
	for _, page := range []string{"stopguard.8", "stopguard-ticket-grant.8"} {
		if text, err := os.ReadFile(filepath.Join(pages, page)); err != nil || !strings.Contains(string(text), ".TH") {
			t.Errorf("%s: %v", page, err)
		}
	}
	if got := s.Tool("--version").Is(t, 0); !strings.HasPrefix(got.Stdout, "stopguard ") {
		t.Errorf("%q", got.Stdout)
	}
	got := s.Tool("coverage").Is(t, 0)
	tooltest.Holds(t, "coverage", got.Stdout, "vetoable    detectable  vetoable    destroy\n", "invisible   invisible   invisible   host loses power\n", "invisible   invisible   vetoable    mark taken away")
	s.Tool("nope").Is(t, 2)
	s.Tool("--nope").Is(t, 2)
}

const freeze = "package stopguard.rules.frozen\n\nveto contains \"frozen\" if startswith(input.domain.name, \"web-\")\n"

// toolRole has this test binary be the tool.
const toolRole = "STOPGUARD_TEST_TOOL"

func init() {
	if os.Getenv(toolRole) != "" {
		_ = os.Unsetenv(toolRole)
		main()
	}
}

// decodeDomains parses the part of check -o json that these tests need.
func decodeDomains(t *testing.T, text string) (report struct {
	Domains []struct{ Name, Outcome string }
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatal(err)
	}
	return report
}

func newStage(t testing.TB, files ...string) *tooltest.Stage {
	t.Helper()
	var commands []func() *cobra.Command
	for _, g := range groups {
		commands = append(commands, g.commands...)
	}
	return tooltest.New(t, commands, files...)
}

// Every command that help lists is in a group, and shows an example.
func TestHelpIsGroupedAndHasExamples(t *testing.T) {
	for _, c := range root().Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.GroupID == "" {
			t.Errorf("%s is in no group", c.Name())
		}
		for _, one := range append(c.Commands(), c) {
			if one.Example == "" && !one.HasSubCommands() {
				t.Errorf("%s has no example", one.CommandPath())
			}
		}
	}
}
