package policy

import (
	"errors"
	"strings"
	"testing"
)

// A rule that does not mention input.operation refuses resets and migrations as soon as a gate asks
// about them, which its author may not know.
func TestARuleForEveryOperationIsWarnedOf(t *testing.T) {
	const all = "site/freeze.rego:3: rule freeze does not mention input.operation, so that it refuses each of stop, delete, pause, reset, move, modify; compare input.operation with the operations that it is for"
	for _, tt := range []struct{ why, rule, data, want string }{
		{"it reads the domain alone", `veto contains "x" if input.domain.title == "x"`, "{}", all},
		{"it reads nothing", `veto contains "x"`, "{}", all},
		{"it is for some", `veto contains "x" if input.operation in {"stop", "move"}`, "{}", ""},
		{"it names all, and is meant so", `veto contains "x" if input.operation in {"stop", "delete", "pause", "reset", "move", "modify"}`, "{}", ""},
		{"a helper names it", "veto contains \"x\" if _applies\n\n_applies if input.operation == \"stop\"", "{}", ""},
		{"it is about one call", `veto contains "x" if input.request.procedure == "domain_destroy"`, "{}", ""},
		{"some are only monitored", `veto contains "x"`, `{"site": {"monitor": ["freeze/reset", "*/move"]}}`, strings.Replace(all, "pause, reset, move, modify", "pause, modify", 1)},
		{"all are only monitored", `veto contains "x"`, `{"site": {"monitor": ["freeze"]}}`, ""},
		{"only a note mentions it", "veto contains \"x\"\n\nnote contains input.operation", "{}", all},
	} {
		e := newEngine(t, Config{Sites: site("freeze.rego", head+tt.rule+"\n", "data.json", tt.data)})
		got := ""
		for _, warning := range e.Warnings() {
			if !errors.Is(warning, ErrEveryOperation) {
				t.Errorf("%s: %v", tt.why, warning)
			}
			got += warning.Error()
		}
		if got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.why, got, tt.want)
		}
	}
	if warnings := newEngine(t, Config{}).Warnings(); len(warnings) > 0 {
		t.Errorf("the library is warned of: %q", warnings)
	}
}
