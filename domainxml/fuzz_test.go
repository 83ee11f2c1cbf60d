package domainxml

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"
)

// What Parse accepts, libvirtxml accepts as well, and reads the same.
func FuzzParse(f *testing.F) {
	for _, doc := range documents(f) {
		if len(doc) < 2000 { // a change to a larger one is mostly one that breaks it
			f.Add(doc)
		}
	}
	f.Add([]byte(plain))
	f.Fuzz(checkParse)
}

// What fuzzing rarely finds: documents that are changed by whole tags.
func TestATagMayBeLostDoubledOrMisplaced(t *testing.T) {
	doc := strings.Replace(plain, "<uuid>", "<!--c--><![CDATA[d]]><?p i?><cpu><name>x</name></cpu><description/><uuid>", 1)
	tokens := regexp.MustCompile(`(?s)<!--.*?-->|<!\[CDATA\[.*?\]\]>|<[^>]*>|[^<]+`).FindAllString(doc, -1)
	for i := range tokens {
		for j := range tokens {
			lost := slices.Delete(slices.Clone(tokens), min(i, j), max(i, j)+1)
			doubled := slices.Insert(slices.Clone(tokens), j, tokens[i])
			swapped := slices.Clone(tokens)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			moved := slices.Insert(slices.Clone(tokens), j, tokens[i:min(i+3, len(tokens))]...)
			for _, changed := range [][]string{lost, doubled, swapped, moved} {
				checkParse(t, []byte(strings.Join(changed, "")))
				if t.Failed() {
					return
				}
			}
		}
	}
}

var place = regexp.MustCompile(`^domainxml: line \d+, column \d+: /`)

func checkParse(t *testing.T, doc []byte) {
	before := bytes.Clone(doc)
	d, err := Parse(doc)
	again, errAgain := Parse(before)
	if diff := cmp.Diff(fmt.Sprint(err), fmt.Sprint(errAgain)); diff != "" {
		t.Fatalf("the second time it says otherwise:\n%s", diff)
	}
	if err != nil {
		if d != nil || !place.MatchString(err.Error()) {
			t.Fatalf("%v, %v", d, err)
		}
		return
	}
	got, gotAgain := viewOf(d), viewOf(again)
	if diff := cmp.Diff(got, gotAgain); diff != "" {
		t.Fatalf("the second time it reads otherwise:\n%s", diff)
	}
	if diff := cmp.Diff(d.Metadata, again.Metadata); diff != "" {
		t.Fatalf("the second time it reads otherwise:\n%s", diff)
	}
	tree, err := d.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if n := depth(tree); n > maxDepth {
		t.Fatalf("a tree %d deep", n)
	}
	if err := same(d, tree); err != "" {
		t.Fatal(err)
	}
	whole, errWhole := d.Libvirt()
	if !bytes.Equal(before, doc) {
		t.Fatal("the document was changed")
	}
	if d.MetadataErr != nil {
		return
	}
	if errWhole == nil {
		if diff := compareViews(viewOfLibvirtxml(t, whole), got); diff != "" {
			t.Fatalf("(-Libvirt() +view):\n%s", diff)
		}
	}
	// What is in other namespaces is where libvirtxml is wrong: it looks at local names only.
	if bytes.Contains(doc, []byte("xmlns")) || bytes.Contains(doc, []byte("xml:")) {
		return
	}
	var lax libvirtxml.Domain
	errLax := lax.Unmarshal(string(doc))
	// Libvirt decodes the rest of the document on demand; then both must fail.
	if (errLax == nil) != (errWhole == nil) {
		t.Fatalf("libvirtxml says %v, Libvirt() %v", errLax, errWhole)
	}
	if errLax != nil {
		return
	}
	if diff := compareViews(viewOfLibvirtxml(t, &lax), got); diff != "" {
		t.Fatalf("(-libvirtxml +ours):\n%s", diff)
	}
	if diff := cmp.Diff(&lax, whole); diff != "" {
		t.Fatalf("(-libvirtxml +Libvirt()):\n%s", diff)
	}
}

func depth(e Element) int {
	n := 0
	for _, c := range e.Children {
		n = max(n, depth(c))
	}
	return n + 1
}

// same says how a domain and its tree differ.
func same(d *Domain, tree Element) string {
	texts := map[string]string{}
	count := map[string]int{}
	for _, e := range tree.Children {
		if e.Namespace != "" {
			continue
		}
		texts[e.Name] = e.Text
		count[e.Name]++
		if e.Name == "devices" {
			for _, device := range e.Children {
				if device.Namespace == "" {
					count["devices/"+device.Name]++
				}
			}
		}
	}
	for _, name := range once {
		if count[name] > 1 {
			return fmt.Sprintf("%d elements %s", count[name], name)
		}
	}
	got := []string{tree.Name, tree.Attributes["type"], texts["name"], strings.ToLower(texts["uuid"])}
	want := []string{"domain", d.Type, strings.Trim(d.Name, blanks), d.UUID}
	if diff := cmp.Diff(want, got); diff != "" {
		return "(-domain +tree):\n" + diff
	}
	if n := len(d.Disks); n != count["devices/disk"] {
		return fmt.Sprintf("%d disks in a tree with %d", n, count["devices/disk"])
	}
	return ""
}

// The content of <metadata> does not change anything outside of it, and is not an error as long as
// it nests.
func FuzzMetadata(f *testing.F) {
	for _, doc := range documents(f) {
		if d, err := Parse(doc); err == nil {
			for _, p := range d.doc.parts {
				f.Add(string(doc[p.inner.start:p.inner.end]))
			}
		}
	}
	for _, inside := range []string{
		"<😀/>", "<a b='1'c='2'/>", "</metadata><name>db</name><metadata>", "<!-- </metadata> -->", "<![CDATA[</metadata>]]>",
		"<a b='</metadata>'/>", "<?x </metadata>?>", "<metadata></metadata>", "</metadata>", "<metadata>", "<!--", "<![CDATA[", "<a", "<a b='",
		"</metadata><devices><disk/></devices><x><metadata>", "<x xmlns:y=''/>", "&a;", "]]>", "\x00", "\xff", "<a/ >", "<a\n/>", "<!DOCTYPE a>",
	} {
		f.Add(inside)
	}
	const before, after = "<domain type='kvm' id='3'><name>web</name><metadata>",
		"</metadata><uuid>0b2d4d57-9e5b-4c9c-8a5e-1f0f2a7a0a01</uuid><memory>7</memory></domain>"
	f.Fuzz(func(t *testing.T, inside string) {
		d, err := Parse([]byte(before + inside + after))
		if err != nil {
			if nests(inside) {
				t.Fatalf("an owner's text is an error: %v", err)
			}
			return
		}
		got := viewOf(d)
		want := view{Type: "kvm", ID: 3, Name: "web", UUID: "0b2d4d57-9e5b-4c9c-8a5e-1f0f2a7a0a01", MemoryBytes: 7 << 10, VCPUs: 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("an owner's text changes what is outside of it:\n%s", diff)
		}
		if d.MetadataErr == nil != (d.Metadata != nil) {
			t.Fatalf("%v with %v", d.MetadataErr, d.Metadata)
		}
		if _, err := d.Tree(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Libvirt(); err != nil {
			t.Fatal(err)
		}
	})
}

// nests says whether text may stand between two tags, whatever characters beyond ASCII are in its
// names: encoding/xml says so when each byte of such a character is spelt out in letters.
func nests(text string) bool {
	var ascii strings.Builder
	for i := range len(text) {
		if text[i] < 0x80 {
			ascii.WriteByte(text[i])
		} else {
			fmt.Fprintf(&ascii, "_%02X", text[i])
		}
	}
	d := xml.NewDecoder(strings.NewReader("<metadata>" + ascii.String() + "</metadata>"))
	for depth := 0; ; {
		token, err := d.Token()
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			if depth--; depth == 0 && int(d.InputOffset()) < len("<metadata>")+ascii.Len()+len("</metadata>") {
				return false
			}
		case xml.Directive:
			return false
		}
	}
}

func TestNestsKnowsWhatNests(t *testing.T) {
	for _, text := range []string{"", "a", "<a/>", "<😀/>", "<a>\xff</a>", "<!-- </metadata> -->"} {
		if !nests(text) {
			t.Errorf("%q does not", text)
		}
	}
	for _, text := range []string{"<a>", "</metadata>", "</metadata><metadata>", "<!--", "<!DOCTYPE a>"} {
		if nests(text) {
			t.Errorf("%q does", text)
		}
	}
}
