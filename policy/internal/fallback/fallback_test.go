package fallback_test

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/internal/fallback"
)

// A reason that reads what is missing vetoes in the rule's name.
func TestAReasonThatReadsWhatIsMissingVetoes(t *testing.T) {
	const some = "veto contains message if {\n\tsome e in input.domain.metadata\n\te.namespace == \"urn:x\"\n\t"
	for _, tt := range []struct {
		why, rule string
		want      string // the reason; "" if the rule lets the domain pass
	}{
		{"an attribute in a text", some + "message := sprintf(\"ask %s\", [e.attributes.owner])\n}", fallback.Message},
		{"an attribute that is there", some + "message := sprintf(\"ask %s\", [e.attributes.team])\n}", "ask ops"},
		{"an attribute in brackets", some + "message := sprintf(\"ask %s\", [e.attributes[\"owner\"]])\n}", fallback.Message},
		{"an attribute in concat", some + "message := concat(\" \", [\"ask\", e.attributes.owner])\n}", fallback.Message},
		{"an attribute in a built-in within", some + "message := sprintf(\"ask %s\", [lower(e.attributes.owner)])\n}", fallback.Message},
		{"an attribute in the head", "veto contains sprintf(\"ask %s\", [e.attributes.owner]) if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", fallback.Message},
		{"an attribute in an object", "veto contains {\"message\": sprintf(\"ask %s\", [e.attributes.owner])} if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", fallback.Message},
		{"an attribute in an object's until", "veto contains {\"message\": sprintf(\"ask %s\", [e.name]), \"until\": e.attributes.until} if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n}", fallback.Message},
		{"an attribute of a child", some + "some c in e.children\n\tmessage := sprintf(\"ask %s\", [c.attributes.owner])\n}", fallback.Message},
		{"a child", some + "message := sprintf(\"ask %s\", [e.children[3].text])\n}", fallback.Message},
		{"an attribute in a function", "_text(e) := sprintf(\"ask %s\", [e.attributes.owner])\n\n" + some + "message := _text(e)\n}", fallback.Message},
		{"a function within", "_owner(e) := e.attributes.owner\n\n" + some + "message := sprintf(\"ask %s\", [_owner(e)])\n}", fallback.Message},
		{"an element", "veto contains sprintf(\"ask %s\", [input.domain.metadata[5].name]) if input.operation == \"stop\"", fallback.Message},
		{"an attribute of the document", "veto contains sprintf(\"on %s\", [input.xml.attributes.host]) if input.operation == \"stop\"", fallback.Message},
		{"a template", some + "message := $\"ask {e.attributes.team}\"\n}", "ask ops"},
		{"a default", some + "message := sprintf(\"ask %s\", [object.get(e.attributes, \"owner\", \"ops\")])\n}", "ask ops"},
		{"a table of reasons is a condition, too", "_texts := {\"move\": \"it stays\"}\n\nveto contains _texts[input.operation]", ""},
		{"a function of the operation is a condition, too", "_why(\"move\") := sprintf(\"%s stays\", [input.domain.name])\n\nveto contains _why(input.operation)", ""},
		{"an attribute in a line of its own", some + "owner := e.attributes.owner\n\tmessage := sprintf(\"ask %s\", [owner])\n}", fallback.Message},
		{"an attribute in a line of its own, which is there", some + "team := e.attributes.team\n\tmessage := sprintf(\"ask %s\", [team])\n}", "ask ops"},
		{"two of them", some + "team := e.attributes.team\n\towner := e.attributes.owner\n\tmessage := sprintf(\"ask %s or %s\", [team, owner])\n}", fallback.Message},
		{"a line that is made of it", some + "owner := e.attributes.owner\n\twho := upper(owner)\n\tmessage := sprintf(\"ask %s\", [who])\n}", fallback.Message},
		{"a built-in in a line of its own", some + "owner := trim_space(e.attributes[\"owner\"])\n\tmessage := sprintf(\"ask %s\", [owner])\n}", fallback.Message},
		{"a line of its own for the head", "veto contains sprintf(\"ask %s\", [owner]) if {\n\tsome e in input.domain.metadata\n\te.name == \"x\"\n\towner := e.attributes.owner\n}", fallback.Message},
		{"the attribute's value is a condition", some + "owner := e.attributes.owner\n\towner != \"\"\n\tmessage := sprintf(\"ask %s\", [owner])\n}", ""},
		{"only the attribute says which element is meant", "veto contains message if {\n\tsome e in input.domain.metadata\n\towner := e.attributes.owner\n\tmessage := sprintf(\"ask %s\", [owner])\n}", ""},
		{"only two attributes say which element is meant", "veto contains message if {\n\tsome e in input.domain.metadata\n\tteam := e.attributes.team\n\towner := e.attributes.owner\n\tmessage := sprintf(\"ask %s or %s\", [team, owner])\n}", ""},
		{"a lookup in a line of its own is a condition, too", "_contacts := {\"db-01\": \"dba\"}\n\n" + some + "contact := _contacts[input.domain.name]\n\tmessage := sprintf(\"ask %s\", [contact])\n}", ""},
		{"another condition that does not hold", some + "e.name == \"y\"\n\tmessage := sprintf(\"ask %s\", [e.attributes.owner])\n}", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e, err := policy.New(t.Context(), policy.Config{Sites: []policy.Site{{FS: fstest.MapFS{"site.rego": {Data: []byte("package stopguard.rules.site\n\n" + tt.rule + "\n")}}}}})
			if err != nil {
				t.Fatal(err)
			}
			domain, err := domainxml.Parse([]byte(`<domain type='kvm'><name>web-01</name><uuid>16e14a01-2b11-40de-a128-75e3f4a5fe12</uuid>` +
				`<metadata><x xmlns='urn:x' team='ops'><c/></x></metadata></domain>`))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // an engine that is warm decides the same
				d, err := e.Decide(t.Context(), policy.Input{Operation: policy.OperationStop, Time: time.Now(), Domain: domain, State: policy.State{Unknown: true}})
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				if len(d.Reasons) == 1 && d.Reasons[0].Rule == "site" {
					got = d.Reasons[0].Message
				}
				if got != tt.want || len(d.Reasons) > 1 {
					t.Errorf("%+v, want %q", d.Reasons, tt.want)
				}
			}
		})
	}
}
