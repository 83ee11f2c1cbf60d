package stopguard_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard"
)

// The README's table is made from the same data as the tool's.
func TestTheREADMEsTableOfCoverageIsTheDatas(t *testing.T) {
	const begin, end = "<!-- coverage -->\n", "<!-- /coverage -->\n"
	readme := string(read(t, "README.md"))
	before, rest, found := strings.Cut(readme, begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("README.md has no place for the table")
	}
	var want strings.Builder
	fmt.Fprintf(&want, "| what happens to a domain | hook, with `stop` | hook, any libvirt | gate, any libvirt |\n|---|---|---|---|\n")
	for _, way := range stopguard.Coverage() {
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", way.What, way.Hook, way.Release, way.Gate)
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want.String() {
		t.Errorf("go test . -update would change the README's table to\n%s", want.String())
	}
	if lines := strings.Count(readme, "\n"); lines > 120 {
		t.Errorf("README.md has %d lines; nobody reads more than 120", lines)
	}
}
