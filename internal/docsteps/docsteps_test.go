package docsteps

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = "# A page\n" +
	"```rego policy/a.rego\npackage a\n```\n" +
	"## Run it\n" +
	"```console\n$ true\n$ virsh destroy a\nerror: no\n...\n\n```\n" +
	"```yaml\na: 1\n```\n" +
	"### By hand\n" +
	"```sh\n# a comment\none \\\n  two\ncat > f <<EOF\n$(sed 1 x)\n# not a heading\nEOF\nthree   # why\n```\n" +
	"  ```sh\n  of a list\n  ```\n"

func TestParse(t *testing.T) {
	want := []Step{
		{Line: 2, Section: "A page", Language: "rego", File: "policy/a.rego", Content: "package a\n"},
		{Line: 7, Section: "Run it", Language: "console", Command: "true"},
		{Line: 8, Section: "Run it", Language: "console", Command: "virsh destroy a", Output: "error: no\n...\n\n"},
		{Line: 13, Section: "Run it", Language: "yaml", Content: "a: 1\n"},
		{Line: 19, Section: "By hand", Language: "sh", Command: "one \\\n  two"},
		{Line: 21, Section: "By hand", Language: "sh", Command: "cat > f <<EOF\n$(sed 1 x)\n# not a heading\nEOF"},
		{Line: 25, Section: "By hand", Language: "sh", Command: "three   # why"},
	}
	if diff := cmp.Diff(want, Parse(document)); diff != "" {
		t.Error(diff)
	}
}

func TestStep_Matches(t *testing.T) {
	for name, tt := range map[string]struct {
		shown, output string
		want          bool
	}{
		"the same":                 {"a\n", "a\n", true},
		"more than is shown":       {"a\n", "a\nb\n", false},
		"any lines":                {"a\n...\nd\n", "a\nb\nc\nd\n", true},
		"any lines, and none":      {"a\n...\n", "a\n", true},
		"an empty line at the end": {"a\n", "a\n\n", true},
		"a part of a line":         {"revision ..., signed\n", "revision 1, signed\n", true},
		"not a regular expression": {"a.b\n", "axb\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Step{Output: tt.shown}).Matches(tt.output); got != tt.want {
				t.Errorf("Matches is %v", got)
			}
		})
	}
}

func TestStep_IsRefused(t *testing.T) {
	for output, want := range map[string]bool{
		"": false, "error: Failed\n": true, "...\nFAIL  rules gpu\n": true, "stopguard: veto: a\n": true, "the error: none\n": false,
	} {
		if got := (Step{Output: output}).IsRefused(); got != want {
			t.Errorf("%q: %v", output, got)
		}
	}
}
