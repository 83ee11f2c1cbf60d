package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/policy/internal/library"
)

func TestARuleMayCompareElements(t *testing.T) {
	d := parseDomain(t, plainDomain)
	d.Metadata = []domainxml.Element{{Name: "a", Namespace: "urn:x"}, {Name: "b", Namespace: "urn:x"}}
	for _, tt := range []struct{ why, body string }{
		{"the checker must end, and not fill the stack, for elements in a set", `some mark in input.domain.metadata
	mark in _marks`},
		{"nor where one is equal to another", `some mark in input.domain.metadata
	some other in _marks
	mark == other`},
		{"nor where they lie at different depths", `some mark in input.domain.metadata
	some other in _marks
	not mark in other.children`},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("compare.rego", `package stopguard.rules.compare

veto contains "found" if {
	`+tt.body+`
}

_marks contains m if {
	some m in input.domain.metadata
	m.name == "a"
}
`)})
			if got := decide(t, e, ask(d)); got.Outcome != Veto {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAMisspeltFieldOfAnElementIsNoticedAtAnyUsualDepth(t *testing.T) {
	path := "input.xml"
	for range library.ElementDepth {
		_, err := New(context.Background(), Config{Sites: site("deep.rego", head+`veto contains "x" if `+path+`.nmae == "y"`)})
		if err == nil || !strings.Contains(err.Error(), "nmae") {
			t.Errorf("%s.nmae: %v", path, err)
		}
		path += ".children[_]"
	}
}
