package call

import (
	"strings"
	"testing"
)

func TestADomainKeepsItsNameAndItsMarksThroughACall(t *testing.T) {
	const mark = `<metadata><protection xmlns="urn:stopguard:protection:1" reason="billing"/></metadata>`
	marked := strings.Replace(definition, "</uuid>", "</uuid>"+mark, 1)
	renamed := strings.Replace(marked, ">web<", ">other<", 1)
	for _, tt := range []struct {
		why    string
		before string
		call   Call
		want   bool
	}{
		{"nothing is said", marked, Call{}, true},
		{"the XML has the mark", marked, Call{XML: marked}, true},
		{"so has the other", marked, Call{XML: marked, PersistentXML: marked}, true},
		{"the name is the same", marked, Call{NewName: "web"}, true},
		{"there never was a mark", definition, Call{XML: definition}, true},
		{"this run loses it", marked, Call{XML: definition, PersistentXML: marked}, false},
		{"later ones lose it", marked, Call{XML: marked, PersistentXML: definition}, false},
		{"rules may go by the name", marked, Call{NewName: "other"}, false},
		{"the name is in the XML", marked, Call{XML: renamed}, false},
		{"likewise, for later", definition, Call{PersistentXML: renamed}, false},
		{"the new XML cannot be read", definition, Call{XML: "<domain>"}, false},
		{"the old cannot", "<domain>", Call{NewName: "web"}, false},
	} {
		if got := tt.call.Keeps([]byte(tt.before)); got != tt.want {
			t.Errorf("%s: %v", tt.why, got)
		}
	}
}
