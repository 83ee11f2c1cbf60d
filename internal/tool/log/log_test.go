package log

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy/record"
)

func TestLog(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := newStage(t)
	veto := tooltest.Event("pg\x1b[2J", tooltest.UUID1, record.Veto, noon.Add(time.Hour))
	allow := tooltest.Event("web", tooltest.UUID2, record.Allow, noon.Add(2*time.Hour))
	allow.Result.Ticket = &record.Ticket{ID: "0123456789abcdef", Requester: "ann", Reason: "disk swap"}
	allow.Result.Request = &record.Request{Operation: "reset", Procedure: "DOMAIN_RESET", UID: 1000, User: "alice"}
	pretending := tooltest.Event("pg: stop by alice: ticket 0123456789abcdef of ann", "", record.Allow, noon.Add(4*time.Hour))
	pretending.Result.Request = &record.Request{Operation: "stop", UID: 1000, User: "mallory"}
	s.Put(record.File+".1", tooltest.LineOf(t, tooltest.Event("old", tooltest.UUID3, record.Escape, noon))+"\xff{torn\n")
	s.Put(record.File, tooltest.LineOf(t, veto)+`{"labels":{"host":"h`+"\n\n"+tooltest.LineOf(t, allow)+tooltest.LineOf(t, tooltest.Event("last", tooltest.UUID3, record.Moot, noon.Add(3*time.Hour)))+strings.TrimSuffix(tooltest.LineOf(t, pretending), "\n"))

	const (
		old  = "2026-11-22T12:00:00Z  escape  old: its guest shut down\n"
		pg   = "2026-11-22T13:00:00Z  veto    \"pg\\x1b[2J\": protected: billing (rule protection_mark): frozen (rule calendar, monitored)\n"
		web  = "2026-11-22T14:00:00Z  allow   web: reset by alice (DOMAIN_RESET): ticket 0123456789abcdef of ann: disk swap\n"
		last = "2026-11-22T15:00:00Z  moot    last\n"
		name = "2026-11-22T16:00:00Z  allow   \"pg: stop by alice: ticket 0123456789abcdef of ann\": stop by mallory\n"
	)
	torn := "stopguard: 2 lines of " + filepath.Join(s.Root, record.File) + " are torn or no records, and were passed over\n"
	for name, tt := range map[string]struct {
		args   []string
		stdout string
		why    string
	}{
		"all":        {nil, old + pg + web + last + name, "the older file first"},
		"since":      {[]string{"--since", "2026-11-22T13:30:00Z"}, web + last + name, "a time"},
		"since_day":  {[]string{"--since", "2026-11-23"}, "", "a day's beginning"},
		"by_outcome": {[]string{"--outcome", "veto"}, pg, "one outcome"},
		"by_name":    {[]string{"--domain", "web"}, web, "a name"},
		"by_UUID":    {[]string{"--domain", strings.ToUpper(tooltest.UUID3)}, old + last, "a UUID, however it is written"},
	} {
		t.Run(name, func(t *testing.T) {
			tooltest.Want(t, s.Tool(append([]string{"log"}, tt.args...)...), 0, tt.stdout, torn)
		})
	}
	got := s.Tool("log", "-o", "json", "--domain", tooltest.UUID1).Is(t, 0)
	if e := tooltest.Decode[record.Event](t, got.Stdout); e.Result.Domain.Name != "pg\x1b[2J" || e.DecisionID != veto.DecisionID {
		t.Errorf("JSON: %+v", e)
	}
	for _, args := range [][]string{{"--outcome", "deny"}, {"--since", "soon"}, {"-o", "xml"}, {"x"}} {
		s.Tool(append([]string{"log"}, args...)...).Is(t, 2)
	}
}

func TestLog_where_nothing_is_recorded(t *testing.T) {
	s := newStage(t)
	tooltest.Holds(t, "stderr", s.Tool("log").Is(t, 1).Stderr, "is not there: nothing has been recorded on this host")
}

// TestLog_follows has records written by the recorder itself, which sets a file aside that is too
// large.
func TestLog_follows(t *testing.T) {
	s := newStage(t)
	var out, stderr testhost.Buffer
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan int, 1)
	go func() { done <- s.RunTool(ctx, []string{"log", "--follow"}, strings.NewReader(""), &out, &stderr) }()
	wait := func(part string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), part); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no %q in:\n%s%s", part, out.String(), stderr.String())
			}
		}
	}
	write := func(name string, max int64) {
		t.Helper()
		if err := (record.Recorder{Root: s.Root, MaxBytes: max}).Write(ctx, tooltest.Event(name, tooltest.UUID1, record.Allow, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	write("before", 0)
	wait("before")
	write("after", 0)
	wait("after")
	write("rotated", 1)
	wait("rotated")
	// Half a record is waited for.
	whole := tooltest.LineOf(t, tooltest.Event("torn", tooltest.UUID1, record.Allow, time.Now()))
	for i, part := range []string{whole[:50], whole[50:]} {
		f, err := os.OpenFile(filepath.Join(s.Root, record.File), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(part); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if i == 0 {
			time.Sleep(2 * followEach)
		}
	}
	wait("torn")
	write("cut", 0)
	wait("cut")
	stop()
	if code := <-done; code != 0 || stderr.String() != "" {
		t.Errorf("exit %d, %s", code, stderr.String())
	}
	for _, name := range []string{"before", "after", "rotated", "torn", "cut"} {
		if n := strings.Count(out.String(), "  "+name+"\n"); n != 1 {
			t.Errorf("%s is shown %d times", name, n)
		}
	}
}
