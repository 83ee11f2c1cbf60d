package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/tool/explanation"
	"github.com/stopguard/stopguard/internal/tool/tooltest"
	"github.com/stopguard/stopguard/policy"
)

// newStage returns a host, and a policy as policy new makes it.
func newStage(t *testing.T) (*tooltest.Stage, string) {
	t.Helper()
	s := tooltest.New(t, []func() *cobra.Command{Command})
	folder := filepath.Join(s.Root, "my-policy")
	s.Tool("policy", "new", folder).Is(t, 0)
	return s, folder
}

func edit(t *testing.T, file, from, to string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), from) {
		t.Fatalf("%s does not hold %q", file, from)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(content), from, to)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keys makes a key pair with openssl.
func keys(t *testing.T, args ...string) (private, public string) {
	t.Helper()
	private, public = filepath.Join(t.TempDir(), "signing.pem"), filepath.Join(t.TempDir(), "bundle.pem")
	for _, args := range [][]string{append([]string{"genpkey", "-out", private}, args...), {"pkey", "-in", private, "-pubout", "-out", public}} {
		if output, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, output)
		}
	}
	return private, public
}

func TestANewPolicyPassesItsTests(t *testing.T) {
	s, folder := newStage(t)
	got := s.Tool("policy", "test", folder).Is(t, 0)
	if !strings.HasSuffix(got.Stdout, "checks passed\n") || strings.Contains(got.Stdout, "skip") {
		t.Errorf("%s", got.Stdout)
	}
	s.Tool("policy", "test", filepath.Join(folder, "policy")).Is(t, 0)
	again := s.Tool("policy", "new", folder).Is(t, 1)
	tooltest.Holds(t, "a second new", again.Stderr, "is not empty; name a new folder")
	t.Chdir(folder)
	s.Tool("policy", "test").Is(t, 0)
}

func TestWhatIsWrongWithAPolicy(t *testing.T) {
	for _, tt := range []struct {
		name, file, from, to string
		want                 []string
	}{
		{"a rule that does not load", "policy/critical.rego", "input.domain.name", "input.domain.nmae", []string{"FAIL  load", "critical.rego:9: ", "nmae"}},
		{"a test that fails", "policy/critical_test.rego", "ask #dba first", "ask #ops first", []string{"FAIL  rego stopguard.rules.critical_test.test_a_critical_domain_vetoes", `for the left side is {"is critical; ask #dba first"}`, "skip  rules"}},
		{"an input that lacks what the rule reads", "policy/critical_test.rego", `{"name": "web-01"}`, `{"title": "web-01"}`, []string{"lacks input.domain.name, which the rule reads"}},
		{"a case decided otherwise", "testdata/cases/critical.txtar", "#dba", "#ops", []string{"FAIL  cases critical", "wanted:\n        veto", "stopguard policy test --update"}},
		{"a stoppable domain that is vetoed", "testdata/stoppable/ci-17.xml", "ci-17", "pg-17", []string{"FAIL  stoppable ci-17", "must be stoppable"}},
		{"a rule that is formatted otherwise", "policy/critical.rego", "\tsome", "    some", []string{"FAIL  format", "critical.rego:8", "run stopguard policy test --update"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, folder := newStage(t)
			edit(t, filepath.Join(folder, tt.file), tt.from, tt.to)
			got := s.Tool("policy", "test", folder).Is(t, 1)
			tooltest.Holds(t, "policy test", got.Stdout, tt.want...)
			tooltest.Holds(t, "policy test", got.Stdout, " failed\n")
		})
	}
}

// The warning is where an author looks: at test, eval, build and verify.
func TestARuleForEveryOperationIsWarnedOf(t *testing.T) {
	s, folder := newStage(t)
	edit(t, filepath.Join(folder, "policy/critical.rego"), "\tinput.operation == \"stop\"\n", "")
	private, public := keys(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	file, xml := filepath.Join(s.Root, "b.tar.gz"), s.Put("pg-01.xml", tooltest.DomainXML("pg-01", tooltest.UUID1, ""))
	for _, args := range [][]string{
		{"policy", "eval", folder, "--xml", xml},
		{"policy", "build", folder, "-o", file, "--sign", private},
		{"policy", "verify", file, "--key", public},
	} {
		got := s.Tool(args...).Is(t, 0)
		tooltest.Holds(t, args[1], got.Stderr, "rule critical does not mention input.operation, so that it refuses each of stop, delete, pause, reset, move, modify")
	}
	got := s.Tool("policy", "test", folder).Is(t, 1) // one of its tests is about another operation
	tooltest.Holds(t, "test", got.Stdout, "note  load\n", "rule critical does not mention input.operation")
}

func TestUpdateFormatsAndWritesDecisions(t *testing.T) {
	s, folder := newStage(t)
	edit(t, filepath.Join(folder, "policy/critical.rego"), "\tsome", "    some")
	edit(t, filepath.Join(folder, "testdata/cases/critical.txtar"), "#dba", "#ops")
	got := s.Tool("policy", "test", "--update", folder).Is(t, 0)
	tooltest.Holds(t, "policy test --update", got.Stdout, "critical.rego: is formatted anew", "its want is written anew")
	s.Tool("policy", "test", folder).Is(t, 0)
}

func TestTestAsJSON(t *testing.T) {
	s, folder := newStage(t)
	edit(t, filepath.Join(folder, "testdata/cases/critical.txtar"), "#dba", "#ops")
	got := s.Tool("policy", "test", "-o", "json", folder).Is(t, 1)
	tooltest.Golden(t, "json", "test", strings.ReplaceAll(got.Stdout, folder, "my-policy"))
}

func TestEval(t *testing.T) {
	s, folder := newStage(t)
	xml := s.Put("pg-01.xml", tooltest.DomainXML("pg-01", tooltest.UUID1, ""))
	eval := func(args ...string) []string {
		return append([]string{"policy", "eval", folder, "--xml", xml}, args...)
	}
	got := s.Tool(eval("--set", "input.time=2026-12-24T18:00:00Z", "-o", "json")...).Is(t, 0)
	j := tooltest.Decode[evalJSON](t, strings.ReplaceAll(got.Stdout, folder, "my-policy"))
	j.Rules = slices.DeleteFunc(j.Rules, func(r explanation.Rule) bool { return strings.HasPrefix(r.File, "rego/") }) // the library's change
	own, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	tooltest.Golden(t, "json", "eval", string(own)+"\n")

	got = s.Tool(eval()...).Is(t, 0)
	tooltest.Holds(t, "policy eval", got.Stdout, "pg-01 may not be stopped: veto\n", "  is critical; ask #dba first\n",
		"policy/critical.rego:6\n    veto contains message if {\n", `reads input.domain.name = "pg-01"`)
	got = s.Tool(eval("--operation", "pause")...).Is(t, 0)
	tooltest.Holds(t, "a pause", got.Stdout, "pg-01 may be paused: allow\n")
	got = s.Tool(eval("--set", "data.site.critical.prefixes=[]")...).Is(t, 0)
	tooltest.Holds(t, "another setting", got.Stdout, "pg-01 may be stopped: allow\n", "prefixes = []")

	edit(t, filepath.Join(folder, "policy/critical.rego"), "startswith(input.domain.name, prefix)", `startswith(input.domain.name, prefix)
	not "dba" in input.caller.groups
	input.domain.state == "running"
	input.request.procedure == "domain_destroy"
	input.time > "2026-12-24T00:00:00Z"
	input.caller.uid == 1000`)
	asked := []string{"--set", `input.caller.groups=["ops"]`, "--set", "input.domain.state=running", "--set", "input.request.procedure=domain_destroy",
		"--set", "input.time=2026-12-24T18:00:00Z", "--set", "input.caller.uid=1000"}
	tooltest.Holds(t, "the whole input", s.Tool(eval(asked...)...).Is(t, 0).Stdout, "may not be stopped")
	tooltest.Holds(t, "the whole input of a dba", s.Tool(eval(append(asked, "--set", `input.caller.groups=["dba"]`)...)...).Is(t, 0).Stdout, "may be stopped")

	for _, tt := range []struct{ set, want string }{
		{"input.domain.nmae=x", "--set input.domain.nmae is not there; write data.site and a setting, or one of input.caller.executable, input.caller.gid"},
		{"input.time", "has no value; write PATH=VALUE"},
		{"input.caller.uid=alice", `"alice" is not a value of this field`},
	} {
		tooltest.Holds(t, tt.set, s.Tool(eval("--set", tt.set)...).Is(t, 2).Stderr, tt.want)
	}
	tooltest.Holds(t, "a misspelt setting", s.Tool(eval("--set", "data.site.crtical.prefixes=[]")...).Is(t, 1).Stderr, "data.site.crtical")
}

// A bundle is the same twice in a row, and OPA's own reader accepts its signature.
func TestBuildAndVerify(t *testing.T) {
	for name, args := range map[string][]string{
		"ES256": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"ES384": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"ES512": {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
		"RS256": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	} {
		t.Run(name, func(t *testing.T) {
			s, folder := newStage(t)
			private, public := keys(t, args...)
			first, second := filepath.Join(s.Root, "1.tar.gz"), filepath.Join(s.Root, "2.tar.gz")
			for _, file := range []string{first, second} {
				got := s.Tool("policy", "build", folder, "-o", file, "--sign", private, "--revision", "v7").Is(t, 0)
				tooltest.Holds(t, "policy build", got.Stdout, "6 files, revision v7, signed with "+name)
			}
			a, b := contentOf(t, first), contentOf(t, second)
			if !bytes.Equal(a, b) {
				t.Error("two bundles of the same policy differ")
			}
			got := s.Tool("policy", "verify", first, "--key", public).Is(t, 0)
			tooltest.Holds(t, "policy verify", got.Stdout, "revision v7, signed by the owner of", "can be loaded")

			key := contentOf(t, public)
			opa, err := bundle.NewReader(bytes.NewReader(a)).
				WithBundleVerificationConfig(bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{"k": {Key: string(key), Algorithm: name}}, "k", "", nil)).
				WithRegoVersion(ast.RegoV1).Read()
			if err != nil || opa.Manifest.Revision != "v7" {
				t.Errorf("OPA reads revision %q, %v", opa.Manifest.Revision, err)
			}
			_, other := keys(t, args...)
			tooltest.Holds(t, "another key", s.Tool("policy", "verify", first, "--key", other).Is(t, 1).Stderr, "its signature is not of this key")
		})
	}
}

func TestABundleHoldsSchemasAndTests(t *testing.T) {
	s, folder := newStage(t)
	file := filepath.Join(s.Root, "b.tar.gz")
	s.Tool("policy", "build", folder, "-o", file).Is(t, 0)
	unzipped, err := gzip.NewReader(bytes.NewReader(contentOf(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	if want := []string{".manifest", "critical.rego", "critical.schema.json", "critical_test.rego", "data.yaml"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	// A host without a key accepts it; verify asks for a key.
	if _, err := policy.ReadBundle("b", contentOf(t, file), nil); err != nil {
		t.Error(err)
	}
	tooltest.Holds(t, "verify without a key", s.Tool("policy", "verify", file).Is(t, 1).Stderr, "name the public key with --key")
	_, public := keys(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	s.Put("etc/stopguard/bundle.pem", string(contentOf(t, public)))
	tooltest.Holds(t, "verify with the host's key", s.Tool("policy", "verify", file).Is(t, 1).Stderr, "is not signed, but there is a key for it")
}

func TestWhatCannotBeBuilt(t *testing.T) {
	s, folder := newStage(t)
	file := filepath.Join(s.Root, "b.tar.gz")
	_, public := keys(t, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	tooltest.Holds(t, "a public key", s.Tool("policy", "build", folder, "-o", file, "--sign", public).Is(t, 1).Stderr, "holds a public key, not a private key; make a key with openssl genpkey")
	edit(t, filepath.Join(folder, "policy/critical.rego"), "input.domain.name", "input.domain.nmae")
	tooltest.Holds(t, "a rule that does not load", s.Tool("policy", "build", folder, "-o", file).Is(t, 1).Stderr, "nmae")
	if _, err := os.Stat(file); err == nil {
		t.Error("a bundle is written that no host would load")
	}
	s.Tool("policy", "build", folder).Is(t, 2)
}

func TestCapabilities(t *testing.T) {
	s, _ := newStage(t)
	got := s.Tool("policy", "capabilities").Is(t, 0)
	c, err := ast.LoadCapabilitiesJSON(strings.NewReader(got.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(c.Builtins, func(b *ast.Builtin) bool { return b.Name == name })
	}
	if !has("startswith") || has("http.send") {
		t.Error("the functions are not those that rules may call")
	}
}

func contentOf(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
