package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// The agent publishes by Go what the rule counts by Rego.
func TestAGroupOfTheFleetHoldsWhatTheRuleSays(t *testing.T) {
	members := []string{
		`members: [web-01]`, `members: [web-02]`, `members: ["web-*"]`, `members: ["web-[^0]1", "db-*"]`, `members: [" web-01 "]`,
		`members: [16E14A01-2B11-40DE-A128-75E3F4A5FE12]`, `members: ["{16e14a012b1140dea12875e3f4a5fe12}"]`, `members: [26e14a01-2b11-40de-a128-75e3f4a5fe12]`,
		`metadata: {namespace: "urn:a"}`, `metadata: {namespace: "urn:b"}`, `metadata: {namespace: "urn:a", name: service}`, `metadata: {namespace: "urn:a", name: role}`,
		`metadata: {namespace: "urn:a", text: dns}`, `metadata: {namespace: "urn:a", text: ""}`, `metadata: {namespace: "urn:a", attributes: {role: x}}`,
		`metadata: {namespace: "urn:a", attributes: {role: z}}`, `metadata: {namespace: "urn:a", attributes: {role: x, more: z}}`, `metadata: {namespace: "urn:a", attributes: {}}`,
		`members: [db-01], metadata: {namespace: "urn:a"}`, `members: [db-01], metadata: {namespace: "urn:b"}`,
	}
	metadata := []string{
		"", `<service xmlns="urn:a" role="x">dns</service>`, `<service xmlns="urn:a"> dns </service>`, `<role xmlns="urn:a" role="x" more="z"/>`,
		`<p:service xmlns:p="urn:a" p:role="x"/>`, `<x xmlns="urn:b"><service xmlns="urn:a"/></x>`,
	}
	for _, of := range members {
		e := newEngine(t, Config{Sites: site("data.yaml", "site: {min_running: {groups: [{name: g, scope: fleet, min: 1, "+of+"}]}}")})
		held := 0
		for _, elements := range metadata {
			d := parseDomain(t, strings.Replace(plainDomain, "<memory", "<metadata>"+elements+"</metadata><memory", 1))
			inGo := len(e.FleetGroupsOf(OperationStop, d)) > 0
			inRego := decide(t, e, ask(d)).Outcome == Veto
			if inGo != inRego {
				t.Errorf("%s, %s: %t in Go, and %t in Rego", of, elements, inGo, inRego)
			}
			if inGo {
				held++
			}
		}
		if strings.Contains(of, "metadata") && !strings.Contains(of, `"urn:b"`) && !strings.Contains(of, "role: z}") && (held == 0 || held == len(metadata)) && !strings.Contains(of, "text") {
			t.Errorf("%s holds %d", of, held)
		}
	}
}

func TestGroupsOfTheFleetAreThoseOfTheSettings(t *testing.T) {
	const groups = "groups: [{name: a, min: 1, members: [\"*\"]}, {name: b, scope: fleet, min: 2, members: [\"*\"]}, {name: c, scope: host, min: 1, members: [\"*\"]}, {name: d, scope: fleet, min: 2, members: [\"*\", x]}]"
	e := newEngine(t, Config{Sites: site("data.yaml", "site: {min_running: {operations: [stop, pause], "+groups+"}}")})
	d := parseDomain(t, plainDomain)
	var names []string
	hashes := map[string]bool{}
	for _, g := range e.FleetGroupsOf(OperationPause, d) {
		names = append(names, fmt.Sprint(g.Name, g.Min))
		hashes[g.Hash] = true
	}
	if !slices.Equal(names, []string{"b2", "d2"}) || len(hashes) != 2 || len(e.FleetGroupsOf(OperationMove, d)) != 0 {
		t.Errorf("%q, %v", names, hashes)
	}
	// In another order, and in JSON, the settings are the same.
	same := newEngine(t, Config{Sites: site("data.json", `{"site": {"min_running": {"groups": [{"members": ["*"], "min": 2, "scope": "fleet", "name": "b"}]}}}`)})
	if same.FleetGroups()[0].Hash != e.FleetGroups()[0].Hash {
		t.Error("the hash depends on how the settings are written")
	}
	for settings, want := range map[string]string{
		"groups: [{name: a, scope: fleet, min: 1, members: [x]}, {name: a, scope: fleet, min: 1, members: [z]}]": "two groups",
		"groups: [{name: a, scope: fleet, min: 101, members: [x]}]":                                              "group \"a\" needs 101",
		"groups: [{name: a, scope: rack, min: 1, members: [x]}]":                                                 "groups.0.scope: must be one of the following",
	} {
		_, err := New(context.Background(), Config{Sites: site("data.yaml", "site: {min_running: {"+settings+"}}")})
		testhost.WantError(t, err, want, "; ")
	}
	newEngine(t, Config{Sites: site("data.yaml", "site: {min_running: {groups: [{name: a, min: 101, members: [x]}, {name: a, min: 1, members: [z]}]}}")})
}

// A document of a program that does not know fleets is decided as before.
func TestADocumentWithoutAFleetIsWholeWhereNothingIsCountedInOne(t *testing.T) {
	in := ask(parseDomain(t, plainDomain))
	content := written(t, newEngine(t, Config{}), in)
	var fields map[string]any
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "fleet")
	content, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for scope, isWhole := range map[string]bool{"host": true, "fleet": false} {
		e := newEngine(t, Config{Sites: site("data.yaml", "site: {min_running: {groups: [{name: g, scope: "+scope+", min: 1, members: [x]}]}}")})
		d, err := ParseDocument(content, nil)
		if err != nil {
			t.Fatal(err)
		}
		decision, err := e.DecideDocument(context.Background(), d)
		if isWhole && (err != nil || decision.Outcome != Allow) {
			t.Errorf("%s: %v %v", scope, decision, err)
		}
		if !isWhole {
			testhost.WantError(t, err, "input.fleet (rule min_running)")
		}
	}
	reads := newEngine(t, Config{Sites: site("site.rego", "package stopguard.rules.site\n\nveto contains group.error if {\n\tsome group in input.fleet.groups\n\tgroup.error != \"\"\n}\n")})
	d, err := ParseDocument(content, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = reads.DecideDocument(context.Background(), d)
	testhost.WantError(t, err, "input.fleet (rule site)")
}
