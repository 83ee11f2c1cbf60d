package agent

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestABundleDecidesOnceItIsDownloaded(t *testing.T) {
	t.Parallel()
	server := serveBundle(t, saying("r1"))
	h := newHost(t, server.config(""))
	a := h.start()
	h.eventually("the bundle decides", func() error { return a.decides("web-01", "veto: r1") })
	server.set(testhost.Bundle(t, saying("r2")))
	h.eventually("the next one decides", func() error { return a.decides("web-01", "veto: r2") })
}

func TestABundleThatFailsACheckLeavesTheOldOne(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	for name, c := range map[string]struct {
		why    string
		change func(map[string]string)
		says   string
	}{
		"its own test fails": {
			"an author's expectation does not hold here",
			func(f map[string]string) {
				f["more_test.rego"] = "package stopguard.rules.more_test\n\ntest_of_the_author if data.stopguard.rules.fleet.veto == set() with input as {\"operation\": \"stop\"}\n"
			}, "test_of_the_author",
		},
		"its test reaches out": {
			"it runs as root, on every host of the fleet",
			func(f map[string]string) {
				f["more_test.rego"] = "package stopguard.rules.more_test\n\ntest_reaching if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"})\n"
			}, "http.send",
		},
		"its test looks at the environment": {
			"the agent's may hold secrets",
			func(f map[string]string) {
				f["more_test.rego"] = "package stopguard.rules.more_test\n\ntest_looking if opa.runtime().env.HOME\n"
			}, "opa.runtime",
		},
		"it is a delta": {
			"what it changes is not known", func(f map[string]string) { clear(f); f["patch.json"] = `{"data": []}` }, "delta",
		},
		"it does not compile": {
			"as with every policy", func(f map[string]string) {
				f["fleet.rego"] = "package stopguard.rules.fleet\n\nveto contains 7 if nosuch(1)\n"
			}, "nosuch",
		},
		"a field is misspelt": {
			"a check of this library that OPA does not make",
			func(f map[string]string) {
				f["fleet.rego"] = "package stopguard.rules.fleet\n\nveto contains \"x\" if input.domain.nmae == \"web-01\"\n"
				delete(f, "fleet_test.rego")
			}, "nmae",
		},
		"a setting is not of its schema": {
			"the schema is in the archive and not in what OPA reads of it",
			func(f map[string]string) {
				f[".manifest"] = `{"revision": "bad"}`
				f["data.json"] = `{"site": {"fleet": {"names": 7}}}`
				f["fleet.schema.json"] = `{"type": "object", "properties": {"names": {"type": "array"}}, "additionalProperties": false}`
				f["fleet.rego"] = "package stopguard.rules.fleet\n\nveto contains \"x\" if input.domain.name in data.site.fleet.names\n"
				delete(f, "fleet_test.rego")
			}, "data.site.fleet.names",
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := serveBundle(t, saying("good"))
			h := newHost(t, server.config(""))
			a := h.start()
			h.eventually("the good one decides", func() error { return a.decides("web-01", "veto: good") })
			bad := saying("bad")
			c.change(bad)
			server.set(testhost.Bundle(t, bad))
			h.eventually("OPA reports it", func() error { return a.log.has("level=error msg=\"Bundle ") })
			if err := a.log.has(c.says); err != nil {
				t.Errorf("%v (%s)", err, c.why)
			}
			if err := a.decides("web-01", "veto: good"); err != nil {
				t.Errorf("%v (%s)", err, c.why)
			}
			status, body, err := a.get("/metrics")
			want := `stopguard_bundle_activations_total{bundle="fleet",result="failure"}`
			if err != nil || status != 200 || strings.Contains(a.log.String(), "Bundle activation failed") && !strings.Contains(body, want) {
				t.Errorf("metrics: %v, %d, without %s", err, status, want)
			}
			server.set(testhost.Bundle(t, saying("better")))
			h.eventually("the corrected one decides", func() error { return a.decides("web-01", "veto: better") })
		})
	}
}
