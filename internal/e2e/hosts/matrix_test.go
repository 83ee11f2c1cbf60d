package e2e

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/compatibility.md")

const matrixFile = "../../../docs/compatibility.md"

func TestTheMatrixShowsWhatWasRun(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var reports []report
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r report
		if err := json.Unmarshal(content, &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		reports = append(reports, r)
	}
	want := matrix(reports)
	if *update {
		if err := os.WriteFile(matrixFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(matrixFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/compatibility.md is not what .ci/hosts writes (go test ./internal/e2e/hosts -update):\n%s", diff)
	}
}

func TestAStepThatOneHostLacksKeepsItsPlace(t *testing.T) {
	of := func(names ...string) report {
		var r report
		for _, name := range names {
			r.Steps = append(r.Steps, step{Name: name})
		}
		return r
	}
	got := union([]report{of("install", "remove"), of("install", "upgrade", "remove", "purge")},
		func(r report) []string { return column(r.Steps, func(s step) string { return s.Name }) })
	if diff := cmp.Diff([]string{"install", "upgrade", "remove", "purge"}, got); diff != "" {
		t.Error(diff)
	}
}
