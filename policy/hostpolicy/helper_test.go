package hostpolicy

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/policy"
)

const plainDomain = `<domain type="kvm" id="7">
  <name>web-01</name>
  <uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
</domain>`

// Most of the parallel tests wait until files have settled.
func TestMain(m *testing.M) { os.Exit(testhost.RunWaiting(m)) }

func newEngine(t testing.TB, c policy.Config) *policy.Engine {
	t.Helper()
	e, err := policy.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// vetoes reports whether a stop of the domain is vetoed.
func vetoes(t *testing.T, e *policy.Engine, name string) bool {
	t.Helper()
	domain, err := domainxml.Parse([]byte(strings.Replace(plainDomain, "web-01", name, 1)))
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Input{Operation: policy.OperationStop, Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Domain: domain}
	decision, err := e.Decide(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return decision.Outcome == policy.Veto
}

// bundleFiles returns the files of a bundle with one rule, its setting and a manifest.
func bundleFiles() map[string]string {
	return map[string]string{
		"gpu.rego":           "package stopguard.rules.gpu\n\nveto contains data.site.gpu.message if input.domain.name == \"web-01\"\n",
		"site/gpu/data.json": `{"message": "holds a GPU"}`,
		".manifest":          `{"revision": "r7", "roots": [""], "rego_version": 1}`,
	}
}
