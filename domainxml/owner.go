package domainxml

import (
	"errors"
	"strings"
)

const (
	maxMetadata = 256 << 10 // bytes of the content of <metadata>
	maxText     = 24 << 20  // bytes in <title> or <description>: 4 MiB a call to libvirt, written as six each
	maxElements = 4000      // and attributes in <metadata>: a rule that visits each must end in time
)

// readOwner reads each of the owner's parts by itself, so that an error in one leaves the others
// readable.
func (d *Domain) readOwner() {
	var faults []error
	for i := range d.doc.parts {
		part := &d.doc.parts[i]
		var err error
		switch part.name {
		case "title":
			d.Title, err = d.doc.ownText(part)
		case "description":
			d.Description, err = d.doc.ownText(part)
		case "metadata":
			d.Metadata, err = d.doc.metadata(part)
		}
		if err != nil {
			part.unreadable = true
			faults = append(faults, err)
		}
	}
	d.MetadataErr = errors.Join(faults...)
}

func (doc *document) ownText(p *part) (string, error) {
	r, err := doc.open(p, maxText)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for {
		k, err := r.next()
		if err != nil {
			return "", err
		}
		switch k {
		case startElement:
			return "", r.fault(r.at, "an element where only text may be")
		case charData:
			text.WriteString(r.text)
		case endElement:
			return text.String(), nil
		}
	}
}

func (doc *document) metadata(p *part) ([]Element, error) {
	r, err := doc.open(p, maxMetadata)
	if err != nil {
		return nil, err
	}
	e, err := r.element()
	if err != nil {
		return nil, err
	}
	// A namespace is declared once and counted in every element that uses it.
	elements, size := weigh(e.Children)
	switch {
	case elements > maxElements:
		return nil, fault(doc.text, p.whole.start, "/domain/metadata", "%d elements and attributes; at most %d are read", elements, maxElements)
	case size > maxMetadata:
		return nil, fault(doc.text, p.whole.start, "/domain/metadata", "%d bytes when every name space is written out; at most %d are read", size, maxMetadata)
	}
	return e.Children, nil
}

// weigh returns the number of elements and attributes, and the bytes that they hold.
func weigh(list []Element) (elements, size int) {
	for _, e := range list {
		size += len(e.Name) + len(e.Namespace) + len(e.Text)
		for name, value := range e.Attributes {
			size += len(name) + len(value)
		}
		descendants, bytes := weigh(e.Children)
		elements, size = elements+1+len(e.Attributes)+descendants, size+bytes
	}
	return elements, size
}

// open returns a reader that has read the part's start tag, and before it the root's, which may
// declare the part's prefixes.
func (doc *document) open(p *part, limit int) (*reader, error) {
	if size := p.inner.end - p.inner.start; size > limit {
		return nil, fault(doc.text, p.whole.start, "/domain/"+p.name, "%d bytes; at most %d are read", size, limit)
	}
	r := newReader(doc.text, doc.chunk(doc.rootTag), doc.chunk(p.whole))
	for range 2 {
		if _, err := r.next(); err != nil {
			return nil, err
		}
	}
	if r.isPlainOnly = p.inner.end-p.inner.start > maxMetadata; r.isPlainOnly && r.dec != nil {
		return nil, fault(doc.text, p.whole.start, "/domain/"+p.name, "more than %d bytes in a document that is not written as libvirt does", maxMetadata)
	}
	return r, nil
}
