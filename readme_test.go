package stopguard_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

// block returns the first fenced block of the README in a language.
func block(t *testing.T, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(string(read(t, "README.md")), "```"+language+"\n")
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatalf("README.md has no block of %s", language)
	}
	return text
}

func TestTheREADMEsProgramIsTheExampleAndBuilds(t *testing.T) {
	program := block(t, "go")
	if example := string(read(t, "examples/hook/main.go")); !strings.HasSuffix(example, "\n"+program) {
		t.Errorf("examples/hook/main.go does not end with the README's program:\n%s", program)
	}
	if testing.Short() {
		return // the example has a test of its own, which does not compile without it
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", os.DevNull, file).CombinedOutput(); err != nil {
		t.Errorf("the README's program does not build: %v\n%s", err, out)
	}
}

// Each command of "Try it" is run as it stands, but for the program, which is built once for
// all tests.
func TestTheREADMEsCommandsWork(t *testing.T) {
	_, section, found := strings.Cut(string(read(t, "README.md")), "## Try it\n")
	_, section, begun := strings.Cut(section, "```sh\n")
	commands, _, ended := strings.Cut(section, "```\n")
	if !found || !begun || !ended {
		t.Fatal("the README has nothing to try")
	}
	var codes []int
	for command := range strings.Lines(commands) {
		cmd := exec.Command("sh", "-c", strings.Replace(command, "go run ./cmd/stopguard-hook", hookProgram.File(t), 1))
		out, _ := cmd.CombinedOutput()
		codes = append(codes, cmd.ProcessState.ExitCode())
		if len(out) > 0 && !strings.Contains(block(t, "console"), strings.TrimSpace(string(out))) {
			t.Errorf("%s prints %q", command, out)
		}
	}
	if diff := cmp.Diff([]int{hookproto.ExitVeto, hookproto.ExitAllow}, codes); diff != "" {
		t.Error(diff)
	}
}

func TestTheREADMEsRuleVetoes(t *testing.T) {
	rule := fstest.MapFS{"gpu.rego": {Data: []byte(block(t, "rego"))}}
	engine, err := policy.New(context.Background(), policy.Config{Sites: []policy.Site{{FS: rule}}})
	if err != nil {
		t.Fatal(err)
	}
	domain, err := domainxml.Parse(read(t, "domainxml/testdata/corpus/hostdev-pci-gpu.xml"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := engine.Decide(context.Background(), policy.Input{Operation: policy.OperationStop, Time: noon, Domain: domain})
	if err != nil || d.Outcome != policy.Veto || !strings.HasPrefix(d.Reasons[0].Message, "holds the GPU at 0000:65:00.0") {
		t.Errorf("%+v, %v", d, err)
	}
}

// The README's first command, as .ci/run gives it to a shell in a fresh clone, is in
// cmd/stopguard-hook. What it prints is here.
func TestTheREADMEsVetoIsWhatTheSampleHostSays(t *testing.T) {
	got := askStop(t, sampleHost(t), pgPrimary, "cmd/stopguard-hook/testdata/pg-primary-01.xml")
	if !strings.Contains(block(t, "console"), strings.TrimSuffix(got.Line, "\n")) {
		t.Errorf("the README does not show %q", got.Line)
	}
}
