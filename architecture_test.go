package stopguard_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// importsOf returns the imports of this module's packages from each other, by their folders below
// the root.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	const module = "github.com/stopguard/stopguard"
	imports := map[string][]string{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if base := entry.Name(); entry.IsDir() && (base == "testdata" || base == "examples" || base == "bench" || strings.HasPrefix(base, ".") && base != ".") {
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() || path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := filepath.Dir(file)
		if folder == "." {
			folder = "stopguard"
		}
		imports[folder] = slices.Clip(imports[folder]) // also of one that imports nothing
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			below, ok := strings.CutPrefix(name, module+"/")
			if name == module {
				below, ok = "stopguard", true
			}
			if ok && !strings.HasPrefix(below, "examples/") && !slices.Contains(imports[folder], below) {
				imports[folder] = append(imports[folder], below)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range imports {
		slices.Sort(list)
	}
	return imports
}

func TestTheArchitectureSaysWhatImportsWhat(t *testing.T) {
	names := regexp.MustCompile("`([^`]+)`")
	said := map[string][]string{}
	imports := importsOf(t)
	for line := range strings.Lines(string(read(t, "docs/architecture.md"))) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		var of, to []string
		for _, m := range names.FindAllStringSubmatch(cells[1], -1) {
			of = append(of, m[1])
		}
		for _, m := range names.FindAllStringSubmatch(cells[3], -1) {
			if _, ours := imports[m[1]]; ours && !strings.Contains(cells[3], "neither") {
				to = append(to, m[1])
			}
		}
		slices.Sort(to)
		for _, name := range of {
			said[name] = to
			// What stands in one row may import each other.
			imports[name] = slices.DeleteFunc(imports[name], func(other string) bool { return slices.Contains(of, other) })
		}
	}
	// Of itself it says that it imports all but the kits.
	said["stopguard"] = slices.DeleteFunc(slices.Clone(imports["stopguard"]), func(name string) bool {
		return name == "hookproto/hooktest" || name == "policy/policytest"
	})
	if diff := cmp.Diff(imports, said, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("docs/architecture.md is not as the code is (-code +document):\n%s", diff)
	}
}

// An engine is a function of what it is given, wherever it runs: in a hook, an agent, a test or a
// program of one's own.
func TestTheArchitectureLetsTheEngineReadNoFilesOfAHost(t *testing.T) {
	imports := importsOf(t)
	reached := map[string]bool{}
	var reach func(name string)
	reach = func(name string) {
		if !reached[name] {
			reached[name] = true
			for _, next := range imports[name] {
				reach(next)
			}
		}
	}
	reach("policy")
	for _, name := range []string{"internal/hostfile", "internal/hostpath", "internal/persisted", "policy/hostpolicy", "hookproto"} {
		if _, exists := imports[name]; !exists {
			t.Errorf("there is no package %s; name the one that reads a host's files now", name)
		}
		if reached[name] {
			t.Errorf("policy imports %s", name)
		}
	}
}

func TestNoPackageIsTooLargeToFindOnesWayIn(t *testing.T) {
	const most, mostOfAProgram = 3000, 400 // lines without tests
	lines := map[string]int{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && file != ".") {
			return fs.SkipDir
		}
		if err == nil && path.Ext(file) == ".go" && !strings.HasSuffix(file, "_test.go") {
			lines[path.Dir(filepath.ToSlash(file))] += strings.Count(string(read(t, file)), "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	programs := 0
	for folder, n := range lines {
		limit := most
		if strings.HasPrefix(folder, "cmd/") {
			programs++
			limit = mostOfAProgram
		}
		if n > limit {
			t.Errorf("%s has %d lines without tests, and may have %d; divide it", folder, n, limit)
		}
	}
	if programs < 2 {
		t.Errorf("%d programs are found under cmd", programs)
	}
}
