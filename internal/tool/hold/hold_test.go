package hold

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/tool/check"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/explain"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

var commands = []func() *cobra.Command{Command, check.Command, explain.Command}

const role = "STOPGUARD_TEST_HOLD_COMMAND"

// TestMain has this test binary be the tool, as a process that can be killed.
func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		root := cli.Root()
		for _, command := range commands {
			root.AddCommand(command())
		}
		os.Unsetenv(role)
		os.Exit(cli.Run(context.Background(), root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func newStage(t *testing.T) *tooltest.Stage {
	s := tooltest.New(t, commands)
	s.Run("pg-primary-01", tooltest.UUID1, "")
	return s
}

// start starts the tool, and waits until its command has written its process ID.
func start(t *testing.T, s *tooltest.Stage, args ...string) (*exec.Cmd, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Root, "pid")
	_ = os.Remove(file)
	cmd := exec.Command(self, append(append([]string{"hold", "pg-primary-01", "--reason", "nightly backup"}, args...),
		"--", "sh", "-c", fmt.Sprintf("echo $$ > %s.new; mv %s.new %s; exec sleep 600", file, file, file))...)
	cmd.Env = append(os.Environ(), role+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for {
		if text, err := os.ReadFile(file); err == nil {
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			return cmd, pid
		}
		time.Sleep(time.Millisecond)
	}
}

func TestHold(t *testing.T) {
	s := newStage(t)
	tooltest.Holds(t, "before", s.Tool("check").Is(t, 0).Stdout, "1 running domain, 0 protected")
	cmd, _ := start(t, s, "--operations", "reset", "--at-most", "1d12h")
	text := fmt.Sprintf("(pid %d) since ", cmd.Process.Pid)
	table := s.Tool("check", "-o", "json").Is(t, 0).Stdout
	tooltest.Holds(t, "check", table, `"rule": "hold"`, "held by ", text, ": nightly backup", `"until": "20`)
	tooltest.Holds(t, "check", s.Tool("check", "--operation", "reset").Is(t, 0).Stdout, "1 protected")
	tooltest.Holds(t, "check", s.Tool("check", "--operation", "pause").Is(t, 0).Stdout, "0 protected")
	tooltest.Holds(t, "explain", s.Tool("explain", "pg-primary-01").Is(t, 0).Stdout, "pg-primary-01 may not be stopped", text, "lapses at 20")

	if err := cmd.Process.Signal(syscall.SIGTERM); err == nil {
		_ = cmd.Wait()
	}
	tooltest.Holds(t, "after", s.Tool("check").Is(t, 0).Stdout, "1 running domain, 0 protected")
}

// However the tool ends, the domain is free and the command is gone.
func TestHold_takesItsCommandDownWithIt(t *testing.T) {
	s := newStage(t)
	cmd, pid := start(t, s)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	tooltest.Holds(t, "check", s.Tool("check").Is(t, 0).Stdout, "0 protected")
	for { // it is init's child now, or a zombie where nothing reaps it
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestHold_endsWithItsCommand(t *testing.T) {
	s := newStage(t)
	for _, tt := range []struct {
		command []string
		code    int
		why     string
	}{
		{[]string{"true"}, 0, "it is done"},
		{[]string{"sh", "-c", "exit 3"}, 3, "its code is the command's"},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, "as a shell has it"},
		{[]string{"/no/such/program"}, 1, "it was not started"},
	} {
		args := append([]string{"hold", "pg-primary-01", "--reason", "x", "--"}, tt.command...)
		if got := s.Tool(args...); got.Code != tt.code {
			t.Errorf("%v: %+v, want %d (%s)", tt.command, got, tt.code, tt.why)
		}
		tooltest.Holds(t, tt.why, s.Tool("check").Is(t, 0).Stdout, "0 protected")
	}
	got := s.Tool("hold", tooltest.UUID2, "--reason", "x", "--", "echo", "-n", "done").Is(t, 0)
	if got.Stdout != "done" {
		t.Error(got)
	}
}

func TestHold_isOverAfterItsTime(t *testing.T) {
	s := newStage(t)
	var stdout, stderr testhost.Buffer
	fifo := filepath.Join(s.Root, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	code := make(chan int)
	go func() {
		args := []string{"hold", "pg-primary-01", "--reason", "x", "--at-most", "1ms", "--", "cat", fifo}
		code <- s.RunTool(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	}()
	for !strings.Contains(s.Tool("check").Is(t, 0).Stdout, "0 protected") {
		time.Sleep(time.Millisecond)
	}
	if err := os.WriteFile(fifo, nil, 0o600); err != nil { // waits for the command, which runs on
		t.Fatal(err)
	}
	if got := <-code; got != 0 {
		t.Error(got, stderr.String())
	}
	tooltest.Holds(t, "stderr", stderr.String(), "pg-primary-01 is no longer held; the command runs on\n")
}

func TestHold_refuses(t *testing.T) {
	s := newStage(t)
	for name, tt := range map[string]struct {
		args []string
		code int
		text string
	}{
		"no_domain":   {[]string{"--reason", "x", "--", "true"}, 2, "no domain is named"},
		"two_domains": {[]string{"a", "b", "--reason", "x", "--", "true"}, 2, "2 arguments stand before --"},
		"no_command":  {[]string{"pg-primary-01", "--reason", "x"}, 2, "there is no command"},
		"no_reason":   {[]string{"pg-primary-01", "--", "true"}, 2, "reason"},
		"operation":   {[]string{"pg-primary-01", "--reason", "x", "--operations", "destroy", "--", "true"}, 2, `--operations names "destroy"`},
		"time":        {[]string{"pg-primary-01", "--reason", "x", "--at-most", "0s", "--", "true"}, 2, "--at-most is 0s"},
		"off":         {[]string{"pg-primary-02", "--reason", "x", "--", "true"}, 1, "no domain pg-primary-02 runs on this host"},
		"empty":       {[]string{"pg-primary-01", "--reason", "", "--", "true"}, 1, "the reason is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.Tool(append([]string{"hold"}, tt.args...)...).Is(t, tt.code)
			tooltest.Holds(t, "stderr", got.Stderr, tt.text)
		})
	}
}

// The commands of docs/holds.md run as they stand there.
func TestTheDocumentsCommandsWork(t *testing.T) {
	s := newStage(t)
	document, err := os.ReadFile("../../../docs/holds.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(document), "```sh\n")
	commands, _, ended := strings.Cut(commands, "```\n")
	if !ended || strings.Count(commands, "\n") != 2 {
		t.Fatalf("the document has no commands, or others: %s", commands)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(s.Root, "stopguard")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(commands) {
		cmd := exec.Command("sh", "-c", line)
		cmd.Env = append(os.Environ(), role+"=1", "PATH="+s.Root+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}
