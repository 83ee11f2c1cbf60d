package gorules

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

func TestMissing(t *testing.T) {
	engine, err := policy.New(context.Background(), policy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	with, err := engine.WithRules(map[string]policy.Rule{"quorum": func(context.Context, policy.Input) ([]policy.Reason, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	decision := func(outcome string, rules ...string) string {
		return fmt.Sprintf(`{"result":{"outcome":%q,"go_rules":["%s"]}}`+"\n", outcome, strings.Join(rules, `","`))
	}
	for _, tt := range []struct {
		why, records string
		engine       *policy.Engine
		want         []string
	}{
		{"no record", "", engine, nil},
		{"sorted, and each once", decision("allow", "quorum", "maintenance") + decision("veto", "quorum"), engine, []string{"maintenance", "quorum"}},
		{"this program has one of them", decision("allow", "quorum", "maintenance"), with, []string{"maintenance"}},
		{"a rule that is not asked any more", decision("allow", "old") + strings.Repeat(decision("allow", "quorum"), maxDecisions), engine, []string{"quorum"}},
		{"moot is no decision", decision("moot", "quorum"), engine, nil},
		{"what is torn", "{\"result\":\n" + decision("veto", "quorum") + "{\"resu", engine, []string{"quorum"}},
		{"a long record", decision("allow", "old") + strings.Repeat(strings.Repeat("x", 1023)+"\n", 2<<10) + decision("veto", "quorum"), engine, []string{"quorum"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			root := t.TempDir()
			t.Setenv("STOPGUARD_ROOT", root)
			file := filepath.Join(root, record.File)
			if tt.records != "" {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(tt.records), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, Missing(tt.engine), cmp.Transformer("", func(l []string) string { return strings.Join(l, " ") })); diff != "" {
				t.Error(diff)
			}
		})
	}
}
