package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/candidate"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

// keepsMetadata is a mask that leaves the fields that protection_mark reads in a record.
const keepsMetadata = "package system.log\n\nmask contains \"/input/domain/description\"\n"

// recordStop has the hook itself decide about a domain, and record that.
func recordStop(s *tooltest.Stage, at time.Time, name, uuid, metadata string) {
	s.T.Helper()
	handler := stopguard.Handler(stopguard.Config{Root: s.Root, Now: func() time.Time { return at }})
	xml := tooltest.DomainXML(name, uuid, metadata)
	hookproto.Run(context.Background(), []string{"hook", name, "stop", "begin", "-"}, strings.NewReader(xml), io.Discard, handler)
}

func recordPath(s *tooltest.Stage) string { return filepath.Join(s.Root, record.File) }

var (
	sunday = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	monday = sunday.AddDate(0, 0, 1)
)

// mondays is a rule by which the time matters.
const mondays = `package stopguard.rules.mondays

veto contains "not on a Monday" if time.weekday(time.parse_rfc3339_ns(input.time)) == "Monday"
`

// recordedStage writes the records of a host: a listed domain, a marked one, and an unprotected
// one, on two days each.
func recordedStage(t *testing.T, files ...string) *tooltest.Stage {
	s := newStage(t, append([]string{"etc/libvirt/protected-domains", "listed\n"}, files...)...)
	if err := os.RemoveAll(filepath.Join(s.Root, "run")); err != nil { // removes all state of processes
		t.Fatal(err)
	}
	for _, at := range []time.Time{sunday, monday} {
		recordStop(s, at, "listed", tooltest.UUID1, "")
		recordStop(s, at, "marked", tooltest.UUID2, tooltest.FarMark)
		recordStop(s, at, "free", tooltest.UUID3, "")
	}
	return s
}

func TestReplaySaysWhatACandidateWouldHaveDecidedOtherwise(t *testing.T) {
	mask := []string{"etc/stopguard/policy/mask.rego", keepsMetadata}
	for _, tt := range []struct {
		why       string
		files     []string
		candidate []string
		code      int
		says      []string
	}{
		{"the policy that decided", mask, mask, 0, []string{"6 records: 6 the same"}},
		{"the time is the record's", mask, append(mask[:2:2], "p/mondays.rego", mondays), 1,
			[]string{"newly vetoed 1 mondays free not on a Monday", "other reason 1 mondays listed",
				"6 records: 3 the same, 1 newly vetoed, 2 other reason"}},
		{"monitor of the candidate applies", mask, append(mask[:2:2], "p/data.yaml", "site:\n monitor: [protected_list]\n"), 1,
			[]string{"newly allowed 2 protected_list listed", "4 the same, 2 newly allowed"}},
		{"cluster_managed applies, by name and by UUID", mask, append(mask[:2:2], "p/data.yaml", "site:\n cluster_managed: [marked, "+tooltest.UUID1+"]\n"), 1,
			[]string{"newly allowed 2 protection_mark marked", "newly allowed 2 protected_list listed"}},
		{"a default record does not hold the metadata", nil, nil, 3,
			[]string{"cannot be replayed, 6 of the records: rule protection_mark: the record lacks or masks input.domain.metadata, input.domain.metadata_error", "6 that cannot be replayed or only in part"}},
		{"what cannot be replayed does not hide what differs", nil, []string{"p/mondays.rego", mondays}, 1,
			[]string{"newly vetoed 1 mondays free", "rule protection_mark", "1 newly vetoed, 2 other reason, 6 that cannot"}},
		{"a rule that fails vetoes, as in the hook", mask, append(mask[:2:2], "p/fails.rego", "package stopguard.rules.fails\n\nveto contains \"x\" if to_number(input.domain.name) == 1\n"), 1,
			[]string{"newly vetoed 2 fails free rule failed:"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			s := recordedStage(t, tt.files...)
			folder := t.TempDir()
			for i := 0; i < len(tt.candidate); i += 2 {
				if err := os.WriteFile(filepath.Join(folder, filepath.Base(tt.candidate[i])), []byte(tt.candidate[i+1]), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got := s.Tool("replay", "--policy", folder, recordPath(s)).Is(t, tt.code)
			tooltest.Holds(t, "stdout", terminal.OneLine(got.Stdout), tt.says...)
			if got.Stderr != "" {
				t.Error(got.Stderr)
			}
		})
	}
}

func TestReplayTellsOperationsApart(t *testing.T) {
	s := recordedStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	decide := stopguard.Decide(stopguard.Config{Root: s.Root, Now: func() time.Time { return monday }})
	domain, err := domainxml.Parse([]byte(tooltest.DomainXML("free", tooltest.UUID3, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{policy.OperationModify, policy.OperationReset, policy.OperationReset} {
		if err := decide(t.Context(), stopguard.Request{Operation: operation, Domain: domain}); err != nil {
			t.Fatal(err)
		}
	}
	candidate := filepath.Dir(s.Put("p/mondays.rego", mondays))
	s.Put("p/mask.rego", keepsMetadata)
	got := s.Tool("replay", "--policy", candidate, recordPath(s)).Is(t, 1)
	tooltest.Holds(t, "stdout", terminal.OneLine(got.Stdout), "CHANGE TIMES RULE DOMAIN REASON "+
		"newly vetoed 1 mondays free not on a Monday newly vetoed 2 reset mondays free not on a Monday newly vetoed 1 modify mondays free not on a Monday other",
		"9 records: 3 the same, 4 newly vetoed, 2 other reason")
}

// A host has records that an older version wrote.
func TestReplayKnowsTheFormerNameOfAnOperation(t *testing.T) {
	const frozen = "package stopguard.rules.frozen\n\nveto contains \"frozen\" if input.operation == \"modify\"\n"
	s := newStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	decide := stopguard.Decide(stopguard.Config{Root: s.Root, Now: func() time.Time { return monday }})
	domain, err := domainxml.Parse([]byte(tooltest.DomainXML("free", tooltest.UUID3, "")))
	if err != nil {
		t.Fatal(err)
	}
	if err := decide(t.Context(), stopguard.Request{Operation: policy.OperationModify, Domain: domain}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		t.Fatal(err)
	}
	former := bytes.ReplaceAll(content, []byte(`"operation":"modify"`), []byte(`"operation":"tamper"`))
	if n := bytes.Count(former, []byte(`"operation":"tamper"`)); n != 2 {
		t.Fatalf("the record has the operation %d times: %s", n, content)
	}
	if err := os.WriteFile(recordPath(s), former, 0o600); err != nil {
		t.Fatal(err)
	}
	candidate := filepath.Dir(s.Put("p/frozen.rego", frozen))
	s.Put("p/mask.rego", keepsMetadata)
	got := s.Tool("replay", "--policy", candidate, recordPath(s)).Is(t, 1)
	tooltest.Holds(t, "stdout", terminal.OneLine(got.Stdout), "newly vetoed 1 tamper frozen free frozen", "1 record: 0 the same, 1 newly vetoed")
}

// A record of the former name says by its procedure which of the two operations it is about: taking
// a plain mark off passed, and still does, though a delete would not.
func TestReplayTellsTheOperationOfAFormerNameByItsProcedure(t *testing.T) {
	for procedure, says := range map[string]string{
		"DOMAIN_SET_METADATA": "1 record: 1 the same",
		"DOMAIN_UNDEFINE":     "1 record: 0 the same, 1 newly vetoed",
		"DOMAIN_CREATE_XML":   "1 record: 0 the same, 1 newly vetoed",
		"":                    "1 record: 0 the same, 1 newly vetoed",
	} {
		s := newStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
		decide := stopguard.Decide(stopguard.Config{Root: s.Root, Now: func() time.Time { return monday }})
		domain, err := domainxml.Parse([]byte(tooltest.DomainXML("listed", tooltest.UUID3, "")))
		if err == nil {
			err = decide(t.Context(), stopguard.Request{Operation: policy.OperationModify, Procedure: procedure, Domain: domain})
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(recordPath(s))
		if err != nil {
			t.Fatal(err)
		}
		// The record is as the older version wrote it, and the domain was on the list.
		former := strings.NewReplacer(`"operation":"modify"`, `"operation":"tamper"`, `"listed":[]`, `"listed":["listed"]`).Replace(string(content))
		if err := os.WriteFile(recordPath(s), []byte(former), 0o600); err != nil {
			t.Fatal(err)
		}
		got := s.Tool("replay", "--policy", filepath.Join(s.Root, hostpath.Policy), recordPath(s))
		tooltest.Holds(t, procedure, terminal.OneLine(got.Stdout), says)
	}
}

func TestReplayCountsWhatIsNoDecisionApart(t *testing.T) {
	s := recordedStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	for _, outcome := range []string{record.Moot, record.Fault, record.Escape} {
		appendRecord(s, tooltest.LineOf(t, tooltest.Event("gone", tooltest.UUID3, outcome, sunday)))
	}
	got := s.Tool("replay", "--policy", filepath.Join(s.Root, hostpath.Policy), "-o", "json", recordPath(s)).Is(t, 0)
	r := tooltest.Decode[replay](t, got.Stdout)
	if r.Records != 9 || r.Same != 6 || r.NotDecisions["moot"] != 1 || r.NotDecisions["fault"] != 1 || r.NotDecisions["escape"] != 1 {
		t.Errorf("%+v", r)
	}
	appendRecord(s, "{\"torn\": \n")
	got = s.Tool("replay", "--policy", filepath.Join(s.Root, hostpath.Policy), recordPath(s)).Is(t, 3)
	tooltest.Holds(t, "stdout", terminal.OneLine(got.Stdout), "1 escape, which is no decision, and 1 lines that are torn or no records")
}

func appendRecord(s *tooltest.Stage, line string) {
	s.T.Helper()
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		s.T.Fatal(err)
	}
	s.Put(record.File, string(content)+line)
}

// A ticket changes the outcome of a stop and not the rules' decision.
func TestReplayLooksAtTheRulesAndNotAtTheTicket(t *testing.T) {
	s := recordedStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		t.Fatal(err)
	}
	lifted := strings.ReplaceAll(string(content), `"outcome":"veto"`, `"outcome":"allow","ticket":{"id":"a","requester":"b","reason":"c"}`)
	s.Put(record.File, lifted)
	s.Tool("replay", "--policy", filepath.Join(s.Root, hostpath.Policy), recordPath(s)).Is(t, 0)
	s.Put("etc/stopguard/policy/data.yaml", "site:\n  monitor: [\"*\"]\n")
	got := s.Tool("replay", "--policy", filepath.Join(s.Root, hostpath.Policy), recordPath(s)).Is(t, 1)
	tooltest.Holds(t, "stdout", got.Stdout, "4 newly allowed")
}

func TestReplayReadsWhatRecordsAreKeptIn(t *testing.T) {
	s := recordedStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(string(content)))
	array := "\n [" + strings.Join(lines, ",") + "]\n"
	candidate := filepath.Join(s.Root, hostpath.Policy)
	for _, tt := range []struct{ why, content string }{
		{"lines", string(content)},
		{"no newline at the end", strings.TrimSpace(string(content))},
		{"gzip", zipped(t, string(content))},
		{"two gzip streams in one file, as logrotate may leave", zipped(t, lines[0]) + zipped(t, strings.Join(lines[1:], ""))},
		{"an array", array},
		{"an array, as OPA uploads it", zipped(t, array)},
	} {
		t.Run(tt.why, func(t *testing.T) {
			file := s.Put("records", tt.content)
			got := s.Tool("replay", "--policy", candidate, file).Is(t, 0)
			if got.Stdout != "6 records: 6 the same\n" {
				t.Error(got.Stdout)
			}
			var stdout, stderr bytes.Buffer
			if code := s.RunTool(context.Background(), []string{"replay", "--policy", candidate, file, "-"}, strings.NewReader(tt.content), &stdout, &stderr); code != 0 || stdout.String() != "12 records: 12 the same\n" {
				t.Errorf("exit %d, %s%s", code, stdout.String(), stderr.String())
			}
		})
	}
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReplayDoesNotPassForTheSameWhatItCouldNotRead(t *testing.T) {
	s := recordedStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	candidate := filepath.Join(s.Root, hostpath.Policy)
	broken := s.Put("broken/x.rego", "package")
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		t.Fatal(err)
	}
	cut := zipped(t, string(content))
	for _, tt := range []struct {
		why  string
		args []string
		says string
	}{
		{"no candidate", []string{recordPath(s)}, "--policy"},
		{"no record", []string{"--policy", candidate}, "decisions.jsonl"},
		{"no such record", []string{"--policy", candidate, "nosuch"}, "no such file"},
		{"an empty record", []string{"--policy", candidate, s.Put("empty", "")}, "there is no record"},
		{"a candidate that does not load", []string{"--policy", filepath.Dir(broken), recordPath(s)}, "x.rego"},
		{"half of a gzip file", []string{"--policy", candidate, s.Put("half.gz", cut[:len(cut)/2])}, "half.gz"},
		{"half of an array", []string{"--policy", candidate, s.Put("half.json", "["+strings.Split(string(content), "\n")[0])}, "half.json"},
		{"an unknown output", []string{"--policy", candidate, "-o", "yaml", recordPath(s)}, "yaml"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got := s.Tool(append([]string{"replay"}, tt.args...)...).Is(t, 2)
			tooltest.Holds(t, "stderr", got.Stderr, tt.says)
			if got.Stdout != "" {
				t.Error(got.Stdout)
			}
		})
	}
	t.Run("a document of a version to come", func(t *testing.T) {
		s.Put(record.File, strings.ReplaceAll(string(content), `"version":1`, `"version":2`))
		got := s.Tool("replay", "--policy", candidate, recordPath(s)).Is(t, 3)
		tooltest.Holds(t, "stdout", got.Stdout, "version is 2", "6 that cannot be replayed")
	})
	t.Run("a record without an input", func(t *testing.T) {
		e := tooltest.Event("x", tooltest.UUID1, record.Veto, sunday)
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		s.Put(record.File, string(line)+"\n")
		got := s.Tool("replay", "--policy", candidate, recordPath(s)).Is(t, 3)
		tooltest.Holds(t, "stdout", got.Stdout, "lacks or masks input")
	})
}

// A candidate that cannot decide would refuse every stop.
func TestReplayShowsThatACandidateTakesTooLong(t *testing.T) {
	s := recordedStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	s.Put("slow/mask.rego", keepsMetadata)
	s.Put("slow/slow.rego", "package stopguard.rules.slow\n\nveto contains \"x\" if {\n\tsome a in numbers.range(1, 100000)\n\tsome b in numbers.range(1, 100000)\n\ta * b == 0\n}\n")
	engine, err := candidate.Engine(context.Background(), policy.Config{}, filepath.Join(s.Root, "slow"), "")
	if err != nil {
		t.Fatal(err)
	}
	p := newReplayer(engine)
	p.patience = 50 * time.Millisecond
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		p.play(context.Background(), line)
	}
	r := p.sum()
	if r.Differ[candidate.NewlyFault] != 6 || len(r.Changes) != 3 || r.exit() != exitDiffers {
		t.Errorf("%+v", r)
	}
	if c := r.Changes[0]; c.Rule != "" || c.Times != 2 || !strings.Contains(c.reason(), "too long") {
		t.Errorf("%+v", c)
	}
}

func BenchmarkReplay(b *testing.B) {
	b.Setenv("STOPGUARD_ROOT", b.TempDir())
	root := os.Getenv("STOPGUARD_ROOT")
	s := &tooltest.Stage{T: b, Root: root, Commands: commands}
	s.Put("etc/stopguard/policy/mask.rego", keepsMetadata)
	xml, err := os.ReadFile("../../../testdata/captures/pg-primary-01/stop/stdin.xml")
	if err != nil {
		b.Fatal(err)
	}
	handler := stopguard.Handler(stopguard.Config{Root: root})
	hookproto.Run(context.Background(), []string{"hook", "pg-primary-01", "stop", "begin", "-"}, bytes.NewReader(xml), io.Discard, handler)
	line, err := os.ReadFile(recordPath(s))
	if err != nil {
		b.Fatal(err)
	}
	const records = 1000
	file := s.Put("records", strings.Repeat(string(line), records))
	b.SetBytes(int64(len(line)) * records)
	for b.Loop() {
		var stdout, stderr bytes.Buffer
		if code := s.RunTool(context.Background(), []string{"replay", "--policy", filepath.Join(root, hostpath.Policy), file}, nil, &stdout, &stderr); code != 0 {
			b.Fatal(code, stdout.String(), stderr.String())
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

// The recorded answer of a rule written in Go is assumed to be its answer now: only the program
// that has the rule could evaluate it.
func TestReplayNamesTheRulesInGoThatItCannotAsk(t *testing.T) {
	s := newStage(t, "etc/stopguard/policy/mask.rego", keepsMetadata)
	candidate := filepath.Join(s.Root, hostpath.Policy)
	if err := os.RemoveAll(filepath.Join(s.Root, "run")); err != nil { // removes all state of processes
		t.Fatal(err)
	}
	recordStop(s, sunday, "free", tooltest.UUID1, "")
	content, err := os.ReadFile(recordPath(s))
	if err != nil {
		t.Fatal(err)
	}
	asked := strings.Replace(string(content), `"outcome":"allow"`, `"outcome":"allow","go_rules":["quorum"]`, 1)
	refused := strings.Replace(strings.Replace(string(content), `"outcome":"allow"`, `"outcome":"veto","go_rules":["quorum"]`, 1),
		`"reasons":[]`, `"reasons":[{"rule":"quorum","message":"2 of 3 nodes are down"}]`, 1)
	file := s.Put("records", string(content)+asked+refused)
	got := s.Tool("replay", "--policy", candidate, file).Is(t, 3)
	want := "cannot be replayed, 2 of the records: rule quorum: it is written in Go, and\n  not part of this program\n\n3 records: 1 the same, 2 that cannot be replayed or only in part\n"
	if got.Stdout != want {
		t.Error(got.Stdout)
	}
}
