package stopguard_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/internal/operation"
)

// covers returns the protection of a domain against a path.
func covers(w stopguard.Path) string {
	switch {
	case w.Operation == "":
		return "nothing"
	case slices.Contains(operation.Plain(), w.Operation):
		return "a list entry, a plain mark"
	}
	return "only with `operations`: " + w.Operation
}

// The document's table is made from the same data as the tool's.
func TestTheTableOfCoverageIsTheDatas(t *testing.T) {
	const file, begin, end = "docs/coverage.md", "<!-- coverage -->\n", "<!-- /coverage -->\n"
	document := string(read(t, file))
	before, rest, found := strings.Cut(document, begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", file)
	}
	var want strings.Builder
	fmt.Fprintf(&want, "| what happens to a domain | hook, with `stop` | hook, any libvirt | gate, any libvirt | what is against it |\n|---|---|---|---|---|\n")
	for _, way := range stopguard.Coverage() {
		fmt.Fprintf(&want, "| %s | %s | %s | %s | %s |\n", way.What, way.Hook, way.Release, way.Gate, covers(way))
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want.String() {
		t.Errorf("go test . -update would change the table of %s to\n%s", file, want.String())
	}
}

func TestTheREADMEIsShort(t *testing.T) {
	if lines := strings.Count(string(read(t, "README.md")), "\n"); lines > 120 {
		t.Errorf("README.md has %d lines; nobody reads more than 120", lines)
	}
}
