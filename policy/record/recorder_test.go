package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"
	_ "unsafe" // for go:linkname

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// journalPath is where package journal looks for the journal, which it lets be set when a program
// is built.
//
//go:linkname journalPath github.com/coreos/go-systemd/v22/journal.journalSocket
var journalPath string

// TestMain lets a test run this binary as a process that writes. No test writes to the host's own
// journal.
func TestMain(m *testing.M) {
	journalPath = "/nowhere/journal"
	if root := os.Getenv("RECORD_TEST_ROOT"); root != "" {
		write(root)
		return
	}
	folder, err := os.MkdirTemp("", "sgjournal")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	journalPath = filepath.Join(folder, "socket")
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

func write(root string) {
	lines, _ := strconv.Atoi(os.Getenv("RECORD_TEST_LINES"))
	maxBytes, _ := strconv.ParseInt(os.Getenv("RECORD_TEST_MAX"), 10, 64)
	if limit, err := strconv.ParseUint(os.Getenv("RECORD_TEST_FSIZE"), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		_ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit})
	}
	for n := range lines {
		e := event(fmt.Sprintf("%d-%d", os.Getpid(), n))
		if err := (Recorder{Root: root, MaxBytes: maxBytes}).Write(context.Background(), e); err != nil {
			fmt.Println(err)
		}
	}
}

// event is about a domain, and as large as a real one.
func event(name string) Event {
	e := New("kvm-07", Domain{Name: name, UUID: "16e14a01-2b11-40de-a128-75e3f4a5fe12"}, noon)
	e.Input = map[string]string{"xml": strings.Repeat("x", 6000)}
	e.Bundles = map[string]Bundle{"site": {Revision: "r7"}}
	e.Result.Outcome, e.Result.Reasons = Veto, []Reason{{Rule: "r", Message: "m"}}
	return e
}

func command(t *testing.T, root string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append([]string{"RECORD_TEST_ROOT=" + root}, env...)
	return cmd
}

// names reads the recorded domains of both files, and fails at a line that is not whole.
func names(t *testing.T, root string) map[string]int {
	t.Helper()
	found := map[string]int{}
	files, err := filepath.Glob(filepath.Join(root, File+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			var e Event
			if err := json.Unmarshal(line, &e); err != nil || !bytes.HasSuffix(line, []byte("\n")) {
				t.Errorf("%s: %v: %.80q...", file, err, line)
				continue
			}
			found[e.Result.Domain.Name]++
		}
	}
	return found
}

func TestLinesOfManyProcessesNeverMix(t *testing.T) {
	processes, lines := 64, 157 // 10,048 lines
	if testing.Short() {
		processes = 12 // starting a process takes most of the time
	}
	root := t.TempDir()
	var all sync.WaitGroup
	for range processes {
		cmd := command(t, root, "RECORD_TEST_LINES="+strconv.Itoa(lines), "RECORD_TEST_MAX=1000000000")
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %.200s", err, out)
			}
		})
	}
	all.Wait()
	found := names(t, root)
	if len(found) != processes*lines {
		t.Errorf("%d lines, not %d", len(found), processes*lines)
	}
}

func TestAFileThatIsTooLargeIsSetAsideByOneOfManyWriters(t *testing.T) {
	root := t.TempDir()
	var all sync.WaitGroup
	for range 16 {
		cmd := command(t, root, "RECORD_TEST_LINES=20", "RECORD_TEST_MAX=1200000") // 320 lines of 6.4 KB: one rotation
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %.200s", err, out)
			}
		})
	}
	all.Wait()
	if found := names(t, root); len(found) != 320 {
		t.Errorf("%d of 320 lines are left", len(found))
	}
	if _, err := os.Stat(filepath.Join(root, File+".1")); err != nil {
		t.Error(err)
	}
}

func writeEvent(t *testing.T, root, name string) error {
	t.Helper()
	return Recorder{Root: root}.Write(context.Background(), event(name))
}

func TestWhatLogrotateSetAsideIsNotWrittenTo(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, File)
	if err := writeEvent(t, root, "first"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+"-20261122"); err != nil {
		t.Fatal(err)
	}
	if err := writeEvent(t, root, "second"); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || bytes.Count(content, []byte("\n")) != 1 || !bytes.Contains(content, []byte("second")) {
		t.Errorf("%v: %.200s", err, content)
	}
}

func TestTheFileIsItsOwnersAlone(t *testing.T) {
	root := t.TempDir()
	if err := writeEvent(t, root, "a"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{File: 0o600, filepath.Dir(File): os.ModeDir | 0o700} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestALineThatFollowsATornOneStandsAlone(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, File)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"labels":{"ho`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeEvent(t, root, "whole"); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	var e Event
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &e) != nil || e.Result.Domain.Name != "whole" {
		t.Errorf("%.300q", content)
	}
}

func TestALineShowsATerminalNothingToObey(t *testing.T) {
	root := t.TempDir()
	const name = "Müller\u009b31m\u007f\u202e\U000e0041 ✓"
	if err := writeEvent(t, root, name); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSuffix(string(content), "\n")
	if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || !strings.Contains(line, "Müller") || !strings.Contains(line, "✓") {
		t.Errorf("%.300q", line)
	}
	var e Event
	if err := json.Unmarshal(content, &e); err != nil || e.Result.Domain.Name != name {
		t.Errorf("%q, %v", e.Result.Domain.Name, err)
	}
}

func TestAFullDiskIsSaidAndLosesNoOtherLine(t *testing.T) {
	root := t.TempDir()
	out, err := command(t, root, "RECORD_TEST_LINES=3", "RECORD_TEST_FSIZE=8000").CombinedOutput() // room for one and a bit
	if err != nil || strings.Count(string(out), "the decision stands") != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if err := writeEvent(t, root, "later"); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for line := range bytes.Lines(content) {
		if json.Valid(line) {
			whole++
		}
	}
	if whole != 2 {
		t.Errorf("%d whole lines, not 2", whole)
	}
}

func TestWhatCannotBeWrittenToIsAnErrorAndNoWait(t *testing.T) {
	tests := []struct {
		name, why string
		prepare   func(path string) error
	}{
		{"a FIFO", "nobody reads it", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
		{"a link", "it may lead anywhere", func(path string) error { return os.Symlink("/dev/null", path) }},
		{"a folder", "", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a file in the folder's place", "", func(path string) error {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Dir(path), nil, 0o600)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, File)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.prepare(path); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err := Recorder{Root: root}.Write(ctx, event("a"))
			if err == nil || !strings.Contains(err.Error(), "the decision stands") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestARootThatIsMissingIsNotMade(t *testing.T) {
	root := filepath.Join(t.TempDir(), "misspelt")
	if err := writeEvent(t, root, "a"); err == nil || !strings.Contains(err.Error(), "no such file or directory") {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(root); err == nil {
		t.Error("it is there now: the next stop would be decided by a host that protects nothing")
	}
}

func TestALogOfTenGigabytesCostsNothing(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, File)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 10<<30); err != nil { // sparse
		t.Fatal(err)
	}
	if err := writeEvent(t, root, "a"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestAWriterThatHoldsTheLockHoldsNobodyUp(t *testing.T) {
	root := t.TempDir()
	if err := writeEvent(t, root, "first"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(root, File))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := writeEvent(t, root, "second"); err != nil {
		t.Fatal(err)
	}
	if found := names(t, root); found["second"] != 1 {
		t.Errorf("%v", found)
	}
}

// listenAsJournal has a datagram socket of this test's stand in for the journal's.
func listenAsJournal(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: journalPath, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		os.Remove(journalPath)
	})
	return conn
}

func TestTheJournalHearsOfADecision(t *testing.T) {
	conn := listenAsJournal(t)
	e := event("pg\x1b[31m")
	if err := sendToJournal(e); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64<<10)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	got := string(buffer[:n])
	for _, want := range []string{"MESSAGE=veto: \"pg\\x1b[31m\": m (rule r)\n", "PRIORITY=5\n", "SYSLOG_IDENTIFIER=stopguard\n", "STOPGUARD_OUTCOME=veto\n", "STOPGUARD_DECISION_ID=" + e.DecisionID + "\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestAJournalThatTakesNothingKeepsNoLineFromTheFile(t *testing.T) {
	listenAsJournal(t)
	for full := false; !full; { // one sender alone may not fill it
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: journalPath, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for n := 0; ; n++ {
			if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("PRIORITY=6\n")); errors.Is(err, os.ErrDeadlineExceeded) {
				full = n == 0
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	var (
		root   string
		ctx    context.Context
		cancel context.CancelFunc
		err    error
	)
	// The line is seen before the file is synced. A busy disk needs longer for that.
	for wait := time.Millisecond; wait < time.Minute; wait *= 4 {
		ctx, cancel = context.WithCancel(context.Background())
		defer cancel()
		root = t.TempDir()
		wrote := make(chan error, 1)
		go func() { wrote <- Recorder{Root: root}.Write(ctx, event("a")) }()
		for began, content := time.Now(), []byte(nil); !bytes.HasSuffix(content, []byte("}\n")); content, _ = os.ReadFile(filepath.Join(root, File)) {
			if time.Since(began) > time.Minute {
				t.Fatal("the file has no line")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(wait)
		cancel()
		if err = <-wrote; err == nil || !strings.Contains(err.Error(), "could not be written in time") {
			break
		}
	}
	if err == nil || err.Error() != "record: the journal did not take it in time; look at systemd-journald" {
		t.Fatal(err)
	}
	if !errors.As(err, new(*JournalError)) {
		t.Error("it is not said that the file has the line")
	}
	err = Recorder{Root: filepath.Join(root, "missing")}.Write(ctx, event("a"))
	if err == nil || errors.As(err, new(*JournalError)) {
		t.Errorf("%v: it is said that the file has the line", err)
	}
}

// What reads OPA's decision logs reads ours: their fields have OPA's names.
func TestAnEventHasTheFieldsOfOPAsDecisionLogs(t *testing.T) {
	e := event("a")
	e.DecisionID, e.Input, e.Erased = "id", map[string]any{"version": 1}, []string{"/input/xml"}
	e.Metrics = map[string]int64{"timer_stopguard_decide_ns": 5}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"labels":{"host":"kvm-07"},"decision_id":"id","bundles":{"site":{"revision":"r7"}},"path":"stopguard/decision","input":{"version":1},` +
		`"result":{"outcome":"veto","domain":{"name":"a","uuid":"16e14a01-2b11-40de-a128-75e3f4a5fe12"},"reasons":[{"rule":"r","message":"m"}],"monitored":[]},` +
		`"erased":["/input/xml"],"timestamp":"2026-11-22T12:00:00Z","metrics":{"timer_stopguard_decide_ns":5}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}
