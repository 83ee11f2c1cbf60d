package hostgen

import (
	"encoding/json"
	"fmt"
	"time"
)

// people are the users who request and approve tickets.
var people = []string{"anna", "ben", "cora"}

// who returns the people in the form of data.site.tickets.who.
func who() []string {
	var names []string
	for _, name := range people {
		names = append(names, "user:"+name)
	}
	return names
}

// settings returns members of data.site.
func (g *generator) settings() []Setting {
	var all []Setting
	set := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		all = append(all, Setting{name, string(text)})
	}
	if g.in(3) {
		set("monitor", some(g, []string{"*/delete", "protection_mark/stop", "protected_list", "hold/tamper", "*/tamper", "protected_list/modify", "protection_mark", "*/pause"}))
	} else if g.in(12) {
		set("monitor", []string{"*"})
	}
	for _, rule := range []string{"protected_list", "protection_mark"} {
		if g.in(3) {
			set(rule, map[string]any{"operations": append([]string{"stop"}, one(g, [][]string{{}, {"delete"}, {"reset", "move", "modify"}, {"tamper"}, {"delete", "pause"}})...)})
		}
	}
	if g.in(2) {
		t := map[string]any{"approvers": 1 + g.IntN(2), "who": who(), "break_glass": g.in(2)}
		if g.in(2) {
			t["for"] = one(g, [][]string{{"pg-*"}, {"*"}, {"web-*", `db\[x\]-*`}, {"*-1*"}})
		}
		if g.in(2) {
			t["operations"] = one(g, [][]string{{"stop"}, {"stop", "delete"}, {"tamper"}, {"delete"}, {"modify", "move"}})
		}
		set("tickets", t)
	}
	if g.in(8) {
		set("cluster_managed", one(g, [][]string{{"ci-*"}, {"*-2?"}, {"gone-*"}}))
	}
	if g.in(4) {
		at := g.moment()
		set("calendar", map[string]any{
			"freezes": []any{map[string]any{"name": "closing", "from": at.Add(-24 * 24 * time.Hour).Format("2006-01-02T15:04:05Z"), "until": at.Format("2006-01-02T15:04:05Z"),
				"domains": one(g, [][]string{{"*"}, {"web-*"}, {"*-[13579]"}})}},
			"operations": one(g, [][]string{{"stop"}, {"stop", "delete"}, {"stop", "tamper", "reset"}}),
		})
	}
	return all
}

// showsAll is a mask that leaves everything in a record that rules of the library read. So each
// decision can be replayed.
const showsAll = "package system.log\n\nmask contains \"/input/domain/description\"\n"

// rules returns files of the site's policy.
func (g *generator) rules() []Rule {
	var all []Rule
	if !g.in(3) {
		all = append(all, Rule{"mask.rego", showsAll})
	}
	if g.in(4) { // a rule from the time of one operation tamper
		all = append(all, Rule{"former.rego", "package stopguard.rules.former\n\nveto contains \"frozen\" if {\n\tinput.operation == \"tamper\"\n\tstartswith(input.domain.name, \"web-\")\n}\n"})
	}
	if g.in(4) {
		all = append(all, Rule{"site.rego", fmt.Sprintf("package stopguard.rules.site\n\nveto contains {\"message\": \"moved soon\", \"until\": %q} if {\n\tinput.operation in {\"stop\", \"move\"}\n\tendswith(input.domain.name, \"7\")\n\tinput.time < %[1]q\n}\n", g.moment().Format(time.RFC3339))})
	}
	if g.in(4) {
		all = append(all, Rule{"held.rego", "package stopguard.rules.held\n\nveto contains \"two work on it\" if count(input.domain.holds) > 1\n"})
	}
	return all
}
