package stopguard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
	"github.com/stopguard/stopguard/policy/ticket"
)

// events reads what a host has recorded.
func events(t *testing.T, root string) []record.Event {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, record.File))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []record.Event
	for line := range bytes.Lines(content) {
		var e record.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %.200s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// last is the newest of exactly n events.
func last(t *testing.T, root string, n int) record.Event {
	t.Helper()
	all := events(t, root)
	if len(all) != n {
		t.Fatalf("%d records, not %d", len(all), n)
	}
	return all[n-1]
}

func release(t *testing.T, root, reason string) answer {
	t.Helper()
	return ask(t, root, bytes.NewReader(read(t, "testdata/captures/pg-primary-01/release/stdin.xml")), pgPrimary, "release", "end", reason)
}

func TestPromise7_every_decision_is_recorded(t *testing.T) {
	t.Run("a veto", func(t *testing.T) {
		root := testhost.Root(t, rulePath, siteHead+`veto contains {"message": "freeze", "until": "2027-01-04"}`)
		pid := guest(t, pgUUID).Process.Pid
		pidFile(t, root, pid)
		askStop(t, root, pgPrimary, capture)
		e := last(t, root, 1)
		if e.Result.Outcome != record.Veto || len(e.Result.Reasons) != 2 || e.Result.Reasons[1].Rule != "site" || e.Result.Reasons[1].Until.IsZero() {
			t.Errorf("%+v", e.Result)
		}
		if e.Result.Domain.UUID != pgUUID || e.Result.Domain.PID != pid || e.Result.Domain.Start == 0 {
			t.Errorf("%+v", e.Result.Domain)
		}
		if len(e.Bundles["site"].Revision) != 64 || e.Labels["host"] == "" || e.DecisionID == "" || !e.Timestamp.Equal(noon) || e.Metrics["timer_stopguard_decide_ns"] <= 0 {
			t.Errorf("%+v", e)
		}
		input, err := json.Marshal(e.Input)
		if err != nil || !strings.Contains(string(input), `"pg-primary-01-d0`) && !strings.Contains(string(input), `pg-primary-01-d0.qcow2`) || strings.Contains(string(input), "billing-prod") {
			t.Errorf("%v: %s", err, input)
		}
	})
	t.Run("an allow", func(t *testing.T) {
		root := testhost.Root(t)
		askStop(t, root, "web-01", "testdata/captures/web-01/stop/stdin.xml")
		if e := last(t, root, 1); e.Result.Outcome != record.Allow || len(e.Result.Reports) > 0 {
			t.Errorf("%+v", e.Result)
		}
	})
	t.Run("a moot stop", func(t *testing.T) {
		root := testhost.Root(t)
		testhost.Daemon(t, root)
		mkdir(t, root, "run/libvirt/qemu")
		askStop(t, root, pgPrimary, capture)
		if e := last(t, root, 1); e.Result.Outcome != record.Moot || e.Result.Detail != "there is no pid file" || e.Result.Domain.Name != pgPrimary {
			t.Errorf("%+v", e.Result)
		}
	})
	t.Run("a fault", func(t *testing.T) {
		root := testhost.Root(t, rulePath, "package")
		askStop(t, root, pgPrimary, capture)
		if e := last(t, root, 1); e.Result.Outcome != record.Fault || !strings.Contains(e.Result.Detail, "site.rego:1") || e.Result.Domain.UUID != pgUUID {
			t.Errorf("%+v", e.Result)
		}
	})
	t.Run("a late evaluation", func(t *testing.T) {
		// The record has what is left of the time. On a busy machine that is not enough, and the
		// answer says so.
		for range 10 {
			root := testhost.Root(t, rulePath, siteHead+endless)
			got := askUntil(hookTime(t), stopguard.Config{Root: root}, bytes.NewReader(read(t, capture)), stopArgs(pgPrimary)...)
			if len(events(t, root)) == 0 {
				if !strings.Contains(got.Line, "not recorded") && !strings.Contains(got.Line, "no decision within") {
					t.Errorf("it is not recorded, and does not say so: %+v", got)
				}
				continue
			}
			if e := last(t, root, 1); e.Result.Outcome != record.Fault || !strings.Contains(e.Result.Detail, "too long") {
				t.Errorf("%+v", e.Result)
			}
			return
		}
		t.Error("none of ten was recorded")
	})
	t.Run("a ticket", func(t *testing.T) {
		root := testhost.Root(t)
		grant(t, root, ticket.Ticket{Name: "pg-*"})
		if got := askNow(t, root, pgPrimary, capture); got != (answer{}) {
			t.Fatalf("%+v", got)
		}
		e := last(t, root, 1)
		if e.Result.Outcome != record.Allow || e.Result.Ticket == nil || e.Result.Ticket.Requester != "alice" || len(e.Result.Reasons) != 1 {
			t.Errorf("%+v", e.Result)
		}
	})
	t.Run("a monitored rule", func(t *testing.T) {
		root := testhost.Root(t, "etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n")
		if got := askStop(t, root, pgPrimary, capture); got != (answer{}) {
			t.Fatalf("%+v", got)
		}
		if e := last(t, root, 1); e.Result.Outcome != record.Allow || len(e.Result.Monitored) != 1 || len(e.Result.Reasons) != 0 {
			t.Errorf("%+v", e.Result)
		}
	})
	t.Run("a mark that never lapses, as people write it", func(t *testing.T) {
		root := testhost.Root(t)
		xml := strings.Replace(string(read(t, capture)), "2099-06-30T00:00:00Z", "9999-12-31", 1)
		got := ask(t, root, strings.NewReader(xml), stopArgs(pgPrimary)...)
		if got.Exit != hookproto.ExitVeto || strings.Contains(got.Line, "not recorded") {
			t.Errorf("%+v", got)
		}
		last(t, root, 1)
		ask(t, root, strings.NewReader(xml), pgPrimary, "release", "end", "crashed")
		if e := last(t, root, 2); e.Result.Outcome != record.Escape {
			t.Errorf("%+v", e.Result)
		}
	})
	t.Run("what an owner wrote beyond all reading", func(t *testing.T) {
		root := testhost.Root(t)
		xml := strings.Replace(string(read(t, capture)), "<metadata>", "<metadata><s>SECRET&hunter2;</s>", 1)
		got := ask(t, root, strings.NewReader(xml), stopArgs(pgPrimary)...)
		content := string(read(t, filepath.Join(root, record.File)))
		if got.Exit != hookproto.ExitVeto || strings.Contains(got.Line+content, "hunter2") {
			t.Errorf("%+v %s", got, content)
		}
	})
	t.Run("no other operation", func(t *testing.T) {
		root := testhost.Root(t)
		for _, op := range hookproto.Operations() {
			if op.Op != hookproto.OpStop && op.Op != hookproto.OpRelease {
				ask(t, root, bytes.NewReader(read(t, capture)), pgPrimary, string(op.Op), op.SubOp, "-")
			}
		}
		if all := events(t, root); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
}

func TestARecorderThatFailsChangesNoDecision(t *testing.T) {
	tests := []struct {
		name, why string
		prepare   func(t *testing.T, root string)
	}{
		{"a FIFO", "it would wait for a reader", func(t *testing.T, root string) {
			if err := syscall.Mkfifo(filepath.Join(mkdir(t, root, "var/log/stopguard"), "decisions.jsonl"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file in the folder's place", "it cannot be made", func(t *testing.T, root string) { put(t, root, "var/log/stopguard", "", 0o600) }},
		{"a link", "it may lead anywhere", func(t *testing.T, root string) { link(t, root, "/dev/full", "var/log/stopguard/decisions.jsonl") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t)
			tt.prepare(t, root)
			if got := askStop(t, root, "web-01", "testdata/captures/web-01/stop/stdin.xml"); got != (answer{}) {
				t.Errorf("an allow: %+v", got)
			}
			got := askStop(t, root, pgPrimary, capture)
			clean(t, got.Line)
			if got.Exit != hookproto.ExitVeto || !strings.Contains(got.Line, "billing primary (rule protection_mark); not recorded: record: ") {
				t.Errorf("a veto: %+v", got)
			}
			put(t, root, rulePath, "package", 0o644)
			got = askStop(t, root, pgPrimary, capture)
			clean(t, got.Line)
			if got.Exit != hookproto.ExitFault || !strings.Contains(got.Line, "; not recorded: record: ") || !strings.HasSuffix(got.Line, "; to switch the guard off: chmod -x "+hookFile+"\n") {
				t.Errorf("a fault: %+v", got)
			}
		})
	}
}

func TestARecorderThatCrashesChangesNoDecision(t *testing.T) {
	c := stopguard.Config{Root: testhost.Root(t), Record: func(context.Context, record.Event) error { panic("no disk") }}
	if got := decided(t, c, stopguard.Request{Operation: "stop", Domain: domain(t, read(t, "testdata/captures/web-01/stop/stdin.xml"))}); got != (verdict{}) {
		t.Errorf("an allow: %+v", got)
	}
	want := verdict{Veto: markVeto + "; not recorded: recording crashed: no disk; report this as a bug"}
	if diff := cmp.Diff(want, decided(t, c, stopguard.Request{Operation: "stop", Domain: domain(t, read(t, capture))})); diff != "" {
		t.Error(diff)
	}
}

func TestALineSaysWhatItsRecordLacks(t *testing.T) {
	tests := []struct {
		name, why string
		failed    error
		want      string
	}{
		{"the file", "that is the record", errors.New("record: no disk"), "; not recorded: record: no disk"},
		{"the journal alone", "the file has the line", &record.JournalError{Err: errors.New("record: no journal")}, "; not in the journal: record: no journal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t)
			c := stopguard.Config{Root: root, Record: func(context.Context, record.Event) error { return tt.failed }}
			request := stopguard.Request{Operation: "stop", Domain: domain(t, read(t, capture))}
			if diff := cmp.Diff(verdict{Veto: markVeto + tt.want}, decided(t, c, request)); diff != "" {
				t.Errorf("a veto (%s): %s", tt.why, diff)
			}
			put(t, root, rulePath, "package", 0o644)
			if got := decided(t, c, request); !strings.HasSuffix(got.Fault, tt.want) {
				t.Errorf("a fault (%s): %+v", tt.why, got)
			}
		})
	}
}

// The input is made in a goroutine of its own, where a panic would end a gate or an agent with all
// that it serves.
func TestAnInputThatCrashesTheEngineIsLeftOutOfTheRecord(t *testing.T) {
	root := testhost.Root(t)
	c := stopguard.Config{Root: root, Engine: func(context.Context) (*policy.Engine, error) { return new(policy.Engine), nil }}
	if got := decided(t, c, stopguard.Request{Operation: "stop", Domain: domain(t, read(t, capture))}); !strings.Contains(got.Fault, "panicked") {
		t.Errorf("%+v", got)
	}
	e := last(t, root, 1)
	if e.Result.Outcome != record.Fault || e.Input != nil || len(e.Result.Reports) != 1 || !strings.Contains(e.Result.Reports[0], "panicked") {
		t.Errorf("%+v", e)
	}
}

func TestAnEscapeIsRecordedWithWhyTheDomainWentDown(t *testing.T) {
	tests := []struct {
		name, why string
		prepare   func(t *testing.T, root string)
		reason    string
		want      []string // outcome and detail; nothing without a record
	}{
		{"a crash", "nobody can veto it", nil, "crashed", []string{record.Escape, "its guest or its process crashed"}},
		{"the guest's own shutdown", "likewise", nil, "shutdown", []string{record.Escape, "its guest shut down"}},
		{"a managed save", "no hook is asked", nil, "saved", []string{record.Escape, "it was saved to a file"}},
		{"a destroy without asking", "an old libvirt", nil, "destroyed", []string{record.Escape, "it was destroyed without the guard being asked"}},
		{"a libvirt that does not say why", "before 10.5.0", nil, "-", []string{record.Escape, "libvirt did not say why; if it failed to start, it never ran"}},
		{"a word that we do not know", "a later libvirt", nil, "abducted", []string{record.Escape, "libvirt says: abducted"}},
		{"a migration", "it runs on elsewhere", nil, "migrated", []string{record.Allow, "it was migrated to another host"}},
		{"a start that failed", "it never ran", nil, "failed", nil},
		{"a stop in monitor mode", "nothing is enforced", func(t *testing.T, root string) {
			put(t, root, "etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n", 0o644)
		}, "destroyed", nil},
		{"a host that shuts down", "likewise", func(t *testing.T, root string) {
			put(t, root, "run/stopguard/shutting-down", "", 0o644)
		}, "destroyed", nil},
		{"a policy that is broken", "it cannot be told, and that is said", func(t *testing.T, root string) {
			put(t, root, rulePath, "package", 0o644)
		}, "crashed", []string{record.Fault, "whether the domain that went down was protected cannot be told: policy: /etc/stopguard/policy/site.rego:1: unexpected eof token behind \"package\"; correct the rule"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := testhost.Root(t)
			if tt.prepare != nil {
				tt.prepare(t, root)
			}
			if got := release(t, root, tt.reason); got != (answer{}) {
				t.Fatalf("%+v", got)
			}
			var got []string
			for _, e := range events(t, root) {
				got = append(got, e.Result.Outcome, e.Result.Detail)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnEndIsRecordedThoughTheXMLCannotBeRead(t *testing.T) {
	const untold = "whether the domain that went down was protected cannot be told: "
	head := "<domain type='kvm'><name>" + pgPrimary + "</name><uuid>" + pgUUID + "</uuid>"
	text := func(xml string) func() io.Reader {
		return func() io.Reader { return strings.NewReader(xml) }
	}
	tooLarge := func(head string) func() io.Reader {
		return func() io.Reader {
			return io.MultiReader(strings.NewReader(head+"<description>"), strings.NewReader(strings.Repeat("x", hookproto.MaxXML)), strings.NewReader("</description></domain>"))
		}
	}
	note := func(t *testing.T, root string) {
		put(t, root, "run/stopguard/allowed/"+pgUUID, fmt.Sprintf(`{"at": %d, "for": 300}`, noon.Unix()), 0o600)
	}
	for _, tt := range []struct {
		name, why string
		prepare   func(t *testing.T, root string)
		stdin     func() io.Reader
		reason    string
		outcome   string // "" without a record
		detail    string // its beginning
		uuid      string
	}{
		{"it does not parse", "the head names the domain", nil, text(head + "<metadata></domain>"), "crashed", record.Fault, untold + "domainxml: ", pgUUID},
		{"no XML of a domain", "the name is in the arguments", nil, text("<a/>"), "destroyed", record.Fault, untold + "domainxml: ", ""},
		{"an empty stdin", "likewise", nil, text(""), "destroyed", record.Fault, untold + "the domain XML on stdin is empty; ", ""},
		{"a stdin that breaks off", "likewise", nil, func() io.Reader {
			return io.MultiReader(strings.NewReader(head), iotest.ErrReader(errors.New("broken pipe")))
		}, "destroyed", record.Fault, untold + "reading the domain XML from stdin: broken pipe; ", ""},
		{"it does not parse, with the head of another domain", "that UUID is not this domain's", nil, text("<domain type='kvm'><name>x</name><uuid>" + pgUUID + "</uuid><metadata></domain>"), "crashed", record.Fault, untold + "domainxml: ", ""},
		{"it does not parse, and the start failed", "it never ran", nil, text(head + "<metadata></domain>"), "failed", "", "", ""},
		{"it does not parse, and its end was allowed", "it is no escape", note, text(head + "<metadata></domain>"), "destroyed", "", "", ""},
		{"too large", "a stop of it would have been refused", nil, tooLarge(head), "crashed", record.Escape, "its guest or its process crashed", pgUUID},
		{"too large, and migrated", "it runs on elsewhere", nil, tooLarge(head), "migrated", record.Allow, "it was migrated to another host", pgUUID},
		{"too large, in monitor mode", "a stop of it would be refused too", func(t *testing.T, root string) {
			put(t, root, "etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n", 0o644)
		}, tooLarge(head), "crashed", record.Escape, "its guest or its process crashed", pgUUID},
		{"too large, and its end was allowed", "it is no escape", note, tooLarge(head), "destroyed", "", "", ""},
		{"too large, without a head", "nothing but the name is known", nil, tooLarge("<domain type='kvm'>"), "crashed", record.Fault, untold + "domainxml: ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if isRaced && strings.HasPrefix(tt.name, "too large") {
				t.Skip("the race detector makes reading 64 MiB take longer than a hook has")
			}
			var all []record.Event
			// A busy machine may need longer than a hook has to read it, or to write the record.
			for began := time.Now(); time.Since(began) < 2*time.Minute; {
				root := testhost.Root(t)
				if tt.prepare != nil {
					tt.prepare(t, root)
				}
				if got := ask(t, root, tt.stdin(), pgPrimary, "release", "end", tt.reason); got != (answer{}) {
					t.Fatalf("a release cannot be refused: %+v", got)
				}
				all = events(t, root)
				isLate := len(all) == 0 && tt.outcome != "" || len(all) == 1 && strings.Contains(all[0].Result.Detail, " in time")
				if !isLate {
					break
				}
			}
			if tt.outcome == "" {
				if len(all) > 0 {
					t.Errorf("%+v is recorded although %s", all[0].Result, tt.why)
				}
				return
			}
			if len(all) != 1 {
				t.Fatalf("%d records, not 1", len(all))
			}
			got := all[0].Result
			if got.Outcome != tt.outcome || !strings.HasPrefix(got.Detail, tt.detail) || got.Domain.Name != pgPrimary || got.Domain.UUID != tt.uuid {
				t.Errorf("%+v, want %s with %q and the UUID %q because %s", got, tt.outcome, tt.detail, tt.uuid, tt.why)
			}
		})
	}
}

// libvirt 12.8.0 calls the hook so (qemuProcessFakeRebootViaRecreate): it was read in its program,
// for the guest takes a processor of Intel's.
func TestARebootOfATDXGuestIsNoEscape(t *testing.T) {
	for kind, want := range map[string]string{"tdx": record.Allow, "sev": record.Escape} {
		t.Run(kind, func(t *testing.T) {
			root := testhost.Root(t)
			xml := strings.Replace(string(read(t, "testdata/captures/pg-primary-01/release/stdin.xml")), "</domain>", "<launchSecurity type='"+kind+"'/></domain>", 1)
			if got := ask(t, root, strings.NewReader(xml), pgPrimary, "release", "end", "destroyed"); got != (answer{}) {
				t.Fatalf("%+v", got)
			}
			if e := last(t, root, 1); e.Result.Outcome != want {
				t.Errorf("%+v", e.Result)
			}
		})
	}
}

func TestAStopThatWasAllowedIsNoEscape(t *testing.T) {
	root := testhost.Root(t)
	grant(t, root, ticket.Ticket{Domain: pgUUID})
	if got := askNow(t, root, pgPrimary, capture); got != (answer{}) {
		t.Fatalf("%+v", got)
	}
	stdin := func() *bytes.Reader {
		return bytes.NewReader(read(t, "testdata/captures/pg-primary-01/release/stdin.xml"))
	}
	hook(t, root, stdin(), pgPrimary, "release", "end", "destroyed")
	if e := last(t, root, 1); e.Result.Outcome != record.Allow {
		t.Errorf("%+v", e.Result)
	}
	// It was let go once: if it is started again and crashes, that is another matter.
	hook(t, root, stdin(), pgPrimary, "release", "end", "crashed")
	if e := last(t, root, 2); e.Result.Outcome != record.Escape {
		t.Errorf("%+v", e.Result)
	}
}

// A stop that was allowed may have failed, and the domain gone on. What ends it much later is
// looked at anew.
func TestWhatWasAllowedLongAgoMayBeAnEscape(t *testing.T) {
	root := testhost.Root(t, "etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n")
	if got := askStop(t, root, pgPrimary, capture); got != (answer{}) {
		t.Fatalf("%+v", got)
	}
	if err := os.Remove(filepath.Join(root, "etc/stopguard/policy/data.yaml")); err != nil {
		t.Fatal(err)
	}
	hook(t, root, bytes.NewReader(read(t, "testdata/captures/pg-primary-01/release/stdin.xml")), pgPrimary, "release", "end", "crashed") // by the real clock
	if e := last(t, root, 2); e.Result.Outcome != record.Escape {
		t.Errorf("%+v", e.Result)
	}
}

// The README's first command names the sample host by a relative path.
func TestNothingIsWrittenOutsideARelativeRoot(t *testing.T) {
	parent := t.TempDir()
	host := fmt.Sprintf("stopguard-test-%d", os.Getpid())
	if err := os.CopyFS(filepath.Join(parent, host, "etc"), os.DirFS("cmd/stopguard-hook/testdata/host/etc")); err != nil {
		t.Fatal(err)
	}
	xml := read(t, "testdata/captures/web-01/stop/stdin.xml")
	t.Chdir(parent)
	if got := ask(t, host, bytes.NewReader(xml), stopArgs("web-01")...); got != (answer{}) {
		t.Fatalf("%+v", got)
	}
	last(t, host, 1)
	if _, err := os.Stat(filepath.Join(host, "run/stopguard/allowed/16e14a01-2b11-40de-a128-75e3f4a5fe12")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat("/" + host); !os.IsNotExist(err) {
		t.Errorf("/%s: %v", host, err)
	}
}
