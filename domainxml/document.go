package domainxml

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"libvirt.org/go/libvirtxml"
)

// document is the text that a Domain was parsed from. The rest of it is decoded on demand.
type document struct {
	text string
	layout
	libvirt lazy[*libvirtxml.Domain]
	tree    lazy[Element]
}

// lazy is a value that is computed on first use.
type lazy[T any] struct {
	once  sync.Once
	value T
	err   error
}

func (l *lazy[T]) get(make func() (T, error)) (T, error) {
	l.once.Do(func() { l.value, l.err = make() })
	return l.value, l.err
}

// Libvirt returns the whole document as libvirtxml's type, decoded once, without those of the
// owner's parts that cannot be read. Elements and attributes of other namespaces are left out,
// except those of libvirt's drivers such as <qemu:commandline>. The error says that libvirtxml
// cannot decode the document, or that Parse did not make the Domain.
func (d *Domain) Libvirt() (*libvirtxml.Domain, error) {
	if d.doc == nil {
		return nil, errors.New("domainxml: the domain was not read from XML; use Parse")
	}
	return d.doc.libvirt.get(d.doc.decode)
}

// Tree returns the whole document as elements, built once, without those of the owner's parts that
// cannot be read. It returns the zero Element if Parse did not make the Domain.
func (d *Domain) Tree() (Element, error) {
	if d.doc == nil {
		return Element{}, nil
	}
	return d.doc.tree.get(d.doc.elements)
}

func (doc *document) decode() (*libvirtxml.Domain, error) {
	d := new(libvirtxml.Domain)
	t := &tokens{reader: newReader(doc.text, doc.cut(func(p part) string {
		switch {
		case p.unreadable:
			return ""
		case p.name == "metadata":
			return "<metadata/>" // libvirtxml wants the bytes, which a token stream does not have
		}
		return doc.text[p.whole.start:p.whole.end]
	})...)}
	if err := xml.NewTokenDecoder(t).Decode(d); err != nil {
		return nil, fault(doc.text, doc.rootTag.start, "/domain", "libvirtxml: %v", err)
	}
	if i := slices.IndexFunc(doc.parts, func(p part) bool { return p.name == "metadata" }); i >= 0 && d.Metadata != nil {
		d.Metadata.XML = doc.text[doc.parts[i].inner.start:doc.parts[i].inner.end]
	}
	return d, nil
}

func (doc *document) elements() (Element, error) {
	r := newReader(doc.text, doc.cut(func(p part) string {
		if p.unreadable {
			return ""
		}
		return doc.text[p.whole.start:p.whole.end]
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

func (doc *document) chunk(s span) chunk { return chunk{s.start, doc.text[s.start:s.end]} }

// host returns the document with empty elements in place of the owner's parts. Otherwise the text
// before and after a part would join and could mean something else.
func (doc *document) host() []chunk {
	return doc.cut(func(p part) string { return "<" + p.name + "/>" })
}

// cut returns the document with each of the owner's parts replaced.
func (doc *document) cut(other func(part) string) []chunk {
	list := make([]chunk, 0, 2*len(doc.parts)+1)
	from := doc.body
	for _, p := range doc.parts {
		list = append(list, doc.chunk(span{from, p.whole.start}), chunk{p.whole.start, other(p)})
		from = p.whole.end
	}
	return append(list, doc.chunk(span{from, len(doc.text)}))
}

// tokens passes libvirt's own elements and attributes to libvirtxml, which looks at local names
// only and would take <x:name> for <name>.
type tokens struct {
	*reader
	driver int // the depth of the enclosing element of a driver, or 0
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
			attr := slices.DeleteFunc(slices.Clone(t.attr), func(a xml.Attr) bool { return a.Name.Space != "" })
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

// isDriver reports whether the last start tag is an element of a libvirt driver below <domain>.
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

// skip skips the element whose start tag was the last token.
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
