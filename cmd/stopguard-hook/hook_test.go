package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/hookproto/hooktest"
	"github.com/stopguard/stopguard/internal/testhost"
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
