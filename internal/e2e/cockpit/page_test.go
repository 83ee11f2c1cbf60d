package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const pageFolder = "../../../packaging/stopguard-cockpit/page"

// forbidden are expressions for code that takes text for markup or code, that runs a shell, or that
// Cockpit's content security policy refuses.
var forbidden = map[string]*regexp.Regexp{
	"makes markup of a text":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc`),
	"makes code of a text":     regexp.MustCompile(`\beval\b|new Function|setTimeout\(["'\x60]|import\(|javascript:`),
	"runs a shell":             regexp.MustCompile(`["'](/bin/)?(ba)?sh["']|cockpit\.script`),
	"has an inline script":     regexp.MustCompile(`<script(>| [^>]*>[^<])|\son[a-z]+=["']`),
	"has an inline style":      regexp.MustCompile(`<style|\bstyle=|[{,] ?style:|cssText`),
	"loads something from far": regexp.MustCompile(`(src|href|url|from)\W{1,3}(https?:)?//`),
}

func TestThePageRunsNoTextAndNoShell(t *testing.T) {
	files, err := filepath.Glob(pageFolder + "/*")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	spawns := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for what, pattern := range forbidden {
			if found := pattern.FindString(string(text)); found != "" {
				t.Errorf("%s %s: %q", file, what, found)
			}
		}
		spawns += strings.Count(string(text), "cockpit.spawn([program, ...args]")
		if n := strings.Count(string(text), "cockpit.spawn("); n > 0 && filepath.Base(file) != "host.js" {
			t.Errorf("%s starts a program; host.js alone does", file)
		}
	}
	if spawns != 1 {
		t.Errorf("programs are started at %d places", spawns)
	}
	// The patterns find what they are for.
	for text, what := range map[string]string{
		`e.innerHTML = name`: "makes markup of a text", `setTimeout("f()")`: "makes code of a text", `["sh", "-c"]`: "runs a shell",
		`<script>f()</script>`: "has an inline script", `<a onclick="f()">`: "has an inline script", `h("p", { style: x })`: "has an inline style",
		`<link href="https://example.org/x.css">`: "loads something from far",
	} {
		if !forbidden[what].MatchString(text) {
			t.Errorf("%q is not found", text)
		}
	}
}

// Each file that the page loads is there, and each that is there is loaded.
func TestThePageIsWhole(t *testing.T) {
	loads := regexp.MustCompile(`(?:src|href)="([a-z.]+)"|from "\./([a-z.]+)"|import "\./([a-z.]+)"`)
	loaded := []string{"index.html", "manifest.json"}
	files, _ := filepath.Glob(pageFolder + "/*")
	var there []string
	for _, file := range files {
		there = append(there, filepath.Base(file))
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range loads.FindAllStringSubmatch(string(text), -1) {
			loaded = append(loaded, m[1]+m[2]+m[3])
		}
	}
	slices.Sort(loaded)
	if loaded = slices.Compact(loaded); !slices.Equal(loaded, there) {
		t.Errorf("loaded: %q\nthere:  %q", loaded, there)
	}
}
