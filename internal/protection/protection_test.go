package protection_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/protection"
	"github.com/stopguard/stopguard/internal/quote"
)

const (
	uuid  = "d19e7151-4c02-4aa7-a443-59213be70aba"
	other = "16e14a01-2b11-40de-a128-75e3f4a5fe12"
)

var (
	now = time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)
	all = []string{"stop", "delete", "pause", "reset", "move", "modify"}
)

func mark(attributes map[string]string) domainxml.Element {
	return domainxml.Element{Name: protection.Element, Namespace: protection.Namespace, Attributes: attributes}
}

func marks(elements ...domainxml.Element) []protection.Mark {
	return protection.Marks(&domainxml.Domain{UUID: uuid, Metadata: elements}, now)
}

func TestAMarkIsRead(t *testing.T) {
	got := marks(mark(map[string]string{"reason": "billing primary", "owner": "dba", "until": "2027-06-30", "domain": uuid, "operations": "reset, move", "colour": "red"}))
	want := []protection.Mark{{
		Reason: "billing primary", Owner: "dba", Until: "2027-06-30", Shown: " until 2027-06-30", Lapses: time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC),
		Operations: []string{"stop", "delete", "reset", "move"}, Named: []string{"reset", "move"}, InForce: true, Unreadable: map[string]string{},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUntil(t *testing.T) {
	for _, tt := range []struct {
		until   string
		inForce bool
		note    string
		why     string
	}{
		{"", true, "", "for good"},
		{"9999-12-31", true, "", "for good"},
		{"2026-12-24", true, "", "a date means the end of that day"},
		{"2026-12-23", false, "its mark has lapsed on 2026-12-23", "a day later"},
		{"2026-12-24T18:00:01Z", true, "", "a second before"},
		{"2026-12-24T18:00:00Z", false, "its mark has lapsed on 2026-12-24T18:00Z", "to the second"},
		{"2026-12-24T18:00:00.000+00:00", false, "its mark has lapsed on 2026-12-24T18:00Z", "another way to write it"},
		{"2026-12-24T18:59:59+01:00", false, "its mark has lapsed on 2026-12-24T17:59Z", "another zone"},
		{"tomorrow", true, "", "cannot be read"},
		{"2025-02-30", true, "", "no such day"},
		{"2025-01-01T24:00:00Z", true, "", "no such hour"},
		{" 2025-01-01", true, "", "a blank"},
		{"2025-01-01T00:00:00,5Z", true, "", "a comma"},
	} {
		m := marks(mark(map[string]string{"until": tt.until}))[0]
		if m.InForce != tt.inForce || m.Note != tt.note {
			t.Errorf("%s: until %q: %+v", tt.why, tt.until, m)
		}
		if text, unreadable := m.Unreadable["until"]; unreadable && m.Shown != " (until "+quote.Text(text)+" cannot be read)" {
			t.Errorf("%s: until %q is shown as %q", tt.why, tt.until, m.Shown)
		}
		if _, unreadable := m.Unreadable["until"]; unreadable != (m.Until == "" && tt.until != "") || unreadable && !m.Lapses.IsZero() {
			t.Errorf("%s: until %q: %+v", tt.why, tt.until, m)
		}
	}
}

func TestADomainsMarkIsInertInAClone(t *testing.T) {
	for _, tt := range []struct {
		domain  string
		inForce bool
	}{
		{"", true}, {uuid, true}, {strings.ToUpper(strings.ReplaceAll(uuid, "-", "")), true}, {"pg-primary-01", true}, {uuid[1:], true},
		{other, false}, {strings.ToUpper(strings.ReplaceAll(other, "-", "")), false},
	} {
		m := marks(mark(map[string]string{"domain": tt.domain, "until": "2020-01-01T00:00:00"}))[0]
		if m.InForce != tt.inForce || !tt.inForce && !strings.Contains(m.Note, "which this one is a clone of") {
			t.Errorf("domain %q: %+v", tt.domain, m)
		}
	}
}

func TestOperations(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
		why  string
	}{
		{"", all[:2], "a stop and a delete"},
		{"stop", all[:1], "a stop alone"},
		{"tamper", []string{"stop", "delete", "modify"}, "the former name of two"},
		{"reset", []string{"stop", "delete", "reset"}, "naming more takes nothing away"},
		{"stop,reset", []string{"stop", "reset"}, "commas"},
		{" reset ,\tmove,,pause\n", []string{"stop", "delete", "pause", "reset", "move"}, "commas and blanks"},
		{strings.Repeat("stop ", 50), all[:1], "however often"},
		{"stop rest", all, "a slip"},
		{"Reset", all, "case counts"},
		{"reset;move", all, "neither blanks nor commas"},
		{"stopreset", all, "nothing between"},
	} {
		m := marks(mark(map[string]string{"operations": tt.text}))[0]
		if diff := cmp.Diff(tt.want, m.Operations); diff != "" {
			t.Errorf("%s: %q: %s", tt.why, tt.text, diff)
		}
		if text, unreadable := m.Unreadable["operations"]; unreadable != (len(m.Operations) == len(all)) || unreadable && text != tt.text {
			t.Errorf("%s: %q: %+v", tt.why, tt.text, m)
		}
	}
}

func TestWhatIsAlmostAMark(t *testing.T) {
	element := func(name, namespace string, children ...domainxml.Element) domainxml.Element {
		return domainxml.Element{Name: name, Namespace: namespace, Attributes: map[string]string{}, Children: children}
	}
	const foreign = "http://openstack.org/xmlns/libvirt/nova/1.1"
	for _, tt := range []struct {
		why     string
		element domainxml.Element
		inForce bool
		note    string // "" for none
	}{
		{"another version", element("protection", "urn:stopguard:protection:2"), true, `metadata holds protection in "urn:stopguard:protection:2", which is not protection in urn:stopguard:protection:1; correct or remove it`},
		{"another name", element("protect", protection.Namespace), true, `metadata holds protect in "urn:stopguard:protection:1", which is not protection in urn:stopguard:protection:1; correct or remove it`},
		{"case and blanks", element("protection", " URN:Stopguard "), true, `metadata holds protection in " URN:Stopguard ", which is not protection in urn:stopguard:protection:1; correct or remove it`},
		{"wrapped", element("terraform", foreign, element("x", foreign, mark(nil))), true, `metadata holds protection in "urn:stopguard:protection:1" within x, which is not a child of <metadata>; move or remove it`},
		{"a letter off", element("protection", "urn:stopgaurd:protection:1"), false, `metadata holds protection in "urn:stopgaurd:protection:1", which protects nothing; a mark is protection in urn:stopguard:protection:1`},
		{"a letter off, wrapped", element("x", foreign, element("protection", "urn:stpguard:protection:1")), false, `metadata holds protection in "urn:stpguard:protection:1", which protects nothing; a mark is protection in urn:stopguard:protection:1`},
		{"a name of ours elsewhere", element("protection", "https://stopguard.example/1"), false, `metadata holds protection in "https://stopguard.example/1", which protects nothing; a mark is protection in urn:stopguard:protection:1`},
		{"somebody else's", element("protection", foreign, element("protection", "urn:example:protection:1")), false, ""},
	} {
		got := marks(tt.element)
		if tt.note == "" {
			if len(got) > 0 {
				t.Errorf("%s: %+v", tt.why, got)
			}
			continue
		}
		if len(got) != 1 || got[0].InForce != tt.inForce || got[0].Note != tt.note {
			t.Errorf("%s: %+v", tt.why, got)
		} else if tt.inForce && cmp.Diff(all[:2], got[0].Operations) != "" {
			t.Errorf("%s: protects against %v", tt.why, got[0].Operations)
		}
	}
	wrong := element("protect", protection.Namespace)
	wrong.Attributes["operations"] = "reset modify"
	if diff := cmp.Diff([]string{"stop", "delete", "reset"}, marks(wrong)[0].Operations); diff != "" {
		t.Errorf("it protects against its own correction, or not against what it names: %s", diff)
	}
}

func TestUnreadableMetadataIsAMarkThatMayBeCorrected(t *testing.T) {
	got := protection.Marks(&domainxml.Domain{UUID: uuid, MetadataErr: errors.New("line 7")}, now)
	if len(got) != 1 || !got[0].InForce || !strings.Contains(got[0].Note, "cannot be read") || strings.Contains(got[0].Note, "line 7") {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff(all[:5], got[0].Operations); diff != "" {
		t.Error(diff)
	}
}

// An owner may write as many elements as fit into the XML.
func TestThereIsAnEndOfMarks(t *testing.T) {
	many := make([]domainxml.Element, 1_000_000)
	for i := range many {
		many[i] = domainxml.Element{Name: "a", Namespace: "urn:stopguard:x"}
	}
	lapsed := make([]domainxml.Element, 1000)
	for i := range lapsed {
		lapsed[i] = mark(map[string]string{"until": "2020-01-01"})
	}
	for why, elements := range map[string][]domainxml.Element{
		"far below":             {{Name: "x", Namespace: "urn:x", Children: many}},
		"marks that are lapsed": lapsed,
	} {
		got := marks(elements...)
		if len(got) != 21 {
			t.Fatalf("%s: %d marks", why, len(got))
		}
		if last := got[20]; !last.InForce || !strings.Contains(last.Note, "more than 20") || cmp.Diff(all[:5], last.Operations) != "" {
			t.Errorf("%s: %+v", why, last)
		}
	}
}

// Nothing that stands in an attribute makes a mark weaker than one without it.
func FuzzMark(f *testing.F) {
	f.Add("reset", "2026-12-24", "pg")
	f.Fuzz(func(t *testing.T, operations, until, owner string) {
		m := marks(mark(map[string]string{"operations": operations, "owner": owner, "reason": until}))
		if len(m) != 1 || !m[0].InForce || m[0].Operations[0] != "stop" || m[0].Note != "" {
			t.Fatalf("%+v", m)
		}
		m = marks(mark(map[string]string{"until": until}))
		if len(m) != 1 || !m[0].InForce && m[0].Lapses.After(now) || m[0].InForce && !m[0].Lapses.IsZero() && !m[0].Lapses.After(now) {
			t.Fatalf("%+v", m)
		}
	})
}
