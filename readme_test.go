package stopguard_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
)

// block gives the first fenced block of the README in a language.
func block(t *testing.T, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(string(read(t, "README.md")), "```"+language+"\n")
	text, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatalf("README.md has no block of %s", language)
	}
	return text
}

func TestTheREADMEsMainIsAProgramThatIsBuilt(t *testing.T) {
	if program := string(read(t, "examples/exception/main.go")); !strings.HasSuffix(program, "\n"+block(t, "go")) {
		t.Errorf("examples/exception/main.go does not end with the README's main:\n%s", block(t, "go"))
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

// The README's first command, as .ci/run gives it to a shell in a fresh clone, is in cmd/stopguard-hook. What it prints is here.
func TestTheREADMEsVetoIsWhatTheSampleHostSays(t *testing.T) {
	got := askStop(t, sampleHost(t), pgPrimary, "cmd/stopguard-hook/testdata/pg-primary-01.xml")
	if !strings.Contains(block(t, ""), strings.TrimSuffix(got.Line, "\n")) {
		t.Errorf("the README does not show %q", got.Line)
	}
}
