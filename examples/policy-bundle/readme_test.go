package policybundle_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/docsteps"
)

// The test runs every command of the README, in a folder that is empty at first, and compares the
// output.
func TestTheREADMEIsTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	for _, program := range []string{"openssl", "tar", "sed", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("the README needs %s", program)
			}
			t.Skipf("the README needs %s", program)
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	all := docsteps.Parse(string(readme))
	if len(all) < 30 {
		t.Fatalf("the README has %d steps; is it read rightly?", len(all))
	}

	folder, aside := t.TempDir(), t.TempDir()
	script := "umask 022\n"
	for i, s := range all {
		script += fmt.Sprintf("printf '\\036%d\\n'\n", i)
		if s.Command != "" {
			script += s.Command + "\nprintf '\\035%d' $?\n"
			continue
		}
		if s.File == "" {
			t.Fatalf("README.md:%d: neither a file nor a command, and would not be tested", s.Line)
		}
		content := filepath.Join(aside, fmt.Sprint(i))
		write(t, content, s.Content, 0o644)
		script += fmt.Sprintf("mkdir -p '%s' && cp '%s' '%s'\n", filepath.Dir(s.File), content, s.File)
	}
	command := exec.Command("sh", "-c", script+"exit 0\n")
	command.Dir = folder
	path := programs(t)
	for _, program := range []string{"go", "opa"} { // the reader has neither
		write(t, filepath.Join(path, program), "#!/bin/sh\n: > '"+filepath.Join(aside, "called-"+program)+"'\nexit 127\n", 0o755)
	}
	command.Env = append(os.Environ(), "PATH="+path+":/usr/bin:/bin", "HOME="+folder)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s", err, output.String())
	}
	if called, _ := filepath.Glob(filepath.Join(aside, "called-*")); len(called) > 0 {
		t.Errorf("the README needs another program: %q", called)
	}
	printed := strings.Split(output.String(), "\036")[1:]
	if len(printed) != len(all) {
		t.Fatalf("%d of %d steps were run:\n%s", len(printed), len(all), output.String())
	}
	for i, s := range all {
		_, got, _ := strings.Cut(printed[i], "\n")
		got, exit, _ := strings.Cut(got, "\035")
		if s.Command != "" && (exit != "0") != s.IsRefused() {
			t.Errorf("README.md:%d: %s ends with exit code %s and prints:\n%s", s.Line, s.Command, exit, got)
		}
		if !s.Matches(got) {
			t.Errorf("README.md:%d: %s%s\nsays:\n%sand prints:\n%s", s.Line, s.Command, s.File, s.Output, got)
		}
	}
}

// programs builds the tool and the hook into a folder, as their package would bring them.
func programs(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	build := exec.Command("go", "build", "-o", folder, "../../cmd/stopguard", "../../cmd/stopguard-hook")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return folder
}

func write(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
