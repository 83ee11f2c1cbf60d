package call

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/protection"
)

// Marks that were written before a delete was an operation of its own refuse what they refused.
func TestNoVetoIsLost(t *testing.T) {
	content, err := os.ReadFile("testdata/former.txt")
	if err != nil {
		t.Fatal(err)
	}
	compared, vetoed := 0, 0
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if fields[0] == "#" {
			continue
		}
		program := map[string]uint32{"remote": Remote, "qemu": QEMU}[fields[0]]
		number, _ := strconv.ParseUint(fields[1], 10, 32)
		flags, err := strconv.ParseUint(fields[2], 10, 64)
		r := table[program][uint32(number)]
		if err != nil || r == nil {
			t.Fatalf("%s: %v", line, err)
		}
		c, err := Read(program, uint32(number), filled(r.args, flags))
		if err != nil {
			t.Fatal(err)
		}
		for _, mark := range formerMarks() {
			was := slices.ContainsFunc(fields[3:], func(o string) bool { return o == "stop" || slices.Contains(mark, o) || slices.Contains(mark, "slip") })
			is := slices.ContainsFunc(c.Operations, func(o Operation) bool { return slices.Contains(against(mark), string(o)) })
			if was && !is {
				t.Errorf("a mark for %q no longer refuses %s with flags %d, which asks about %s", mark, r.name, flags, words(c.Operations))
			}
			compared++
			if was {
				vetoed++
			}
		}
	}
	if compared < 2000 || vetoed < 1000 {
		t.Errorf("%d marks and calls were compared, and %d vetoed", compared, vetoed)
	}
}

// formerMarks are all sets of operations that a mark could name, and one with a slip.
func formerMarks() [][]string {
	names := []string{"stop", "pause", "reset", "move", "tamper"}
	marks := [][]string{{"slip"}}
	for set := range 1 << len(names) {
		var mark []string
		for i, name := range names {
			if set&(1<<i) != 0 {
				mark = append(mark, name)
			}
		}
		marks = append(marks, mark)
	}
	return marks
}

// against returns the operations that a mark with these words protects against now.
func against(words []string) []string {
	mark := domainxml.Element{Name: protection.Element, Namespace: protection.Namespace, Attributes: map[string]string{"operations": strings.Join(words, " ")}}
	return protection.Marks(&domainxml.Domain{UUID: webUUID, Metadata: []domainxml.Element{mark}}, time.Now())[0].Operations
}
