package domainxml

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"
)

var update = flag.Bool("update", false, "write the golden files")

// documents are all captures and the whole corpus, by path.
func documents(t testing.TB) map[string][]byte {
	t.Helper()
	docs := make(map[string][]byte)
	for pattern, least := range map[string]int{
		"../testdata/captures/*/*/stdin.xml":      10,
		"../testdata/captures/status/*.stdin.xml": 1,
		"testdata/corpus/*.xml":                   100,
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < least {
			t.Fatalf("%s: %d files, %v; want at least %d", pattern, len(files), err, least)
		}
		for _, f := range files {
			if docs[f], err = os.ReadFile(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	return docs
}

// view holds the fields that Parse and libvirtxml both return.
type view struct {
	Type, Name, UUID, Title, Description string
	ID                                   int
	MemoryBytes                          uint64
	VCPUs                                int
	Arch, Machine                        string
	Disks                                []Disk
	Interfaces                           []Interface
	Hostdevs                             []Hostdev
}

func viewOf(d *Domain) view {
	return view{d.Type, d.Name, d.UUID, d.Title, d.Description, d.ID, d.MemoryBytes, d.VCPUs, d.Arch, d.Machine, d.Disks, d.Interfaces, d.Hostdevs}
}

// units is the table of docs/formatdomain.rst, written out, so that it does not share a mistake
// with unitBytes.
var units = map[string]uint64{
	"": 1024, "b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024,
	"MB": 1e6, "M": 1048576, "MiB": 1048576, "GB": 1e9, "G": 1073741824, "GiB": 1073741824,
	"TB": 1e12, "T": 1099511627776, "TiB": 1099511627776, "PiB": 1125899906842624, "PB": 1e15, "EB": 1e18, "EiB": 1152921504606846976,
}

func viewOfLibvirtxml(t testing.TB, l *libvirtxml.Domain) view {
	v := view{Type: l.Type, Name: l.Name, UUID: strings.ToLower(strings.TrimSpace(l.UUID)), Title: l.Title, Description: l.Description, VCPUs: 1}
	if l.ID != nil {
		v.ID = *l.ID
	}
	if l.Memory != nil {
		unit, ok := units[l.Memory.Unit]
		if !ok {
			t.Skipf("a unit that the table has not: %q", l.Memory.Unit)
		}
		v.MemoryBytes = uint64(l.Memory.Value) * unit
	}
	if l.VCPU != nil {
		v.VCPUs = int(l.VCPU.Value)
	}
	if l.OS != nil && l.OS.Type != nil {
		v.Arch, v.Machine = l.OS.Type.Arch, l.OS.Type.Machine
	}
	if l.Devices != nil {
		for _, d := range l.Devices.Disks {
			v.Disks = append(v.Disks, laxDisk(d))
		}
		for _, i := range l.Devices.Interfaces {
			v.Interfaces = append(v.Interfaces, laxInterface(i))
		}
		for _, h := range l.Devices.Hostdevs {
			v.Hostdevs = append(v.Hostdevs, laxHostdev(h))
		}
	}
	return v
}

func TestEveryDocumentReadsAsLibvirtxmlReadsIt(t *testing.T) {
	for file, doc := range documents(t) {
		t.Run(file, func(t *testing.T) {
			d, err := Parse(doc)
			if err != nil {
				t.Fatal(err)
			}
			if d.MetadataErr != nil {
				t.Error(d.MetadataErr)
			}
			var lax libvirtxml.Domain
			if err := lax.Unmarshal(string(doc)); err != nil {
				t.Fatal(err)
			}
			got := viewOf(d)
			if diff := cmp.Diff(viewOfLibvirtxml(t, &lax), got); diff != "" {
				t.Errorf("view (-libvirtxml +ours):\n%s", diff)
			}
			whole, err := d.Libvirt()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&lax, whole); diff != "" {
				t.Errorf("Libvirt() (-libvirtxml +ours):\n%s", diff)
			}
			if _, err := d.Tree(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCorpusDomainsAreAllDifferent(t *testing.T) {
	names, uuids := make(map[string]string), make(map[string]string)
	for file, doc := range documents(t) {
		if !strings.HasPrefix(file, "testdata") {
			continue
		}
		d, err := Parse(doc)
		if err != nil {
			t.Fatal(file, err)
		}
		for of, seen := range map[string]map[string]string{d.Name: names, d.UUID: uuids} {
			if other, ok := seen[of]; ok {
				t.Errorf("%q is in %s and in %s", of, other, file)
			}
			seen[of] = file
		}
	}
}

func TestPgPrimary01IsAsItsGoldenSays(t *testing.T) {
	doc, err := os.ReadFile("../testdata/captures/pg-primary-01/stop/stdin.xml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(d)
	if len(v.Disks) != 3 || len(v.Interfaces) != 2 || len(v.Hostdevs) != 0 {
		t.Errorf("%d disks, %d interfaces, %d hostdevs; want 3, 2, 0", len(v.Disks), len(v.Interfaces), len(v.Hostdevs))
	}
	v.Disks, v.Interfaces, v.Hostdevs = nil, nil, nil
	want := view{
		Type: "qemu", ID: 33, Name: "pg-primary-01", UUID: "d19e7151-4c02-4aa7-a443-59213be70aba",
		Title:       "PostgreSQL primary (billing)",
		Description: "Owner: dba@corp.example. Do not stop without failover — see runbook RB-17 & call first.",
		MemoryBytes: 128 << 20, VCPUs: 2, Arch: "x86_64", Machine: "pc-q35-7.2",
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	const nova = "http://openstack.org/xmlns/libvirt/nova/1.1"
	leaf := func(space, name, text string, attr ...string) Element {
		e := Element{Name: name, Namespace: space, Attributes: map[string]string{}, Text: text, Children: []Element{}}
		for i := 0; i < len(attr); i += 2 {
			e.Attributes[attr[i]] = attr[i+1]
		}
		return e
	}
	node := func(e Element, children ...Element) Element {
		e.Children = children
		return e
	}
	const libosinfo = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
	metadata := []Element{
		node(leaf(libosinfo, "libosinfo", ""), leaf(libosinfo, "os", "", "id", "http://debian.org/debian/12")),
		node(leaf(nova, "instance", ""),
			leaf(nova, "package", "", "version", "31.0.0"),
			leaf(nova, "name", "pg-primary-01"),
			leaf(nova, "creationTime", "2026-03-02 10:11:12"),
			node(leaf(nova, "flavor", "", "name", "m1.db", "id", "42"), leaf(nova, "memory", "128"), leaf(nova, "vcpus", "2")),
			node(leaf(nova, "owner", ""),
				leaf(nova, "user", "alice", "uuid", "11111111-2222-3333-4444-555555555555"),
				leaf(nova, "project", "billing-prod", "uuid", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"))),
		leaf("urn:stopguard:protection:1", "protection", "", "reason", "billing primary", "owner", "dba@corp.example", "until", "2099-06-30T00:00:00Z"),
	}
	if diff := cmp.Diff(metadata, d.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}

	tree, err := d.Tree()
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(tree, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/pg-primary-01.tree.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tall, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(tall), string(got)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestTreeAndMetadataTellTheSame(t *testing.T) {
	for file, doc := range documents(t) {
		d, err := Parse(doc)
		if err != nil {
			t.Fatal(file, err)
		}
		tree, err := d.Tree()
		if err != nil {
			t.Fatal(file, err)
		}
		got := []Element{}
		for _, e := range tree.Children {
			if e.Name == "metadata" && e.Namespace == "" {
				got = e.Children
			}
		}
		if diff := cmp.Diff(d.Metadata, got); diff != "" {
			t.Errorf("%s (-Metadata +Tree):\n%s", file, diff)
		}
	}
}

// plain is a domain that the tables below change in one place.
const plain = `<domain type='kvm' id='1'>
  <name>web</name>
  <uuid>0b2d4d57-9e5b-4c9c-8a5e-1f0f2a7a0a01</uuid>
  <title>front</title>
  <metadata>
    <a:note xmlns:a='urn:a'>x</a:note>
  </metadata>
  <memory unit='KiB'>1024</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <devices>
    <disk type='file'><source file='/a'/><target dev='vda'/></disk>
  </devices>
</domain>
`

func TestWhatMayBeReadInTwoWaysIsRefused(t *testing.T) {
	tests := []struct{ why, old, new, want string }{
		{"an empty document is what a hook gets when libvirt gives none", plain, "", "line 1, column 1: /: no root element; expected <domain>"},
		{"something else than a domain", plain, "<network/>", `line 1, column 1: /network: the root element is <network> in namespace ""; expected <domain> in none`},
		{"the status file is not the domain, which is inside of it", plain, "<domstatus>" + plain + "</domstatus>", `line 1, column 1: /domstatus: the root element is <domstatus> in namespace ""; expected <domain> in none`},
		{"a root in a default namespace is another domain", "<domain type", "<domain xmlns='urn:x' type", `line 1, column 1: /domain: the root element is <domain> in namespace "urn:x"; expected <domain> in none`},
		{"encoding/xml takes a prefix of the empty namespace for none", plain, "<x:domain xmlns:x=''/>", "line 1, column 1: /: prefix x is declared as the empty namespace"},
		{"the same below the root", "<name>web</name>", "<x:name xmlns:x=''>web</x:name>", "line 2, column 3: /domain: prefix x is declared as the empty namespace"},
		{"libvirtxml stops after the root", "</domain>\n", "</domain>\n<domain/>", "line 17, column 1: /: a second root element; a document holds one <domain>"},
		{"text after the root", "</domain>\n", "</domain>\ntrailing", "line 17, column 1: /: text outside of the root element; a document holds one <domain> and nothing else"},
		{"text before the root, such as a byte order mark", "<domain type", "\ufeff<domain type", "line 1, column 1: /: text outside of the root element; a document holds one <domain> and nothing else"},
		{"CDATA is text, even with white space only", "</domain>\n", "</domain><![CDATA[ ]]>", "line 16, column 10: /: a CDATA section outside of the root element"},
		{"a reference is text, even to white space", "</domain>\n", "</domain>&#32;", "line 16, column 10: /: text outside of the root element; a document holds one <domain> and nothing else"},
		{"a document type may define entities", "<domain type", "<!DOCTYPE domain [<!ENTITY a 'b'>]>\n<domain type", "line 1, column 1: /: a document type or another directive; libvirt writes none, so take it out"},
		{"a directive within", "<vcpu>", "<!ELEMENT x><vcpu>", "line 9, column 3: /domain: a document type or another directive; libvirt writes none, so take it out"},
		{"a hook's standard input was cut short", "  </devices>\n</domain>\n", "", "line 15, column 1: /domain/devices: the document ends before </devices>; it may have been cut short"},
		{"cut within a tag", "    <disk type='file'><source file='/a'/><target dev='vda'/></disk>\n  </devices>\n</domain>\n", "    <disk type", "line 14, column 11: /domain/devices: attribute type has no value"},
		{"cut within a comment", "</domain>\n", "<!-- ", "line 16, column 1: /domain: a comment that is never closed with -->"},
		{"cut within metadata: libvirt would not have written it", "  </metadata>", "", "line 16, column 1: /domain/metadata: </domain> where </metadata> is due"},
		{"metadata that does not nest: libxml2 refuses it, too", "<a:note xmlns:a='urn:a'>x</a:note>", "<b>", "line 7, column 3: /domain/metadata/b: </metadata> where </b> is due"},
		{"elements that do not nest", "<vcpu>2</vcpu>", "<vcpu>2</vpcu>", "line 9, column 10: /domain/vcpu: </vpcu> where </vcpu> is due"},
		{"prefixes of end tags count", "<vcpu>2</vcpu>", "<a:b xmlns:a='urn:a' xmlns:c='urn:a'></c:b>", "line 9, column 40: /domain/a:b: </c:b> where </a:b> is due"},
		{"an attribute twice: encoding/xml takes both, libvirtxml the last", "type='kvm'", "type='kvm' type='lxc'", "line 1, column 1: /: <domain> has a second attribute type"},
		{"twice by its namespace", "<vcpu>", "<vcpu xmlns:a='u' xmlns:b='u' a:c='1' b:c='2'>", "line 9, column 3: /domain: <vcpu> has a second attribute c"},
		{"a namespace declared twice", "<vcpu>", "<vcpu xmlns:a='u' xmlns:a='v'>", "line 9, column 3: /domain: a second attribute a"},
		{"many attributes take another way", "<vcpu>", "<vcpu" + manyAttributes(20) + " a7=''>", "line 9, column 3: /domain: <vcpu> has a second attribute a7"},
		{"a prefix that is not declared", "<vcpu>", "<vcpu x:y='1'>", "line 9, column 3: /domain: prefix x of y is not declared; add xmlns:x"},
		{"of an element", "<vcpu>2</vcpu>", "<x:vcpu>2</x:vcpu>", "line 9, column 3: /domain: prefix x of vcpu is not declared; add xmlns:x"},
		{"a prefix ends with its element", "<vcpu>2</vcpu>", "<a:b xmlns:a='u'/><a:c/>", "line 9, column 21: /domain: prefix a of c is not declared; add xmlns:a"},
		{"xmlns is no prefix of elements", "<vcpu>2</vcpu>", "<xmlns:vcpu/>", "line 9, column 3: /domain: prefix xmlns of vcpu is not declared; add xmlns:xmlns"},
		{"xml is bound for good", "<vcpu>", "<vcpu xmlns:xml='u'>", `line 9, column 3: /domain: prefix "xml" cannot be declared as "u"`},
		{"a name without a prefix before its colon", "<vcpu>2</vcpu>", "<:vcpu/>", `line 9, column 3: /domain: ":vcpu" has a colon that separates no prefix from a name`},
		{"encoding/xml needs no space between attributes", "type='kvm' ", "type='kvm'", "line 1, column 19: /: white space is missing before an attribute of <domain>"},
		{"a second name: libvirt takes the first, libvirtxml the last", "<vcpu>2</vcpu>", "<name>db</name>", "line 9, column 3: /domain/name: a second <name>; a domain has one"},
		{"a second uuid", "<vcpu>2</vcpu>", "<uuid>x</uuid>", "line 9, column 3: /domain/uuid: a second <uuid>; a domain has one"},
		{"a second metadata, where a mark could be hidden", "<vcpu>2</vcpu>", "<metadata/>", "line 9, column 3: /domain/metadata: a second <metadata>; a domain has one"},
		{"a second title", "<vcpu>2</vcpu>", "<title/>", "line 9, column 3: /domain/title: a second <title>; a domain has one"},
		{"a second description", "<vcpu>2</vcpu>", "<description/><description/>", "line 9, column 17: /domain/description: a second <description>; a domain has one"},
		{"a second memory", "<vcpu>2</vcpu>", "<memory>1</memory>", "line 9, column 3: /domain/memory: a second <memory>; a domain has one"},
		{"a second vcpu", "<vcpu>2</vcpu>", "<vcpu>2</vcpu><vcpu>2</vcpu>", "line 9, column 17: /domain/vcpu: a second <vcpu>; a domain has one"},
		{"a second os", "<vcpu>2</vcpu>", "<os/>", "line 10, column 3: /domain/os: a second <os>; a domain has one"},
		{"a second type of os", "<os>", "<os><type/>", "line 11, column 5: /domain/os/type: a second <type>; <os> has one"},
		{"a second list of devices", "<vcpu>2</vcpu>", "<devices/>", "line 13, column 3: /domain/devices: a second <devices>; a domain has one"},
		{"no name", "<name>web</name>", "", "line 1, column 1: /domain: no <name>; a domain has one"},
		{"a name in another namespace is none", "<name>web</name>", "<x:name xmlns:x='u'>web</x:name>", "line 1, column 1: /domain: no <name>; a domain has one"},
		{"a name deeper down is none", "<name>web</name>", "<x><name>web</name></x>", "line 1, column 1: /domain: no <name>; a domain has one"},
		{"an empty name", "<name>web</name>", "<name/>", "line 2, column 3: /domain/name: an empty name"},
		{"libvirt would read <name>web-1, encoding/xml web", "<name>web</name>", "<name>web<b>-1</b></name>", "line 2, column 12: /domain/name/b: an element where only text may be"},
		{"no uuid", "<uuid>0b2d4d57-9e5b-4c9c-8a5e-1f0f2a7a0a01</uuid>", "", "line 1, column 1: /domain: no <uuid>; a domain has one"},
		{"a uuid without its hyphens", "0b2d4d57-9e5b-", "0b2d4d579e5b", `line 3, column 3: /domain/uuid: "0b2d4d579e5b4c9c-8a5e-1f0f2a7a0a01" is no UUID; expected 8-4-4-4-12 hexadecimal digits`},
		{"a uuid with another letter", "0b2d4d57", "0b2d4d5g", `line 3, column 3: /domain/uuid: "0b2d4d5g-9e5b-4c9c-8a5e-1f0f2a7a0a01" is no UUID; expected 8-4-4-4-12 hexadecimal digits`},
		{"an id that is no number", "id='1'", "id='one'", `line 1, column 1: /domain: id "one" is not a number from 0 to 2147483647`},
		{"an id below zero", "id='1'", "id='-1'", `line 1, column 1: /domain: id "-1" is not a number from 0 to 2147483647`},
		{"memory that is no number", ">1024<", ">1 GiB<", `line 8, column 3: /domain/memory: "1 GiB" is not a number from 0 to 2^64-1`},
		{"libvirtxml reads an empty memory as 0", ">1024<", "><", `line 8, column 3: /domain/memory: "" is not a number from 0 to 2^64-1`},
		{"memory of an unknown unit", "unit='KiB'", "unit='pages'", `line 8, column 3: /domain/memory: unit "pages" is unknown; expected b, bytes, or one of K, M, G, T, P, E, alone or with B or iB`},
		{"memory that overflows", "unit='KiB'>1024", "unit='EiB'>16", "line 8, column 3: /domain/memory: 16 EiB is more than 2^64-1 bytes"},
		{"a vcpu that is no number", "<vcpu>2", "<vcpu>two", `line 9, column 3: /domain/vcpu: "two" is not a number from 0 to 2147483647`},
		{"a vcpu that is empty", "<vcpu>2", "<vcpu>", `line 9, column 3: /domain/vcpu: "" is not a number from 0 to 2147483647`},
		{"nested too deep", "<vcpu>2</vcpu>", strings.Repeat("<a>", 256), "line 9, column 768: /domain" + strings.Repeat("/a", 255) + ": elements nested deeper than 256"},
		{"an entity that is not defined", "<vcpu>2", "<vcpu>&two;", "line 9, column 14: /domain/vcpu: invalid character entity &two;"},
		{"markup is not continued behind the owner's part", "<title>front</title>", "&am<title/>p;", "line 4, column 6: /domain: invalid character entity &am (no semicolon)"},
		{"invalid UTF-8", "<vcpu>2", "<vcpu>\xff", "line 9, column 10: /domain/vcpu: invalid UTF-8"},
		{"invalid UTF-8 in a comment, which encoding/xml does not look at", "<vcpu>2", "<vcpu><!-- \xff -->2", "line 9, column 9: /domain/vcpu: invalid UTF-8"},
		{"a control character in an instruction", "<vcpu>2", "<vcpu><?a \x01?>2", "line 9, column 9: /domain/vcpu: a character that XML does not allow"},
		{"two hyphens in a comment", "<vcpu>", "<!-- a -- b --><vcpu>", `line 9, column 13: /domain: invalid sequence "--" not allowed in comments`},
		{"another encoding", "<domain type", "<?xml version='1.0' encoding='latin1'?><domain type", `line 1, column 21: /: encoding "latin1" in the XML declaration; a domain is XML 1.0 in UTF-8`},
		{"encoding/xml finds no encoding with blanks around the =", "<domain type", "<?xml version='1.0' encoding = 'latin1'?><domain type", `line 1, column 21: /: encoding "latin1" in the XML declaration; a domain is XML 1.0 in UTF-8`},
		{"XML 1.1", "<domain type", "<?xml version='1.1'?><domain type", `line 1, column 7: /: version "1.1" in the XML declaration; a domain is XML 1.0 in UTF-8`},
		{"a declaration of nothing", "<domain type", "<?xml ?><domain type", "line 1, column 1: /: no version in the XML declaration; a domain is XML 1.0 in UTF-8"},
		{"a declaration in the wrong order", "<domain type", "<?xml encoding='UTF-8' version='1.0'?><domain type", "line 1, column 7: /: encoding is misplaced in the XML declaration; the order is version, encoding, standalone"},
		{"a declaration that is not at the start", "<domain type", "\n<?xml version='1.0'?><domain type", "line 2, column 1: /: an XML declaration that is not at the start of the document"},
		{"a declaration within", "<vcpu>", "<?xml version='1.0'?><vcpu>", "line 9, column 3: /domain: an XML declaration that is not at the start of the document"},
	}
	for _, test := range tests {
		t.Run(test.why, func(t *testing.T) {
			doc := strings.Replace(plain, test.old, test.new, 1)
			if doc == plain {
				t.Fatal("the row changes nothing")
			}
			d, err := Parse([]byte(doc))
			if err == nil {
				t.Fatalf("read as %+v", d)
			}
			if diff := cmp.Diff("domainxml: "+test.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" a" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "='' a" + string(rune('a'+i)) + "=''")
	}
	return strings.Replace(b.String(), "a07", "a7", 1)
}

func TestWhatAnOwnerWritesIsNeverAnError(t *testing.T) {
	const note = "<a:note xmlns:a='urn:a'>x</a:note>"
	tests := []struct {
		why, old, new string
		want          string // of MetadataErr; "" if it can be read
		title         string
		metadata      int // children that were read
	}{
		{"a name of XML 1.0's fifth edition", note, "<😀/>", "line 6, column 10: /domain/metadata: invalid XML name: 😀", "front", 0},
		{"such a name of an attribute", note, "<a 😀='1'/>", "line 6, column 12: /domain/metadata: invalid XML name: 😀", "front", 0},
		{"such a name of metadata's own attribute", "<metadata>", "<metadata 😀='1'>", "line 5, column 17: /domain: invalid XML name: 😀", "front", 0},
		{"a prefix that is not declared: libxml2 warns", note, "<x:y/>", "line 6, column 5: /domain/metadata: prefix x of y is not declared; add xmlns:x", "front", 0},
		{"a prefix declared as nothing", note, "<a xmlns:p=''/>", "line 6, column 5: /domain/metadata: prefix p is declared as the empty namespace", "front", 0},
		{"two colons", note, "<a:b:c/>", "line 6, column 11: /domain/metadata: expected element name after <", "front", 0},
		{"an attribute twice by its namespace", note, "<a xmlns:b='u' xmlns:c='u' b:d='' c:d=''/>", "line 6, column 5: /domain/metadata: <a> has a second attribute d", "front", 0},
		{"as deep as libxml2 allows, and one more", note, strings.Repeat("<a>", 255) + strings.Repeat("</a>", 255), "line 6, column 767: /domain/metadata" + strings.Repeat("/a", 254) + ": elements nested deeper than 256", "front", 0},
		{"far too deep", note, strings.Repeat("<a>", 50000) + strings.Repeat("</a>", 50000), "line 5, column 3: /domain/metadata: 350008 bytes; at most 262144 are read", "front", 0},
		{"deep enough to forget what is open", note, strings.Repeat("<a>", 30000) + strings.Repeat("</a>", 30000), "line 6, column 767: /domain/metadata" + strings.Repeat("/a", 254) + ": elements nested deeper than 256", "front", 0},
		{"as deep as may be", note, strings.Repeat("<a>", 254) + strings.Repeat("</a>", 254), "", "front", 1},
		{"too much metadata", note, "<a>" + strings.Repeat("x", 256<<10) + "</a>", "line 5, column 3: /domain/metadata: 262159 bytes; at most 262144 are read", "front", 0},
		{"as much as may be", "\n    " + note + "\n  ", "<a>" + strings.Repeat("x", 256<<10-7) + "</a>", "", "front", 1},
		{"invalid UTF-8", note, "<a>\xff</a>", "line 6, column 9: /domain/metadata/a: invalid UTF-8", "front", 0},
		{"an entity that is not defined", note, "<a>&b;</a>", "line 6, column 11: /domain/metadata/a: invalid character entity &b;", "front", 0},
		{"an XML declaration within", note, "<?xml version='1.0'?>", "line 6, column 5: /domain/metadata: an XML declaration that is not at the start of the document", "front", 0},
		{"no space between attributes", note, "<a b='1'c='2'/>", "", "front", 1},
		{"more elements than rules can look at in time", note, strings.Repeat("<a b=''/>", 2001), "line 5, column 3: /domain/metadata: 4002 elements and attributes; at most 4000 are read", "front", 0},
		{"a name space that is long in every element", note, "<n:a xmlns:n='" + strings.Repeat("x", 1000) + "'>" + strings.Repeat("<n:b/>", 1000) + "</n:a>", "line 5, column 3: /domain/metadata: 1002001 bytes when every name space is written out; at most 262144 are read", "front", 0},
		{"too long a title", ">front<", ">" + strings.Repeat("x", 24<<20+1) + "<", "line 4, column 3: /domain/title: 25165825 bytes; at most 25165824 are read", "", 1},
		{"as long a title as may be", ">front<", ">" + strings.Repeat("x", 64<<10) + "<", "", strings.Repeat("x", 64<<10), 1},
		{"a title that virDomainSetMetadata was given, which no parser has seen", ">front<", ">fr\xf6nt<", "line 4, column 15: /domain/title: invalid UTF-8", "", 1},
		{"an element in the title", ">front<", "><b>front</b><", "line 4, column 10: /domain/title/b: an element where only text may be", "", 1},
		{"too long a description", "<title>front</title>", "<description>" + strings.Repeat("x", 24<<20+1) + "</description>", "line 4, column 3: /domain/description: 25165825 bytes; at most 25165824 are read", "", 1},
		{"trouble in two parts", "<title>front</title>\n  <metadata>", "<title>&b;</title>\n  <metadata><😀/>", "line 4, column 13: /domain/title: invalid character entity &b;\ndomainxml: line 5, column 18: /domain/metadata: invalid XML name: 😀", "", 0},
		{"an end in a comment is none", note, "<!-- </metadata><name>db</name> -->", "", "front", 0},
		{"an end in CDATA is none", note, "<a><![CDATA[</a></metadata><name>db</name>]]></a>", "", "front", 1},
		{"an end in an instruction is none", note, "<?a </metadata><name>db</name> ?>", "", "front", 0},
		{"an end in an attribute is none", note, `<a b="/>" c='>&lt;/metadata>'/>`, "", "front", 1},
		{"metadata in metadata", note, "<metadata><metadata/><name>db</name></metadata>", "", "front", 1},
		{"metadata in a comment is none", "<metadata>", "<!-- <metadata> --><metadata>", "", "front", 1},
		{"metadata in CDATA is none", "<metadata>", "<cpu><![CDATA[<metadata>]]></cpu><metadata>", "", "front", 1},
		{"metadata below devices is none", "<devices>", "<devices><metadata><a/></metadata><title>no</title>", "", "front", 1},
		{"metadata in another namespace is none", "<vcpu>", "<metadata xmlns='urn:x'><a/></metadata><title xmlns='urn:x'/><vcpu>", "", "front", 1},
		{"but in no namespace it is", "<metadata>", "<metadata xmlns=''>", "", "front", 1},
		{"white space in the end tag", "</metadata>", "</metadata \n>", "", "front", 1},
		{"a prefix that the root declares", note, "<r:a/>", "", "front", 1},
	}
	for _, test := range tests {
		t.Run(test.why, func(t *testing.T) {
			base := strings.Replace(plain, "id='1'", "id='1' xmlns:r='urn:r'", 1)
			doc := strings.Replace(base, test.old, test.new, 1)
			if doc == base {
				t.Fatal("the row changes nothing")
			}
			d, err := Parse([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			said := ""
			if d.MetadataErr != nil {
				said = d.MetadataErr.Error()
			}
			if test.want != "" {
				test.want = "domainxml: " + test.want
			}
			if diff := cmp.Diff(test.want, said); diff != "" {
				t.Errorf("MetadataErr (-want +got):\n%s", diff)
			}
			if (d.Metadata == nil) != strings.Contains(said, "/domain/metadata") && !strings.Contains(test.old, "<metadata>") {
				t.Errorf("Metadata is %v with %q", d.Metadata, said)
			}
			if d.Title != test.title || len(d.Metadata) != test.metadata {
				t.Errorf("title of %d bytes, %d elements of metadata; want %d, %d", len(d.Title), len(d.Metadata), len(test.title), test.metadata)
			}
			if diff := cmp.Diff(outside(t, plain), outside(t, doc)); diff != "" {
				t.Errorf("the rest (-want +got):\n%s", diff)
			}
		})
	}
}

// outside returns the part of a document that its owner cannot write.
func outside(t testing.TB, doc string) view {
	t.Helper()
	d, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(d)
	l, err := d.Libvirt()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.Disks, viewOfLibvirtxml(t, l).Disks); diff != "" || l.Name != v.Name || l.Title != v.Title || d.Metadata == nil != (l.Metadata == nil) {
		t.Fatalf("Libvirt() says otherwise: %s", diff)
	}
	if _, err := d.Tree(); err != nil {
		t.Fatal(err)
	}
	v.Title, v.Description = "", ""
	return v
}

func TestForeignElementsAndAttributesAreNotMistakenForOurs(t *testing.T) {
	doc := strings.NewReplacer(
		"<domain type='kvm' id='1'>", "<domain x:type='lxc' type='kvm' id='1' x:id='2' xmlns:x='urn:x' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
		"<os>", "<os><x:type arch='s390x'/>",
		"<devices>", "<devices><x:disk type='block'/>",
		"<source file='/a'/>", "<x:source file='/x'/><source x:file='/y' file='/a'/><x:target dev='vdb'/>",
		"</domain>", "<x:name>db</x:name><x:uuid/><x:memory/><x:vcpu/><x:devices><disk/></x:devices><qemu:name>db</qemu:name>"+
			"<qemu:commandline><qemu:arg value='-s'/></qemu:commandline></domain>",
	).Replace(plain)
	if diff := cmp.Diff(outside(t, plain), outside(t, doc)); diff != "" {
		t.Errorf("(-without +with):\n%s", diff)
	}
	d, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Libvirt()
	if err != nil {
		t.Fatal(err)
	}
	if *l.ID != 1 || l.Type != "kvm" || l.UUID != d.UUID || l.VCPU.Value != 2 || l.OS.Type.Arch != "x86_64" {
		t.Errorf("Libvirt() says otherwise: %+v", l)
	}
	if l.QEMUCommandline == nil || len(l.QEMUCommandline.Args) != 1 || l.QEMUCommandline.Args[0].Value != "-s" {
		t.Errorf("qemu:commandline is lost: %+v", l.QEMUCommandline)
	}
}

func TestMemoryUnitsAreLibvirts(t *testing.T) {
	for unit, want := range units {
		for _, spelt := range []string{unit, strings.ToLower(unit), strings.ToUpper(unit)} {
			d, err := Parse([]byte(strings.Replace(plain, "unit='KiB'>1024", "unit='"+spelt+"'> 3\n", 1)))
			if err != nil {
				t.Fatal(err)
			}
			if d.MemoryBytes != 3*want {
				t.Errorf("3 %s is %d; want %d", spelt, d.MemoryBytes, 3*want)
			}
		}
	}
}

func TestWhatIsAbsentIsAsDocumented(t *testing.T) {
	d, err := Parse([]byte("<domain><name>a</name><uuid>0B2D4D57-9E5B-4C9C-8A5E-1F0F2A7A0A01</uuid></domain>"))
	if err != nil {
		t.Fatal(err)
	}
	got := viewOf(d)
	if diff := cmp.Diff(view{Name: "a", UUID: "0b2d4d57-9e5b-4c9c-8a5e-1f0f2a7a0a01", VCPUs: 1}, got); diff != "" {
		t.Error(diff)
	}
	if d.Metadata == nil || len(d.Metadata) != 0 {
		t.Errorf("Metadata is %#v; want an empty slice", d.Metadata)
	}
	if l, err := d.Libvirt(); err != nil || l.Name != "a" || l.Metadata != nil {
		t.Error(l, err)
	}
}

// A newer libvirt's device must not be a fault of the whole domain, and not be lost either.
func TestADeviceThatLibvirtxmlCannotDecodeIsThere(t *testing.T) {
	d, err := Parse([]byte(strings.Replace(plain, "</devices>", `<interface><mac address='x'/></interface>
<disk type='quantum'><source entangled='yes'/><target dev='vdz'/></disk>
<hostdev mode='subsystem' type='pci'><source><address domain='many'/></source></hostdev>
<hostdev mode='subsystem' type='neural'/></devices>`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Interface{{Type: "user", MAC: "x"}}, d.Interfaces); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Disk{Type: "quantum", Device: "disk", Target: "vdz", Bus: "virtio"}, d.Disks[len(d.Disks)-1]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Hostdev{{Type: "pci", Mode: "subsystem", Source: "0000:00:00.0"}, {Type: "neural", Mode: "subsystem"}}, d.Hostdevs); diff != "" {
		t.Error(diff)
	}
	if _, err := d.Libvirt(); err == nil {
		t.Error("Libvirt() does not mind")
	}
}

func TestADomainThatParseDidNotMakeHasNothing(t *testing.T) {
	d := &Domain{Name: "by hand"}
	got := viewOf(d)
	if diff := cmp.Diff(view{Name: "by hand"}, got); diff != "" {
		t.Error(diff)
	}
	if l, err := d.Libvirt(); l != nil || err == nil {
		t.Error(l, err)
	}
	if tree, err := d.Tree(); tree.Name != "" || err != nil {
		t.Error(tree, err)
	}
}

func TestADomainMayBeReadByManyAtOnce(t *testing.T) {
	doc, err := os.ReadFile("testdata/corpus/every-other-device.xml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			if v := viewOf(d); len(v.Disks) != 1 {
				t.Error(v)
			}
			if l, err := d.Libvirt(); err != nil || l.Name != d.Name {
				t.Error(err)
			}
			if tree, err := d.Tree(); err != nil || tree.Name != "domain" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAnOwnerCannotMakeParseSlow(t *testing.T) {
	var attributes, bindings strings.Builder
	for i := range 15000 {
		fmt.Fprintf(&attributes, " a%d=''", i)
		if i < 8000 {
			fmt.Fprintf(&bindings, " xmlns:p%d='u'", i)
		}
	}
	for why, inside := range map[string]string{
		"attributes": "<a" + attributes.String() + "/>",
		"namespaces": "<a" + bindings.String() + ">" + strings.Repeat("<p0:a/>", 15000) + "</a>",
		"comments":   strings.Repeat("<!---->", 37000),
		"elements":   strings.Repeat("<a/>", 65000),
	} {
		doc := []byte(strings.Replace(plain, "<a:note xmlns:a='urn:a'>x</a:note>", inside, 1))
		// Half of what a hook has for everything, in the best of three, for the machine has other
		// work too. What grows with the square takes far longer each time.
		took := time.Hour
		for i := 0; i < 3 && took > time.Second; i++ {
			start := time.Now()
			if d, err := Parse(doc); err != nil {
				t.Fatal(why, err, d)
			}
			took = min(took, time.Since(start))
		}
		if took > time.Second {
			t.Errorf("%s: %v", why, took)
		}
	}
}
