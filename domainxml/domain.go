// Package domainxml reads a libvirt domain's XML strictly.
//
// [Parse] reads the XML that libvirt gives a hook, or that virsh dumpxml prints, and returns the
// fields that a policy reads. A guard must see the document as libvirt does, so an ambiguous
// document is an error: a second name, a duplicate attribute, a document type, anything after the
// root. The rest is decoded on demand, as elements or into the types of libvirt.org/go/libvirtxml.
//
// The guest's owner may write the title, description and metadata. They cannot make Parse fail: if
// they cannot be read, [Domain.MetadataErr] says why, and the rest of the document is read.
package domainxml

import (
	"errors"
	"io"
)

// A Domain is a domain as its XML describes it. It is safe for concurrent use. Callers must not
// change its fields or the values that its methods return.
type Domain struct {
	// Type is the hypervisor, such as qemu, kvm, lxc or xen; "" if the document does not say.
	Type string
	// ID is libvirt's number for a running domain; 0 if the document has none.
	ID int
	// Name is the domain's name as it is written, with any blanks around it. It is never empty.
	Name string
	// UUID is in lower case, in the form 01234567-89ab-cdef-0123-456789abcdef.
	UUID string
	// Title and Description are the owner's texts; "" if absent or unreadable.
	Title, Description string
	// MemoryBytes is <memory>, the memory at boot, in bytes; 0 if absent. It is neither
	// <currentMemory> nor <maxMemory>.
	MemoryBytes uint64
	// VCPUs is <vcpu>, the maximum number of virtual CPUs; 1 if absent, as in libvirt.
	VCPUs int
	// Arch and Machine are attributes of <os><type>, such as x86_64 and pc-q35-7.2; "" if absent.
	Arch, Machine string
	// Metadata holds the children of <metadata>. It is empty if there are none, and nil if they
	// cannot be read.
	Metadata []Element
	// MetadataErr is set if the metadata, the title or the description cannot be read: encoding/xml
	// does not know a name in there, a prefix is not declared, an attribute occurs twice, elements
	// are nested deeper than 256, or there are more than 256 KiB or 4000 elements and attributes of
	// metadata, or 24 MiB of title or description. The parts that can be read are set.
	MetadataErr error
	// Disks, Interfaces and Hostdevs are the devices in the document's order; nil if there are
	// none.
	Disks      []Disk
	Interfaces []Interface
	Hostdevs   []Hostdev

	doc *document
}

// maxHead is the number of bytes that ParseHead reads at most. libvirt writes the UUID within the
// first few hundred.
const maxHead = 64 << 10

// IsHead reports whether [ParseHead] made the Domain.
func (d *Domain) IsHead() bool { return d.MetadataErr == errHead }

var errHead = errors.New("domainxml: the document is too large to be read")

// ParseHead parses the beginning of a document that is too large to be parsed: Type, ID, Name and
// UUID. MetadataErr says that the rest is missing. Libvirt and Tree return nothing.
func ParseHead(xml []byte) (*Domain, error) {
	text := string(xml[:min(len(xml), maxHead)])
	d := &Domain{VCPUs: 1, MetadataErr: errHead}
	p := &pass{reader: newReader(text, chunk{0, text}), d: d}
	for d.Name == "" || d.UUID == "" {
		k, err := p.next()
		if err == nil {
			err = p.token(k)
		}
		if err == io.EOF {
			err = p.fault(p.at, "the document ends early")
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Parse parses a domain's XML.
//
// It returns an error if
//   - the XML is not well-formed, not in UTF-8, or nested deeper than 256;
//   - the root is not <domain> in no namespace, or is surrounded by more than white space,
//     comments, processing instructions and an XML declaration;
//   - there is a document type, a duplicate attribute or an undeclared prefix;
//   - name, uuid, title, description, metadata, memory, vcpu, os, its type, or devices occurs
//     twice;
//   - name or uuid is missing or empty, or uuid, id, memory or vcpu is malformed.
//
// The error gives line, column (in bytes) and path. Elements of other namespaces are ignored.
// Nothing within title, description and metadata is an error as long as their ends can be found;
// see [Domain.MetadataErr].
func Parse(xml []byte) (*Domain, error) {
	text := string(xml)
	l, err := scan(text)
	if err != nil {
		return nil, err
	}
	d := &Domain{VCPUs: 1, Metadata: []Element{}, doc: &document{text: text, layout: l}}
	if err := d.readHost(); err != nil {
		return nil, err
	}
	d.readOwner()
	return d, nil
}
