// Package domainxml reads a libvirt domain's XML strictly.
//
// [Parse] takes what libvirt gives a hook, or what virsh dumpxml prints, and gives the fields that a policy reads. A guard
// must see the document as libvirt does, so whatever could be read in two ways is an error: a second name, a duplicate
// attribute, a document type, anything after the root. All that is not among these fields is decoded when it is asked for:
// as elements, or into the types of libvirt.org/go/libvirtxml.
//
// What the guest's owner may write, its title, description and metadata, cannot make Parse fail: if it cannot be read,
// [Domain.MetadataErr] says why, and the rest of the document is read as ever.
package domainxml

// Domain is a domain as its XML describes it. It is immutable and safe for concurrent use; whoever reads it must not change
// what its fields and methods give.
type Domain struct {
	// Type is the hypervisor: qemu, kvm, lxc, xen and so on. "" if the document does not say.
	Type string
	// ID is libvirt's number for a running domain; 0 if the document has none.
	ID int
	// Name is the domain's name, as it is written: never empty, and with any blanks around it.
	Name string
	// UUID is in lower case, in the form 01234567-89ab-cdef-0123-456789abcdef.
	UUID string
	// Title and Description are the owner's; "" if there is none, or if it cannot be read.
	Title, Description string
	// MemoryBytes is <memory>, the memory at boot, times its unit: neither <currentMemory> nor <maxMemory>. 0 if absent.
	MemoryBytes uint64
	// VCPUs is <vcpu>, the most virtual CPUs that the domain may have; 1 if absent, as for libvirt.
	VCPUs int
	// Arch and Machine are the attributes of <os><type>, for instance x86_64 and pc-q35-7.2; "" if absent.
	Arch, Machine string
	// Metadata are the children of <metadata>: an empty slice if there are none, nil if they cannot be read, and then
	// MetadataErr says why.
	Metadata []Element
	// MetadataErr is set if the metadata, the title or the description cannot be read: encoding/xml does not know a name
	// in there, a prefix is not declared, an attribute occurs twice, elements are nested deeper than 256, or there are
	// more than 256 KiB or 4000 elements and attributes of metadata, or 64 KiB of title or description. What can be read is still given.
	MetadataErr error
	// Disks, Interfaces and Hostdevs are those of <devices>, in the document's order; nil if there are none.
	Disks      []Disk
	Interfaces []Interface
	Hostdevs   []Hostdev

	doc *document
}

// Parse reads a domain.
//
// It is an error if xml is not well-formed or not in UTF-8; if its root is not <domain> in no namespace; if there is more
// around the root than white space, comments, processing instructions and an XML declaration; if there is a document type,
// a second attribute of one name, a prefix that is not declared, or a nesting deeper than 256; if name, uuid, title,
// description, metadata, memory, vcpu, os, its type, or devices occurs twice; if name or uuid is missing or empty; if uuid,
// id, memory or vcpu is not of the right form. The error says where: line, column (in bytes) and path. Elements of other
// namespaces are ignored. Nothing within title, description and metadata is an error as long as their ends can be found;
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
