// Package e2e tests whole Debian hosts: it boots them, installs the packages, and does what an
// operator does. See .ci/hosts. The results are kept in testdata, and docs/compatibility.md shows
// them.
package e2e

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A report is the result of a run on one host.
type report struct {
	Suite    string    `json:"suite"`
	Date     string    `json:"date"`
	Minutes  int       `json:"minutes"` // from the boot to the last step
	Versions []version `json:"versions"`
	Steps    []step    `json:"steps"`
}

// A version is that of a part of the host.
type version struct {
	Part    string `json:"part"`
	Version string `json:"version"`
}

// A step is one expectation, and whether it was met.
type step struct {
	Chapter string `json:"chapter"`
	Name    string `json:"name"`
	Passed  bool   `json:"passed"`
	Note    string `json:"note,omitempty"` // a measured value
}

// suites are Debian's releases, oldest first.
var suites = []string{"bookworm", "trixie", "sid"}

// matrix returns docs/compatibility.md.
func matrix(reports []report) []byte {
	reports = slices.Clone(reports)
	slices.SortFunc(reports, func(a, b report) int {
		return cmp.Compare(slices.Index(suites, a.Suite), slices.Index(suites, b.Suite))
	})
	var b bytes.Buffer
	b.WriteString(`# Compatibility

<!-- Written by .ci/hosts from internal/e2e/hosts/testdata. Do not edit. -->

` + "```sh" + `
.ci/hosts trixie   # boots a whole Debian host, runs each step of this page on it, and writes the column anew
` + "```" + `

- The hosts are Debian's, with its kernel, systemd, AppArmor (enforced), polkit, libvirt and QEMU, in QEMU without KVM.
- Each step has an expectation. **yes**: it was met. **NO**: it was not. **-**: the step was not run there.
- bookworm and trixie must pass before a release. sid is Debian's next release and changes every day.
`)
	if len(reports) == 0 {
		b.WriteString("\n**No whole run is on record yet.**\n")
		return b.Bytes()
	}
	head := []string{""}
	for _, r := range reports {
		head = append(head, r.Suite)
	}
	row := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	table := func(title string) {
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		row(head)
		row(slices.Repeat([]string{"---"}, len(head)))
	}
	table("What was run")
	line := func(name string, cell func(report) string) {
		cells := []string{name}
		for _, r := range reports {
			cells = append(cells, cmp.Or(cell(r), "-"))
		}
		row(cells)
	}
	line("date", func(r report) string { return r.Date })
	line("minutes", func(r report) string { return strconv.Itoa(r.Minutes) })
	for _, part := range union(reports, func(r report) []string {
		var parts []string
		for _, v := range r.Versions {
			parts = append(parts, v.Part)
		}
		return parts
	}) {
		line(part, func(r report) string {
			i := slices.IndexFunc(r.Versions, func(v version) bool { return v.Part == part })
			if i < 0 {
				return ""
			}
			return r.Versions[i].Version
		})
	}
	line("steps that passed", func(r report) string {
		passed := 0
		for _, s := range r.Steps {
			if s.Passed {
				passed++
			}
		}
		return fmt.Sprintf("%d of %d", passed, len(r.Steps))
	})

	for _, chapter := range union(reports, func(r report) []string { return column(r.Steps, func(s step) string { return s.Chapter }) }) {
		table(chapter)
		of := func(r report) []step {
			return slices.DeleteFunc(slices.Clone(r.Steps), func(s step) bool { return s.Chapter != chapter })
		}
		for _, name := range union(reports, func(r report) []string { return column(of(r), func(s step) string { return s.Name }) }) {
			line(strings.ReplaceAll(name, "|", `\|`), func(r report) string {
				steps := of(r)
				i := slices.IndexFunc(steps, func(s step) bool { return s.Name == name })
				switch {
				case i < 0:
					return ""
				case !steps[i].Passed:
					return "NO"
				case steps[i].Note != "":
					return "yes, " + steps[i].Note
				}
				return "yes"
			})
		}
	}
	return b.Bytes()
}

func column(steps []step, of func(step) string) []string {
	var values []string
	for _, s := range steps {
		values = append(values, of(s))
	}
	return values
}

// union returns the values of all reports without repetition. A value that an earlier report lacks
// is put behind the value that precedes it in its own report.
func union(reports []report, of func(report) []string) []string {
	var all []string
	for _, r := range reports {
		at := 0
		for _, value := range of(r) {
			i := slices.Index(all, value)
			if i < 0 {
				all = slices.Insert(all, at, value)
				i = at
			}
			at = i + 1
		}
	}
	return all
}
