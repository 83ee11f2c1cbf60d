package domainxml

import (
	"encoding/xml"
	"strings"
)

// An Element is an XML element with its content, without comments and processing instructions.
type Element struct {
	// Name is the local name, Namespace the URI of its namespace or "".
	Name, Namespace string
	// Attributes maps an attribute's local name, or {uri}name in a namespace, to its value. It has
	// no namespace declarations, and is never nil.
	Attributes map[string]string
	// Text is the element's own character data, without that of its children and without the white
	// space around it.
	Text string
	// Children are the child elements in the document's order. It is never nil.
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
	var text string
	var more []byte // used if the text comes in several pieces
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
			switch {
			case more != nil:
				more = append(more, r.text...)
			case text != "":
				more = append([]byte(text), r.text...)
			case strings.TrimLeft(r.text, blanks) != "":
				text = r.text
			}
		case endElement:
			if more != nil {
				text = string(more)
			}
			e.Text = strings.Trim(text, blanks)
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
