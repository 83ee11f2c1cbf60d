package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/hookproto/hooktest"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/ticket"
)

const sampleHost = "testdata/host"

// hook is the program that a host would have.
var hook = testhost.Program{Source: "."}

// asHook has the test's own program be the hook.
const asHook = "STOPGUARD_TEST_AS_HOOK=1"

func TestMain(m *testing.M) {
	if slices.Contains(os.Environ(), asHook) {
		main()
		return
	}
	code := m.Run()
	hook.Remove()
	os.Exit(code)
}

func rooted(t *testing.T, root string) string {
	t.Helper()
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	return "STOPGUARD_ROOT=" + absolute
}

func TestTheHookKeepsTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	root := copyOf(t, sampleHost)
	hooktest.Binary(t, hook.File(t), hooktest.Config{
		Env:   []string{rooted(t, root)},
		Break: func(t *testing.T) { put(t, filepath.Join(root, "etc/stopguard/policy/half.rego"), "package", 0o644) },
	})
}

// As libvirt runs it: through the shell front.
func TestTheFrontKeepsTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	hooktest.Binary(t, front(t, hook.File(t)), hooktest.Config{
		Env:      []string{rooted(t, sampleHost)},
		SkipStop: os.Geteuid() != 0, // it lets every stop of another user's session daemon go
	})
}

// The rest of an installation whose program is missing must not do harm either.
func TestTheFrontKeepsTheContractWithoutAProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many hooks")
	}
	hooktest.Binary(t, front(t, "/nonexistent/stopguard-hook"), hooktest.Config{SkipStop: true})
}

// The README suggests these commands.
func TestTheSampleHost(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if !testing.Short() { // linking takes longer than the rest
		program = hook.File(t)
	}
	for _, tt := range []struct {
		domain string
		code   int
		line   string
	}{
		{"pg-primary-01", 1, "stopguard: veto: pg-primary-01: protected until 2099-06-30: billing primary (rule protection_mark)\n"},
		{"protected-vm", 1, "(rule protected_list)\n"},
		{"web-01", 0, ""},
	} {
		xml, err := os.Open(filepath.Join("testdata", tt.domain+".xml"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = xml.Close() }()
		cmd := exec.Command(program, tt.domain, "stop", "begin", "-")
		cmd.Env = []string{rooted(t, sampleHost), asHook}
		cmd.Stdin = xml
		var line strings.Builder
		cmd.Stderr = &line
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.HasSuffix(line.String(), tt.line) || (line.Len() == 0) != (tt.line == "") {
			t.Errorf("%s: exit %d, %q", tt.domain, code, line.String())
		}
	}
}

// A full disk changes no decision. Nothing can be written here, not even a byte.
func TestAFullDiskChangesNoDecisionAndUsesUpNoTicket(t *testing.T) {
	root := copyOf(t, sampleHost)
	const uuid = "d19e7151-4c02-4aa7-a443-59213be70aba" // of pg-primary-01
	now := time.Now()
	tickets := ticket.Store{Root: root}
	granted, err := tickets.Grant(ticket.Ticket{Domain: uuid, Operation: "stop", Reason: "disk swap", Requester: "alice", NotAfter: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	run := func(script, domain string) (int, string) {
		t.Helper()
		xml, err := os.Open(filepath.Join("testdata", domain+".xml"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = xml.Close() }()
		cmd := exec.Command("/bin/sh", "-c", script+`exec "$0" "$@"`, hook.File(t), domain, "stop", "begin", "-")
		cmd.Env, cmd.Stdin = []string{rooted(t, root)}, xml
		var line strings.Builder
		cmd.Stderr = &line
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), line.String()
	}
	const full = "ulimit -f 0; "
	for _, tt := range []struct {
		why, domain string
		code        int
		says        []string
	}{
		{"a protected one stays, and the line says why its ticket does not help", "pg-primary-01", 1,
			[]string{"stopguard: veto: pg-primary-01: protected until 2099-06-30", "; ticket " + granted.ID + " could not be taken: file too large; not recorded: "}},
		{"one without a ticket stays", "protected-vm", 1, []string{"stopguard: veto: protected-vm: ", " (rule protected_list); not recorded: "}},
		{"any other one can be stopped", "web-01", 0, nil},
	} {
		code, line := run(full, tt.domain)
		for _, want := range tt.says {
			if !strings.Contains(line, want) {
				t.Errorf("%s: it does not say %q: %q", tt.why, want, line)
			}
		}
		if code != tt.code || len(tt.says) == 0 && line != "" {
			t.Errorf("%s: exit %d, %q", tt.why, code, line)
		}
	}
	entries, err := os.ReadDir(filepath.Join(root, "var/lib/stopguard/tickets"))
	if err != nil || len(entries) != 1 {
		t.Errorf("files are left beside the ticket: %v %v", entries, err)
	}
	if code, line := run("", "pg-primary-01"); code != 0 {
		t.Errorf("with room again, the ticket lifts nothing: exit %d, %q", code, line)
	}
}

// front installs the shell front for a program.
func front(t *testing.T, program string) string {
	t.Helper()
	script, err := os.ReadFile("../../hookproto/front.sh")
	if err != nil {
		t.Fatal(err)
	}
	const first = "\nprogram=/usr/libexec/stopguard-hook\n"
	if strings.Count(string(script), first) != 1 {
		t.Fatal("front.sh names no program")
	}
	file := filepath.Join(t.TempDir(), "50-stopguard")
	put(t, file, strings.Replace(string(script), first, "\nprogram="+program+"\n", 1), 0o755)
	return file
}

// copyOf copies a host with the permissions that a host's files need, whatever the umask is.
func copyOf(t *testing.T, host string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "host")
	if err := os.CopyFS(root, os.DirFS(host)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func put(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}
