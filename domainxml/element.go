package domainxml

import (
	"bytes"
	"encoding/xml"
)

// Element is an XML element and what is in it. Comments and processing instructions are left out.
type Element struct {
	// Name is the local name, Namespace the URI of its namespace or "".
	Name, Namespace string
	// Attributes maps the local name of an attribute, or {uri}name for one in a namespace, to its value. Declarations of
	// namespaces are left out. Never nil.
	Attributes map[string]string
	// Text is the element's own character data, that of its children left out, without the white space around it.
	Text string
	// Children are the elements in it, in the document's order. Never nil.
	Children []Element
}

// element reads the element whose start tag is the reader's last token.
func (r *reader) element() (Element, error) {
	e := Element{
		Name:       r.name.Local,
		Namespace:  r.name.Space,
		Attributes: make(map[string]string, len(r.attr)),
		Children:   []Element{},
	}
	for _, a := range r.attr {
		e.Attributes[key(a.Name)] = a.Value
	}
	var text []byte
	for {
		k, err := r.next()
		if err != nil {
			return Element{}, err
		}
		switch k {
		case startElement:
			child, err := r.element()
			if err != nil {
				return Element{}, err
			}
			e.Children = append(e.Children, child)
		case charData:
			if t := r.text; len(text) > 0 || len(bytes.TrimLeft(t, blanks)) > 0 {
				text = append(text, t...)
			}
		case endElement:
			e.Text = string(bytes.Trim(text, blanks))
			return e, nil
		}
	}
}

const blanks = " \t\r\n"

func key(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return "{" + n.Space + "}" + n.Local
}
