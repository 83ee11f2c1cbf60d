//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"go.yaml.in/yaml/v3"
)

const monitoring = "../../../packaging/monitoring/"

type alertRules struct {
	Groups []struct {
		Name  string
		Rules []struct{ Alert, Expr string }
	}
}

func readYAML(t *testing.T, file string, to any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(content, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestEachAlertFires(t *testing.T) {
	promtool(t, "check", "rules", monitoring+"alerts.yml")
	promtool(t, "test", "rules", monitoring+"alerts_test.yml")
	var rules alertRules
	readYAML(t, monitoring+"alerts.yml", &rules)
	var tests struct {
		Tests []struct {
			Cases []struct {
				Name   string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, monitoring+"alerts_test.yml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, c := range test.Cases {
			if len(c.Alerts) > 0 {
				fires[c.Name] = true
			} else {
				silent[c.Name] = true
			}
		}
	}
	if len(rules.Groups) == 0 || len(rules.Groups[0].Rules) < 15 {
		t.Fatal("there are hardly any alerts")
	}
	for _, r := range rules.Groups[0].Rules {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: fires in a test: %v, is silent in one: %v", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// The page of metrics is compared with the programs by tests beside them.
func TestTheMonitoringFilesUseMetricsThatThereAre(t *testing.T) {
	page, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`stopguard_[a-z_]+`)
	documented := map[string]bool{}
	for _, m := range name.FindAllString(string(page), -1) {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			documented[m+suffix] = true
		}
	}
	var rules alertRules
	readYAML(t, monitoring+"alerts.yml", &rules)
	queries := []string{}
	for _, r := range rules.Groups[0].Rules {
		queries = append(queries, r.Expr)
	}
	content, err := os.ReadFile(monitoring + "grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	var written []map[string]string
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q has no query", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
			written = append(written, map[string]string{"record": "x", "expr": target.Expr})
		}
	}
	if len(queries) < 35 {
		t.Errorf("there are only %d queries", len(queries))
	}
	for _, q := range queries {
		for _, metric := range name.FindAllString(q, -1) {
			if !documented[metric] {
				t.Errorf("there is no metric %s, which %q uses", metric, q)
			}
		}
	}
	// promtool reads a query where it is one of a rule.
	all, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": written}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, all, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
