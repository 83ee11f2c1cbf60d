package call

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/domainxml"
)

func TestTheUUIDInADefinitionIsReadAsLibvirtReadsIt(t *testing.T) {
	for _, tt := range []struct{ why, xml, want, fails string }{
		{"plain", definition, webUUID, ""},
		{"with blanks around it", strings.Replace(definition, webUUID, "\n "+webUUID+" \n", 1), webUUID, ""},
		{"in upper case, without hyphens", strings.Replace(definition, webUUID, strings.ToUpper(strings.ReplaceAll(webUUID, "-", "")), 1), webUUID, ""},
		{"with a comment in it", strings.Replace(definition, "5b4d", "5b<!-- -->4d", 1), webUUID, ""},
		{"in pieces", strings.Replace(definition, "5b4d", "5b<![CDATA[4d]]>", 1), webUUID, ""},
		{"as entities", strings.Replace(definition, "5b4d", "&#x35;b4d", 1), webUUID, ""},
		{"none", "<domain><name>web</name></domain>", "", ""},
		{"only a device's", "<domain><devices><uuid>" + webUUID + "</uuid></devices></domain>", "", ""},
		{"two", strings.Replace(definition, "<uuid>", "<uuid>"+webUUID+"</uuid><uuid>", 1), "", "two UUIDs"},
		{"another's in a namespace", strings.Replace(definition, "<uuid>", "<x:uuid>0</x:uuid><uuid>", 1), "", "two UUIDs"},
		{"none that is one", strings.Replace(definition, webUUID, "web", 1), "", "no UUID"},
		{"too long", strings.Replace(definition, webUUID, webUUID+"0", 1), "", "no UUID"},
		{"empty", strings.Replace(definition, webUUID, "", 1), "", "no UUID"},
		{"an element in it", strings.Replace(definition, webUUID, "<b>"+webUUID+"</b>", 1), "", "element in its UUID"},
		{"a document type", `<!DOCTYPE domain [<!ENTITY u "` + webUUID + `">]><domain><uuid>&u;</uuid></domain>`, "", "document type"},
		{"another encoding", `<?xml version="1.0" encoding="UTF-16"?>` + definition, "", "encoding"},
		{"another encoding, with blanks", `<?xml version="1.0" encoding = "UTF-7"?>` + strings.NewReplacer("<uuid>", "+ADw-uuid+AD4-", "</uuid>", "+ADw-/uuid+AD4-").Replace(definition), "", "encoding"},
		{"two encodings", `<?xml version='encoding="utf-8"' encoding = "UTF-7"?>` + definition, "", "encoding"},
		{"our encoding, with blanks", `<?xml version="1.0" encoding = 'utf-8' ?>` + definition, webUUID, ""},
		{"two roots", definition + definition, "", "two roots"},
		{"no end", "<domain><name>", "", "too soon"},
		{"nothing", "", "", ""},
		{"blanks", " \n", "", ""},
		{"text", "web-01", "", "too soon"},
		{"an empty root", "<domain/>", "", "empty"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := DefinitionUUID(tt.xml)
			if got != tt.want || (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%q, %v; want %q, %q", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestADomainThatIsToComeHasAUUID(t *testing.T) {
	xml, made, err := WithUUID("<?xml version='1.0'?>\n<domain type='qemu'\n><name>web</name></domain>")
	if err != nil {
		t.Fatal(err)
	}
	d, err := domainxml.Parse([]byte(xml))
	if err != nil || d.UUID != made || d.Name != "web" {
		t.Errorf("%s: %v", xml, err)
	}
	if same, id, err := WithUUID(definition); same != definition || id != webUUID || err != nil {
		t.Error(same, id, err)
	}
}

func TestADefinitionKeepsTheMarks(t *testing.T) {
	with := func(metadata string) []byte {
		return []byte(strings.Replace(definition, "</uuid>", "</uuid><metadata>"+metadata+"</metadata>", 1))
	}
	const mark = `<protection xmlns="urn:stopguard:protection:1" reason="billing"/>`
	for _, tt := range []struct {
		why           string
		before, after []byte
		want          bool
	}{
		{"nothing changes", with(mark), with(mark), true},
		{"another prefix", with(mark), with(`<p:protection xmlns:p="urn:stopguard:protection:1" reason='billing'/>`), true},
		{"something else changes", with(mark), with(mark + `<x xmlns="urn:x"/>`), true},
		{"a mark is set", with(""), with(mark), true},
		{"there never was one", with(""), []byte(definition), true},
		{"it goes", with(mark), with(""), false},
		{"all metadata goes", with(mark), []byte(definition), false},
		{"it changes", with(mark), with(strings.Replace(mark, "/>", ` until="2001-01-01"/>`, 1)), false},
		{"the namespace changes", with(mark), with(strings.Replace(mark, ":1", ":2", 1)), false},
		{"the new one cannot be read", with(mark), with(mark + "<x:y/>"), false},
		{"the new one is none", with(mark), []byte("<domain>"), false},
		{"the old one is none", []byte("<domain>"), with(mark), false},
	} {
		if got := KeepsMarks(tt.before, tt.after); got != tt.want {
			t.Errorf("%s: %v", tt.why, got)
		}
	}
}
