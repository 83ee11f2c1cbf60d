package domainxml

import (
	"encoding/xml"
	"io"
	"slices"
	"strings"
	"sync"

	"libvirt.org/go/libvirtxml"
)

// document is what a Domain was read from, for what is decoded only when somebody asks.
type document struct {
	xml []byte
	layout
	devicesTag span // the start tag of <devices>

	disks      devices[libvirtxml.DomainDisk]
	interfaces devices[libvirtxml.DomainInterface]
	hostdevs   devices[libvirtxml.DomainHostdev]
	libvirt    later[*libvirtxml.Domain]
	tree       later[Element]
}

// later is a value that is made when it is first asked for.
type later[T any] struct {
	once  sync.Once
	value T
	err   error
}

func (l *later[T]) get(make func() (T, error)) (T, error) {
	l.once.Do(func() { l.value, l.err = make() })
	return l.value, l.err
}

// devices are the devices of one kind: where they are in the document, and what they are.
type devices[T any] struct {
	at []span
	later[[]T]
}

// Disks decodes the <disk> elements of <devices>, in the document's order. It is done once. It is an error if libvirtxml
// cannot decode one of them.
func (d *Domain) Disks() ([]libvirtxml.DomainDisk, error) {
	if d.doc == nil {
		return nil, nil
	}
	return decode(d.doc, &d.doc.disks)
}

// Interfaces decodes the <interface> elements of <devices>, as Disks does.
func (d *Domain) Interfaces() ([]libvirtxml.DomainInterface, error) {
	if d.doc == nil {
		return nil, nil
	}
	return decode(d.doc, &d.doc.interfaces)
}

// Hostdevs decodes the <hostdev> elements of <devices>, as Disks does.
func (d *Domain) Hostdevs() ([]libvirtxml.DomainHostdev, error) {
	if d.doc == nil {
		return nil, nil
	}
	return decode(d.doc, &d.doc.hostdevs)
}

// Libvirt decodes the whole document into libvirtxml's type, without those of the owner's parts that cannot be read. It is
// done once. Elements and attributes of other namespaces are left out, but for those of libvirt's drivers such as
// <qemu:commandline>. It is an error if libvirtxml cannot decode it. Nil for a Domain that Parse did not make.
func (d *Domain) Libvirt() (*libvirtxml.Domain, error) {
	if d.doc == nil {
		return nil, nil
	}
	return d.doc.libvirt.get(d.doc.decode)
}

// Tree gives the whole document as elements, without those of the owner's parts that cannot be read. It is done once. The
// zero Element for a Domain that Parse did not make.
func (d *Domain) Tree() (Element, error) {
	if d.doc == nil {
		return Element{}, nil
	}
	return d.doc.tree.get(d.doc.elements)
}

func decode[T any](doc *document, l *devices[T]) ([]T, error) {
	return l.get(func() ([]T, error) {
		if len(l.at) == 0 {
			return nil, nil
		}
		parts := append(make([]chunk, 0, len(l.at)+2), doc.chunk(doc.rootTag), doc.chunk(doc.devicesTag))
		for _, at := range l.at {
			parts = append(parts, doc.chunk(at))
		}
		t := &tokens{reader: newReader(doc.xml, parts...)}
		d := xml.NewTokenDecoder(t)
		list := make([]T, len(l.at))
		for i := 0; i < len(list); {
			token, err := d.Token()
			if err != nil {
				return nil, err
			}
			if start, ok := token.(xml.StartElement); ok && t.depth() == 3 {
				if err := d.DecodeElement(&list[i], &start); err != nil {
					return nil, fault(doc.xml, l.at[i].start, "/domain/devices/"+start.Name.Local, "libvirtxml: %v", err)
				}
				i++
			}
		}
		return list, nil
	})
}

func (doc *document) decode() (*libvirtxml.Domain, error) {
	d := new(libvirtxml.Domain)
	t := &tokens{reader: newReader(doc.xml, doc.cut(func(p part) []byte {
		switch {
		case p.unreadable:
			return nil
		case p.name == "metadata":
			return []byte("<metadata/>") // libvirtxml keeps the bytes, which a stream of tokens has not
		}
		return doc.xml[p.whole.start:p.whole.end]
	})...)}
	if err := xml.NewTokenDecoder(t).Decode(d); err != nil {
		return nil, fault(doc.xml, doc.rootTag.start, "/domain", "libvirtxml: %v", err)
	}
	if i := slices.IndexFunc(doc.parts, func(p part) bool { return p.name == "metadata" }); i >= 0 && d.Metadata != nil {
		d.Metadata.XML = string(doc.xml[doc.parts[i].inner.start:doc.parts[i].inner.end])
	}
	return d, nil
}

func (doc *document) elements() (Element, error) {
	r := newReader(doc.xml, doc.cut(func(p part) []byte {
		if p.unreadable {
			return nil
		}
		return doc.xml[p.whole.start:p.whole.end]
	})...)
	for {
		k, err := r.next()
		if err != nil {
			return Element{}, err
		}
		if k == startElement {
			return r.element()
		}
	}
}

func (doc *document) chunk(s span) chunk { return chunk{s.start, doc.xml[s.start:s.end]} }

// host is the document with empty elements in the place of the owner's parts. Without them, the text before and after a part
// would become one, and could mean something that neither of them does.
func (doc *document) host() []chunk {
	return doc.cut(func(p part) []byte { return []byte("<" + p.name + "/>") })
}

// cut is the document with something else in the place of each of the owner's parts.
func (doc *document) cut(other func(part) []byte) []chunk {
	list := make([]chunk, 0, 2*len(doc.parts)+1)
	from := doc.body
	for _, p := range doc.parts {
		list = append(list, doc.chunk(span{from, p.whole.start}), chunk{p.whole.start, other(p)})
		from = p.whole.end
	}
	return append(list, doc.chunk(span{from, len(doc.xml)}))
}

// tokens gives libvirtxml the elements and attributes that are libvirt's. libvirtxml looks at local names only, and would
// take <x:name> for <name>.
type tokens struct {
	*reader
	driver int // how deep the element of a driver is that the tokens are in, or 0
}

func (t *tokens) Token() (xml.Token, error) {
	for {
		k, err := t.next()
		if err != nil {
			return nil, err
		}
		switch k {
		case startElement:
			if t.driver == 0 && t.name.Space != "" {
				if !t.isDriver() {
					if err := t.skip(); err != nil {
						return nil, err
					}
					continue
				}
				t.driver = t.depth()
			}
			attr := slices.DeleteFunc(t.attr, func(a xml.Attr) bool { return a.Name.Space != "" })
			return xml.StartElement{Name: t.name, Attr: attr}, nil
		case endElement:
			if t.depth() < t.driver {
				t.driver = 0
			}
			return xml.EndElement{Name: t.name}, nil
		case charData:
			return xml.CharData(t.text), nil
		}
	}
}

// isDriver says whether the last start tag is what a driver of libvirt puts below <domain>.
func (t *tokens) isDriver() bool {
	if t.depth() != 2 || !strings.HasPrefix(t.name.Space, "http://libvirt.org/schemas/domain/") {
		return false
	}
	switch t.name.Local {
	case "commandline", "capabilities", "override", "deprecation", "namespace", "datacenterpath":
		return true
	}
	return false
}

// skip passes over the element whose start tag was the last token.
func (t *tokens) skip() error {
	for outer := t.depth() - 1; t.depth() > outer; {
		if _, err := t.next(); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	return nil
}
