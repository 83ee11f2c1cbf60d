package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy/internal/document"
)

func TestAQuestionIsReadStrictly(t *testing.T) {
	tests := []struct {
		why, content string
		parts        []string
	}{
		{"nothing", ``, []string{"no JSON", `{"input": ...}`}},
		{"no object", `[]`, []string{"no input", `{"input": ...}`}},
		{"another field", `{"Input": {"version": 1}}`, []string{"no input"}},
		{"two of them", `{"input": {}, "input": {"version": 1}}`, []string{"no JSON", "input"}},
		{"two of a key in it", `{"input": {"version": 1, "version": 1}}`, []string{"no JSON", "version"}},
		{"null", `{"input": null}`, []string{"the input is null, not an object"}},
		{"something after it", `{"input": {"version": 1}} x`, []string{"no JSON"}},
		{"what no document may have", `{"input": {"version": 1, "operations": ""}}`, []string{"input has a field", "operations"}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			_, err := ParseQuestion([]byte(tt.content))
			testhost.WantError(t, err, tt.parts...)
		})
	}
	if _, err := ParseQuestion([]byte(`{"explain": "off", "input": {"version": 1}}`)); err != nil {
		t.Errorf("what OPA's clients may send besides: %v", err)
	}
}

// What was read before must not show in what is read next, nor what is read next in what was read
// before.
func TestADocumentKeepsNothingOfWhatItWasReadWith(t *testing.T) {
	question := func(name string) []byte {
		return fmt.Appendf(nil, `{"input": {"version": 1, "operation": "stop", "domain": {"name": %q, "metadata": [{"name": %[1]q, "attributes": {%[1]q: %[1]q}}]}}}`, name)
	}
	first, err := ParseQuestion(question("web-01"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(first.value(document.Reads{All: true}.Tree(), first.input()))
	for i := range 100 {
		if _, err := ParseQuestion(question(fmt.Sprintf("pg-%02d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(first.value(document.Reads{All: true}.Tree(), first.input())); got != want {
		t.Error(cmp.Diff(want, got))
	}
}

// A rule that has nothing to say about a document is left out from the second decision on, and the
// decision is the same: of what a domain can be, and of what only a document can hold.
func FuzzDecideDocumentAgain(f *testing.F) {
	e := newEngine(f, Config{Sites: guardedSite(func(rule string) bool { return !strings.Contains(rule, "time.parse") }), List: []byte("web-*\n")})
	quiet := newEngine(f, Config{})
	for _, namespace := range []string{"", "urn:stopguard:protection:1", " URN:stopguard", "urn:stopguar", "\u0130urn:stopguard", "\turn:stopguard:x\n"} {
		f.Add(namespace, "protection", "2026-11-22", "", "", "stop")
	}
	f.Add("", "", "", "web-*", "it is torn", "modify")
	f.Fuzz(func(t *testing.T, namespace, name, until, listed, unreadable, operation string) {
		in := ask(parseDomain(t, plainDomain))
		var document map[string]any
		if err := json.Unmarshal(written(t, e, in), &document); err != nil {
			t.Fatal(err)
		}
		domain := document["domain"].(map[string]any)
		element := map[string]any{"name": name, "namespace": namespace, "attributes": map[string]any{"until": until}, "text": "", "children": []any{}}
		domain["metadata"] = []any{element}
		domain["metadata_error"] = unreadable
		domain["listed"] = []any{}
		if listed != "" {
			domain["listed"] = []any{listed}
		}
		document["operation"] = operation
		content, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDocument(content, nil)
		if err != nil {
			return
		}
		for _, e := range []*Engine{e, quiet} {
			want, wantErr := fresh(t, e).DecideDocument(context.Background(), d)
			for range 2 {
				got, err := e.DecideDocument(context.Background(), d)
				if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Fatalf("%s: %v, %v (-first +again):\n%s", content, wantErr, err, diff)
				}
			}
		}
	})
}
