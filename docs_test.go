package stopguard_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the Markdown files of the repository by their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "dist" || d.Name() == "testdata" && path != "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			all[path] = string(read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	fence     = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	namedTest = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
)

// anchors returns the anchors of a document's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		plain := mdLink.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(notAnchor.ReplaceAllString(plain, ""), " ", "-")] = true
	}
	return found
}

func TestEachLinkInTheDocumentsLeadsSomewhere(t *testing.T) {
	all := documents(t)
	if len(all) < 50 {
		t.Fatalf("%d documents", len(all))
	}
	for file, text := range all {
		for _, m := range mdLink.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			to, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
				continue
			}
			if to.Scheme != "" {
				continue
			}
			target := file
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(file), to.Path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", file, m[1])
			} else if to.Fragment != "" && strings.HasSuffix(target, ".md") && !anchors(all[target])[to.Fragment] {
				t.Errorf("%s: %s has no heading for the link %s", file, target, m[1])
			}
		}
	}
}

// A document names the test that shows a claim. A test that was renamed would show nothing.
func TestEachTestThatADocumentNamesExists(t *testing.T) {
	code := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`).FindAllStringSubmatch(string(read(t, path)), -1) {
				code[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for file, text := range documents(t) {
		for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
			named++
			if !code[m[1]] {
				t.Errorf("%s names %s, which does not exist", file, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d tests are named", named)
	}
}

// withoutClaims are pages of definitions and links.
var withoutClaims = []string{"docs/README.md", "docs/architecture.md", "docs/glossary.md"}

// A page that claims something names what shows it: a test, a measurement, or a script of .ci.
func TestEachDocumentNamesWhatShowsIt(t *testing.T) {
	pages := 0
	for file, text := range documents(t) {
		if filepath.Dir(file) != "docs" || slices.Contains(withoutClaims, file) {
			continue
		}
		pages++
		if !namedTest.MatchString(text) && !strings.Contains(text, ".ci/") {
			t.Errorf("%s names no test", file)
		}
	}
	if pages < 20 {
		t.Errorf("%d pages", pages)
	}
}

func TestEachMessageOfTheTroubleshootingIsInTheCode(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".sh")) {
			code.Write(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(read(t, "docs/troubleshooting.md")), "## By message")
	if !ok {
		t.Fatal("the document has no messages")
	}
	messages := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1)
	if len(messages) < 15 {
		t.Fatalf("%d messages", len(messages))
	}
	for _, m := range messages {
		if !strings.Contains(code.String(), m[1]) {
			t.Errorf("no program says %q", m[1])
		}
	}
}
