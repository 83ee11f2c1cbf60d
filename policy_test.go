package stopguard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/hookproto/remote"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/hostpolicy"
)

// The whole product, end to end: what libvirt gives a hook goes in, an exit code and a line come
// out.

var update = flag.Bool("update", false, "write the golden files anew")

// isRaced is set if the race detector is built in.
var isRaced bool

// noon is when everything in these tests is asked.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const hookFile = "/etc/libvirt/hooks/qemu.d/50-stopguard"

func TestMain(m *testing.M) {
	testhost.InMemory()
	code := m.Run()
	hookProgram.Remove()
	os.Exit(code)
}

// An answer is what a hook gives libvirt.
type answer struct {
	Exit int
	Line string
}

// ask runs the hook in this process.
func ask(t *testing.T, root string, stdin io.Reader, args ...string) answer {
	t.Helper()
	return askConfigured(t, stopguard.Config{Root: root}, stdin, args...)
}

func askConfigured(t *testing.T, c stopguard.Config, stdin io.Reader, args ...string) answer {
	t.Helper()
	return askUntil(t.Context(), c, stdin, args...)
}

// askUntil asks until a context is over, at most for as long as a hook has.
func askUntil(ctx context.Context, c stopguard.Config, stdin io.Reader, args ...string) answer {
	c.Now = func() time.Time { return noon }
	handler := stopguard.Handler(c)
	var stderr bytes.Buffer
	exit := hookproto.Run(ctx, append([]string{hookFile}, args...), stdin, &stderr, handler)
	return answer{exit, stderr.String()}
}

// hookTime returns a context that is over when a hook's time is. In a short run that is earlier,
// for tests that use up all of it; TestPromise5_it_is_bounded has the real time.
func hookTime(t *testing.T) context.Context {
	t.Helper()
	if !testing.Short() {
		return t.Context()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// askStop asks for a stop of the domain that a file describes.
func askStop(t *testing.T, root, name, file string) answer {
	t.Helper()
	return ask(t, root, bytes.NewReader(read(t, file)), name, "stop", "begin", "-")
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// sampleHost is a copy of the example hook's host, for what the hook writes there.
func sampleHost(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "etc"), os.DirFS("cmd/stopguard-hook/testdata/host/etc")); err != nil {
		t.Fatal(err)
	}
	return root
}

// Each file of testdata/scenarios is one call of the hook. Its comment says why it is there. Files
// below host/ are the host's; argv holds an argument a line; stdin is the XML, or stdin-file the
// name of a file with it; fleet is the agent's answer about the fleet, in JSON. Without it, no
// agent runs. want is the exit code and stderr.
func TestScenario(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			s := readScenario(t, file)
			root := testhost.Root(t, s.host...)
			testhost.Daemon(t, root)
			got := askConfigured(t, stopguard.Config{Root: root, Fleet: s.fleet}, strings.NewReader(s.stdin), s.args...)
			text := fmt.Sprintf("exit %d\n%s", got.Exit, strings.ReplaceAll(got.Line, root, "ROOT"))
			if diff := cmp.Diff(s.want, text); diff != "" {
				if !*update {
					t.Fatal(diff)
				}
				rewrite(t, file, s.archive, text)
			}
		})
	}
}

type scenario struct {
	archive *txtar.Archive
	host    []string // pairs of path and content
	args    []string
	stdin   string
	fleet   func(context.Context, remote.FleetRequest) (remote.FleetAnswer, error) // nil without an agent
	want    string
}

func readScenario(t *testing.T, file string) scenario {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(archive.Comment)) == "" {
		t.Errorf("%s does not say why it is there", file)
	}
	s := scenario{archive: archive}
	for _, f := range archive.Files {
		text := string(f.Data)
		name, ofHost := strings.CutPrefix(f.Name, "host/")
		switch {
		case ofHost:
			s.host = append(s.host, name, text)
		case f.Name == "argv":
			s.args = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		case f.Name == "stdin":
			s.stdin = text
		case f.Name == "stdin-file":
			s.stdin = string(read(t, strings.TrimSpace(text)))
		case f.Name == "fleet":
			var answer remote.FleetAnswer
			if err := json.Unmarshal(f.Data, &answer); err != nil {
				t.Errorf("%s: fleet: %v", file, err)
			}
			s.fleet = func(_ context.Context, r remote.FleetRequest) (remote.FleetAnswer, error) {
				if r.Reserve != nil {
					return remote.FleetAnswer{Reserved: true}, nil
				}
				return answer, nil
			}
		case f.Name == "want":
			s.want = text
		default:
			t.Errorf("%s: nobody reads %s", file, f.Name)
		}
	}
	return s
}

func rewrite(t *testing.T, file string, archive *txtar.Archive, want string) {
	t.Helper()
	for i := range archive.Files {
		if archive.Files[i].Name == "want" {
			archive.Files[i].Data = []byte(want)
		}
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The golden corpus: every domain that we know of, decided by the sample host's list and rules. A
// change of a line is a change of what the product does, and belongs into the CHANGELOG.
func TestEveryDomainOfTheCorpusIsDecidedAsBefore(t *testing.T) {
	t.Parallel() // it mostly waits for the disk
	const golden = "testdata/decisions.golden"
	root := sampleHost(t)
	var got strings.Builder
	for _, file := range domainFiles(t) {
		domain, err := domainxml.Parse(read(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		a := askStop(t, root, domain.Name, file)
		fmt.Fprintf(&got, "%s: %d %s\n", file, a.Exit, strings.TrimSuffix(a.Line, "\n"))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(strings.Split(string(read(t, golden)), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}

// domainFiles are the captures of real daemons and the corpus, in order.
func domainFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, root := range []string{"domainxml/testdata/corpus", "testdata/captures"} {
		err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			inCaptures := strings.HasPrefix(name, "testdata/captures")
			if err == nil && strings.HasSuffix(name, ".xml") && (!inCaptures || strings.HasSuffix(name, "stdin.xml")) {
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 50 {
		t.Fatalf("only %d domains", len(files))
	}
	return files
}

// pathFiles are the domains that two paths are asked about: in a short run every third, since the
// paths do not differ in how they read a domain.
func pathFiles(t testing.TB) []string {
	t.Helper()
	files := domainFiles(t)
	if !testing.Short() {
		return files
	}
	var some []string
	for i := 0; i < len(files); i += 3 {
		some = append(some, files[i])
	}
	return some
}

// Whatever a scenario's reasons are: when they are only monitored, when the host shuts down, and
// when a cluster manages the domain, they are the same reasons, and nothing is refused.
func TestEveryScenarioHasTheSameReasonsWhenNothingIsEnforced(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	vetoes := 0
	for _, file := range files {
		s := readScenario(t, file)
		domain, err := domainxml.Parse([]byte(s.stdin))
		if err != nil || domain.Name != s.args[0] {
			continue
		}
		root := testhost.Root(t, s.host...)
		config, err := hostpolicy.Load(root)
		if err != nil {
			continue
		}
		enforced, err := decideWith(config, domain, false)
		if err != nil {
			continue
		}
		if enforced.Outcome == policy.Veto {
			vetoes++
		}
		monitored, err := decideWith(withSettings(config, `{"site": {"monitor": ["*"]}}`), domain, false)
		sameReasons(t, file+", monitored", enforced, monitored, "", err)
		shutting, err := decideWith(config, domain, true)
		sameReasons(t, file+", shutting down", enforced, shutting, policy.ShuttingDown, err)
		managed, err := decideWith(withSettings(config, `{"site": {"cluster_managed": ["*"]}}`), domain, false)
		sameReasons(t, file+", managed by a cluster", enforced, managed, policy.ClusterManaged, err)
	}
	if vetoes < 5 {
		t.Errorf("only %d scenarios veto: they show nothing", vetoes)
	}
}

func withSettings(c policy.Config, data string) policy.Config {
	c.Sites = append(c.Sites[:len(c.Sites):len(c.Sites)], policy.Site{
		FS: fstest.MapFS{"data.json": {Data: []byte(data)}}, Name: "settings",
	})
	return c
}

func decideWith(c policy.Config, domain *domainxml.Domain, shuttingDown bool) (policy.Decision, error) {
	engine, err := policy.New(context.Background(), c)
	if err != nil {
		return policy.Decision{}, err
	}
	return engine.Decide(context.Background(), policy.Input{
		Operation: policy.OperationStop, Time: noon, Domain: domain, ShuttingDown: shuttingDown,
	})
}

func sameReasons(t *testing.T, what string, enforced, unenforced policy.Decision, why string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if unenforced.Outcome != policy.Allow || len(unenforced.Reasons) > 0 || unenforced.Unenforced != why {
		t.Errorf("%s: %+v", what, unenforced)
	}
	if diff := cmp.Diff(enforced.Reasons, unenforced.Monitored); diff != "" {
		t.Errorf("%s: other reasons:\n%s", what, diff)
	}
}

// Promise 8, as far as there is more than one way to ask: the hook and a program that uses the
// engine itself.
func TestPromise8_one_answer_everywhere(t *testing.T) {
	t.Parallel()
	root := sampleHost(t)
	config, err := hostpolicy.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range pathFiles(t) {
		domain, err := domainxml.Parse(read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		hook := askStop(t, root, domain.Name, file)
		decision, err := engine.Decide(context.Background(), policy.Input{Operation: policy.OperationStop, Time: noon, Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		if (hook.Exit == hookproto.ExitAllow) != (decision.Outcome == policy.Allow) || hook.Exit == hookproto.ExitFault {
			t.Errorf("%s: the hook says %+v, the engine %v", file, hook, decision.Outcome)
		}
		if decision.Outcome == policy.Veto {
			refused++
			if !strings.Contains(hook.Line, "(rule "+decision.Reasons[0].Rule+")") {
				t.Errorf("%s: the hook says %q, the engine %+v", file, hook.Line, decision.Reasons)
			}
		}
	}
	if refused < 3 {
		t.Errorf("only %d domains are refused: the corpus shows nothing", refused)
	}
}
