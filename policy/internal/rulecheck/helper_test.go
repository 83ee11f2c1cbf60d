package rulecheck_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

// head begins a rule of a site.
const head = "package stopguard.rules.freeze\n\n"

// A slip is a policy that Rego or YAML would take without a word, and that would not protect what
// it was written for.
type slip struct {
	why   string
	files []string // pairs of name and content
	want  string   // the fault
}

// file makes a slip of one rule's text, in site/freeze.rego behind the package.
func file(why, rule, want string) slip { return slip{why, []string{"freeze.rego", head + rule}, want} }

// given makes a slip of a rule and the settings, in YAML, of the rule.
func given(why, settings, rule, want string) slip {
	yaml := "site:\n  freeze:\n    " + strings.ReplaceAll(settings, "\n", "\n    ") + "\n"
	return slip{why, []string{"freeze.rego", head + rule, "data.yaml", yaml}, want}
}

func testSlips(t *testing.T, slips []slip) {
	t.Helper()
	for _, tt := range slips {
		t.Run(tt.why, func(t *testing.T) {
			_, err := policy.New(context.Background(), policy.Config{Sites: site(tt.files...)})
			testhost.WantError(t, err, tt.want, "; ")
			if err != nil && strings.Contains(err.Error(), "__local") {
				t.Errorf("%v shows a name that the compiler made up", err)
			}
		})
	}
}

// site makes a site of pairs of name and content.
func site(pairs ...string) []policy.Site {
	files := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		files[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return []policy.Site{{FS: files}}
}

func newEngine(t *testing.T, c policy.Config) *policy.Engine {
	t.Helper()
	e, err := policy.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// decide decides about a stop of a plain domain, at noon of a day in 2026.
func decide(t *testing.T, e *policy.Engine) policy.Decision {
	t.Helper()
	domain, err := domainxml.Parse([]byte(`<domain type="kvm" id="7">
  <name>web-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
  <memory unit="KiB">65536</memory>
  <vcpu>2</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
</domain>`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Decide(context.Background(), policy.Input{
		Operation: policy.OperationStop,
		Time:      time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Host:      policy.Host{Name: "kvm-01", Domains: []policy.HostDomain{}},
		Domain:    domain,
		State:     policy.State{Unknown: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
