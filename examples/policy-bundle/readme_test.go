package policybundle_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A step of the README is a file to write, or a command and its output.
type step struct {
	line           int
	file, content  string
	command, print string
}

// steps reads the fenced blocks of the README. A block whose fence names a file is that file. A
// console block holds commands behind "$ ", each with its output.
func steps(t *testing.T, readme string) []step {
	t.Helper()
	var all []step
	var block *strings.Builder // of a file
	console := false
	for i, line := range strings.Split(readme, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && fence == "" && block == nil && !console:
			t.Fatalf("README.md:%d: a block without a language", i+1)
		case isFence && fence == "":
			if block != nil {
				all[len(all)-1].content = block.String()
			}
			block, console = nil, false
		case isFence && fence == "console":
			console = true
		case isFence:
			_, file, named := strings.Cut(fence, " ")
			if !named {
				t.Fatalf("README.md:%d: neither a file nor a console, and would not be tested", i+1)
			}
			block = &strings.Builder{}
			all = append(all, step{line: i + 1, file: file})
		case block != nil:
			fmt.Fprintln(block, line)
		case console:
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				all = append(all, step{line: i + 1, command: command})
			} else {
				all[len(all)-1].print += line + "\n"
			}
		}
	}
	return all
}

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
	all := steps(t, string(readme))
	if len(all) < 30 {
		t.Fatalf("the README has %d steps; is it read rightly?", len(all))
	}

	folder, aside := t.TempDir(), t.TempDir()
	script := "umask 022\n"
	for i, s := range all {
		script += fmt.Sprintf("printf '\\036%d\\n'\n", i)
		if s.command != "" {
			script += s.command + "\nprintf '\\035%d' $?\n"
			continue
		}
		content := filepath.Join(aside, fmt.Sprint(i))
		write(t, content, s.content, 0o644)
		script += fmt.Sprintf("mkdir -p '%s' && cp '%s' '%s'\n", filepath.Dir(s.file), content, s.file)
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
		if refuses := strings.HasPrefix(s.print, "FAIL") || strings.Contains(s.print, "\nFAIL") || strings.HasPrefix(s.print, "stopguard: "); s.command != "" && (exit != "0") != refuses {
			t.Errorf("README.md:%d: %s ends with exit code %s and prints:\n%s", s.line, s.command, exit, got)
		}
		if !matches(s.print, got) {
			t.Errorf("README.md:%d: %s%s\nsays:\n%sand prints:\n%s", s.line, s.command, s.file, s.print, got)
		}
	}
}

// matches compares the README's output with the real one. "..." stands for any text.
func matches(want, got string) bool {
	parts := strings.Split(want, "...")
	for i, part := range parts {
		if i > 0 {
			part = strings.TrimPrefix(part, "\n")
		}
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(`^(?s:` + strings.Join(parts, "(?:.*)") + `)$`).MatchString(got)
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
